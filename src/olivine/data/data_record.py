"""What made a folder in the nuScenes layout, where it was made of somebody's own log: `<version>/olivine.json`.

The tables of the layout have no place for the range of intensities, for poses that nobody knows, or for point files
with other columns than the official five. `olivine convert` writes them here, beside the tables, and
`olivine.data.nuscenes` honours them. Tables without such a file are read as the official ones are; beside tables of
your own that differ in this you may write one yourself, with the keys that differ: {"intensity_max": 1.0}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
from pydantic import Field, field_validator, model_validator

from olivine import __version__
from olivine.config import Config, validate
from olivine.errors import UserError
from olivine.files import write_json
from olivine.reading import TEXT_BYTES, read_file

RECORD = "olivine.json"
"""Name of the file, in the folder of tables."""

OFFICIAL_COLUMNS = ("x", "y", "z", "intensity", "ring")
"""What the float32 columns of an official LiDAR file are."""

Poses = Literal["odometry", "tf", "file", "kiss-icp", "unknown"]
"""Where the poses of the vehicle are from; `file`: they came with the data; `unknown`: the tables' mean
nothing."""


class DataRecord(Config):
    """What `olivine.json` says of the tables beside it."""

    format: Literal[1] = 1
    """Version of this file's keys."""

    olivine: str = __version__
    """Version of olivine that wrote the folder."""

    source: str = ""
    """What the folder was made of, for people."""

    intensity_max: float | None = Field(default=255.0, gt=0, allow_inf_nan=False)
    """Top of the range of intensities, 0…`intensity_max`, in the units of the point files; null: the clouds have no
    intensity, and the column, where there is one, means nothing."""

    intensity_from: Literal["measured", "told", "none"] = "told"
    """How the range came to be known: measured over the log, told by its recipe; `none` where there is no intensity."""

    poses: Poses = "file"
    """Where the poses of the vehicle are from."""

    columns: tuple[str, ...] = OFFICIAL_COLUMNS
    """What the float32 columns of the LiDAR files are: `x`, `y`, `z` first, then any, `intensity` among them where
    there is one."""

    sensors: tuple[str, ...] = ()
    """The LiDARs that a cloud was merged from, in the order of the numbers that say which one a point is of; none
    where there is one LiDAR."""

    settings: dict[str, Any] = Field(default_factory=dict)
    """The recipe that was followed, for people and to be followed again."""

    @field_validator("columns")
    @classmethod
    def _coordinates_first(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        if columns[:3] != ("x", "y", "z"):
            raise ValueError("the first three columns are x, y, z")
        if len(set(columns)) != len(columns):
            raise ValueError("each column stands once")
        return columns

    @model_validator(mode="after")
    def _intensity_where_it_is_said(self) -> DataRecord:
        if self.intensity_max is not None and "intensity" not in self.columns:
            raise ValueError("intensity_max is given, but no column is called intensity")
        if (self.intensity_max is None) != (self.intensity_from == "none"):
            raise ValueError("intensity_from is none where intensity_max is null, and there only")
        return self


def read_data_record(tables: Path) -> DataRecord | None:
    """The record of a folder of tables; None where it has none, as the official ones.

    Args:
        tables: the version folder, e.g. `<root>/v1.0-trainval`.

    Raises:
        UserError: there is one, and it is not valid.
    """
    path = tables / RECORD
    if not path.exists():
        return None
    content = read_file(path, "this record", limit=TEXT_BYTES)
    try:
        tree = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: cannot read this record ({error})") from error
    return validate(DataRecord, tree, str(path))


def write_data_record(tables: Path, record: DataRecord) -> None:
    """Write the record of a folder of tables, whole or not at all.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    write_json(tables / RECORD, record.model_dump(mode="json"))
