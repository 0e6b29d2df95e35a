"""The nuScenes v1.0 tables as rows, read as a stream.

The tables are JSON arrays of objects; those of the full dataset reach 1.3 GB and 2.6 million rows. `read_table` hands
out a few hundred typed rows at a time, so that memory stays small whatever the table's size, and only the fields
that this package uses are ever turned into Python objects. Rows go to `nuscenes_index`.

Format: https://github.com/nutonomy/nuscenes-devkit/blob/master/docs/schema_nuscenes.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from olivine.errors import UserError
from olivine.reading import opened

# Small enough for the text and its rows to stay in the processor's cache: twice as fast as 4 MB.
CHUNK_BYTES = 256 << 10

_ROW_LIMIT_BYTES = 64 << 20
_MISSING = "missing table; the version folder must hold the nuScenes v1.0 tables"
_LIKELY_CUT = re.compile(rb".*\}\s*(,)\s*\{", re.DOTALL)
_STRING_OR_PUNCTUATION = re.compile(rb'"(?:[^"\\]|\\.?)*(?:"|\Z)|[{}\[\],]', re.DOTALL)

Vector3 = tuple[float, float, float]
Rotation = list[float | Vector3]
"""Four numbers, a quaternion (w, x, y, z), as the format has it; or the three rows of a matrix, as others write it."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """Base of the row types: the fields of a table that are read; all others are skipped."""

    token: str


class Scene(Row, frozen=True, gc=False):
    """A recording of 20 s."""

    name: str


class Sample(Row, frozen=True, gc=False):
    """A keyframe: one annotated moment of a scene."""

    scene_token: str
    timestamp: int


class SampleData(Row, frozen=True, gc=False):
    """One reading of one sensor; `filename` is below the dataset's root, sizes are 0 or null but for images."""

    sample_token: str
    calibrated_sensor_token: str
    timestamp: int
    is_key_frame: bool
    filename: str
    ego_pose_token: str | None = None
    width: int | None = None
    height: int | None = None


class EgoPose(Row, frozen=True, gc=False):
    """`global_from_ego` at the moment of a reading; left as JSON text, since few of the rows are ever used."""

    rotation: msgspec.Raw
    translation: msgspec.Raw


class CalibratedSensor(Row, frozen=True, gc=False):
    """`ego_from_sensor` of one sensor of one vehicle, and its camera matrix (empty but for cameras)."""

    sensor_token: str
    translation: Vector3
    rotation: Rotation
    camera_intrinsic: list[Vector3] = []


class Sensor(Row, frozen=True, gc=False):
    """A sensor's channel, e.g. `LIDAR_TOP`, and its kind: `camera`, `lidar` or `radar`."""

    channel: str
    modality: str = ""


class LidarSeg(Row, frozen=True, gc=False):
    """The file of point labels of one LiDAR reading."""

    sample_data_token: str
    filename: str


class Annotation(Row, frozen=True, gc=False):
    """A box in the global frame; `size` is (width, length, height) in metres."""

    sample_token: str
    instance_token: str
    translation: Vector3
    size: Vector3
    rotation: Rotation


class Instance(Row, frozen=True, gc=False):
    """One object, followed through a scene."""

    category_token: str


class Category(Row, frozen=True, gc=False):
    """What an object is, e.g. `vehicle.car`; `index` is its raw label, in editions with lidarseg."""

    name: str
    index: int | None = None


R = TypeVar("R", bound=Row)


def read_table(path: Path, kind: type[R], *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[list[R]]:
    """Stream a table in any JSON layout (pretty-printed or compact).

    Args:
        path: the JSON file, an array of objects.
        kind: the row type.
        chunk_bytes: how much is read at a time.

    Yields:
        Consecutive rows, a chunk at a time, in file order.

    Raises:
        UserError: the file is missing or not a valid table, or a row lacks a field of `kind`.
    """
    decoder = msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
    try:
        with opened(path, "this table", missing=_MISSING) as file:
            # The buffer always starts at a row (or at the end of the array), and the array's opening bracket is put
            # back before each decoding.
            buffer = file.read(chunk_bytes).lstrip()
            if not buffer.startswith(b"["):
                raise UserError(f"{path}: not a nuScenes table (a JSON array of objects); is the file complete?")
            buffer = buffer[1:]
            while more := file.read(chunk_bytes):
                rows, buffer = _decode_whole_rows(decoder, buffer)
                if rows:
                    yield rows
                if len(buffer) > _ROW_LIMIT_BYTES:
                    raise UserError(f"{path}: damaged: no row ends within {len(buffer)} bytes; copy the file again")
                buffer += more
            yield decoder.decode(b"[" + buffer)
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: not a nuScenes v1.0 table ({error})") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise UserError(f"{path}: damaged or incomplete JSON ({error}); copy the file again") from error


def _decode_whole_rows(decoder: msgspec.json.Decoder[list[R]], buffer: bytes) -> tuple[list[R], bytes]:
    """Decode the rows that end in the buffer; returns them and the rest, which starts at a row.

    A cut between `}` and `{` is guessed from the text alone. It may fall into a string or a nested object, but then
    the piece is not valid JSON, for whether an array may be closed at a place depends only on the text before it. So
    a guess that decodes is right, and one that does not is replaced by the cut that a scan of the text finds.
    """
    guess = _LIKELY_CUT.match(buffer)
    if guess is None:
        return [], buffer
    cut = guess.start(1)
    try:
        return decoder.decode(b"[" + buffer[:cut] + b"]"), buffer[cut + 1 :]
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        cut = _last_row_end(buffer)
        return (decoder.decode(b"[" + buffer[:cut] + b"]"), buffer[cut + 1 :]) if cut > 0 else ([], buffer)


def _last_row_end(buffer: bytes) -> int:
    """Offset of the last comma that stands outside every string, object and array; -1 where there is none."""
    depth, cut = 0, -1
    for token in _STRING_OR_PUNCTUATION.finditer(buffer):
        first = token[0][:1]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
        elif first == b"," and depth == 0:
            cut = token.start()
    return cut
