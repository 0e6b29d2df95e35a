"""Bare scans as a source: one file, or a folder of them, without calibration, times or labels."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.data.frame import Frame
from olivine.data.shards import Shard
from olivine.errors import UserError
from olivine.inference import Model
from olivine.prediction.intensity import LOOKED_AT, find_top
from olivine.prediction.sources import Moment, Reading, Source
from olivine.scans import SUFFIXES, ScanColumns, find_columns, read_scan
from olivine.visualize.projection import spread


class ScanSource(Source):
    """Files of clouds, in the order of their names. Rows without a return are given to no network.

    Args:
        root: a folder, or one file.
        columns: what their columns are; where they are not told, all `.bin` files together say it, or none does.
        every: take every n-th file, the first one first.
        intensity_max: top of the range of intensities; None measures it over some files.
        model: the network that they are for.

    Raises:
        UserError: there is no file of a cloud, two would share the name of their predictions, or the columns or
            the range of intensities are not known for certain.
    """

    kind = "scans"

    def __init__(self, root: Path, columns: ScanColumns, every: int, intensity_max: float | None, model: Model) -> None:
        paths = scan_files(root)
        if not paths:
            raise UserError(f"{root}: no scans in this folder; those end in {', '.join(SUFFIXES)}")
        bare = [path for path in paths if path.suffix.lower() == ".bin"]
        if bare and not columns.names:
            columns = columns.model_copy(update={"names": find_columns(bare).names})
        self._root, self._columns, self._every = root, columns, every
        above = root if root.is_dir() else root.parent
        self._files = [(path.relative_to(above).with_suffix("").as_posix(), path) for path in paths][::every]
        _refuse_shared(self._files)
        self._top = find_top(self._some(), model, str(root)) if intensity_max is None else intensity_max

    def __len__(self) -> int:
        return len(self._files)

    def moments(self, shard: Shard) -> Generator[Moment]:
        """The scans of a share, named by their files without the endings."""
        for place in shard.frames(len(self._files)):
            name, path = self._files[place]
            yield Moment(place, name, partial(self._read, name, path))

    def _some(self) -> Iterator[tuple[NDArray[np.float32] | None, str | None]]:
        """The intensities of some files, spread evenly; those that cannot be read are passed over."""
        for place in spread(len(self._files), LOOKED_AT):
            with suppress(UserError):
                scan = read_scan(self._files[place][1], self._columns).without_gaps()
                yield scan.intensity, scan.intensity_type

    def _read(self, name: str, path: Path) -> Reading:
        scan = read_scan(path, self._columns)
        returned = scan.returns()
        if not returned.any():
            raise UserError(f"{path}: none of its {len(scan)} rows is a return; there is nothing to predict")
        kept = scan.without_gaps()
        frame = Frame(
            token=name,
            scene=path.parent.name,
            points_lidar_m=kept.points_m,
            intensity=kept.intensity,
            intensity_max=self._top,
            timestamp_us=(scan.stamp_ns or 0) // 1000,
        )
        return Reading(frame, None if returned.all() else np.asarray(returned), scan.origin_m)

    @property
    def settings(self) -> dict[str, Any]:
        """Columns, range of intensities and how files were thinned out."""
        columns = self._columns.model_dump(mode="json")
        return {"columns": columns, "intensity_max": self._top, "every": self._every}

    def __str__(self) -> str:
        return str(self._root)


def scan_files(root: Path) -> list[Path]:
    """The file, or all files of clouds below a folder by name; hidden ones are none."""
    if root.is_file():
        return [root] if root.suffix.lower() in SUFFIXES else []
    found = []
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        found += [Path(folder) / name for name in names if not name.startswith(".") and _is_scan(name)]
    return sorted(found)


def _is_scan(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _refuse_shared(files: Sequence[tuple[str, Path]]) -> None:
    """Refuse files whose predictions would have one name, on disks that take capitals for small letters too."""
    seen: dict[str, Path] = {}
    for name, path in files:
        other = seen.setdefault(name.casefold(), path)
        if other != path:
            raise UserError(f"{other} and {path} would share the name of their predictions; give one kind of file")
