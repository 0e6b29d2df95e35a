"""LAS 1.0 to 1.4 and its compressed form LAZ, the surveyors' format, through laspy.

https://www.asprs.org/wp-content/uploads/2019/07/LAS_1_4_r15.pdf. Whatever sizes the file claims are held against what
it has before laspy follows them.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.errors import MissingExtraError, UserError, printable
from olivine.reading import SCAN_BYTES, read_file
from olivine.scans.columns import ScanColumns
from olivine.scans.records import scan_from_records
from olivine.scans.scan import Scan
from olivine.scans.tables import MAX_POINTS, refuse_too_many

MAX_RAW = 2 * SCAN_BYTES
"""No cloud has more bytes when it is no longer compressed."""

_LEAST_HEADER, _VLR_HEADER = 227, 54
_ANY_SIZE = 0xFFFFFFFF
"""Said of chunks whose sizes differ."""

_STORED = ("X", "Y", "Z")


def read_las(path: Path, columns: ScanColumns) -> Scan:
    """Read a LAS or LAZ file; see `olivine.scans.files.read_scan`. Coordinates are scaled in float64.

    Raises:
        UserError: as of `read_scan`; MissingExtraError where laspy is not installed.
    """
    content, source = read_file(path, "this cloud"), str(path)
    points = _points_of(content, source)
    names = [name for name in points.point_format.dimension_names if name not in _STORED]
    with np.errstate(over="ignore", invalid="ignore"):  # a broken scale makes no points, and is seen by that
        parts: dict[str, NDArray[Any]] = {axis: np.asarray(points[axis], np.float64) for axis in "xyz"}
    notes = []
    for name in names:
        values = np.asarray(points[name])
        if name in ("intensity", "gps_time") and len(values) and not values.any():
            notes.append(f"{name} is left out: it is 0 in every point, as where it was not recorded")
        elif name not in parts:
            parts[name] = values
    records = np.empty(len(points), [(name, part.dtype, part.shape[1:]) for name, part in parts.items()])
    for name, part in parts.items():
        records[name] = part
    return scan_from_records(records, source, columns=_with_clock(columns), notes=tuple(notes))


def _with_clock(columns: ScanColumns) -> ScanColumns:
    """GPS time is in seconds by the format; of a week or of its own epoch, which scans do not need."""
    if columns.time not in (None, "gps_time"):
        return columns
    return columns.model_copy(
        update={"time_unit": columns.time_unit or "s", "time_origin": columns.time_origin or "first"}
    )


def _points_of(content: bytes, source: str) -> Any:
    """Laspy's record of all points."""
    packed = _refuse_claims(content, source)
    try:
        import laspy
    except ImportError as error:
        raise MissingExtraError("laspy", "logs") from error
    try:
        with laspy.open(io.BytesIO(content), read_evlrs=False, laz_backend=laspy.LazBackend.Lazrs) as reader:
            if packed:
                _refuse_compression(content, reader.header, source)
            if not (np.isfinite([*reader.header.scales, *reader.header.offsets]).all() and reader.header.scales.all()):
                raise UserError(f"{source}: broken header: its coordinates are scaled by {reader.header.scales}")
            points = reader.read_points(-1)
    except UserError:
        raise
    except Exception as error:  # laspy and lazrs raise errors of many kinds where bytes make no sense
        raise UserError(f"{source}: cannot read this LAS file ({printable(error)[:200]})") from error
    if len(points) != reader.header.point_count:
        raise UserError(f"{source}: truncated: {reader.header.point_count} points are due, and {len(points)} follow")
    return points


def _refuse_claims(content: bytes, source: str) -> bool:
    """Hold the sizes that a header claims against the file; returns whether its points are compressed."""
    if content[:4] != b"LASF" or len(content) < _LEAST_HEADER:
        raise UserError(f"{source}: broken header: it is no LAS file, or is cut off")
    size, start, records, form, row, points = struct.unpack_from("<HIIBHI", content, 94)
    if content[25] >= 4 and len(content) >= 255:
        points = max(points, struct.unpack_from("<Q", content, 247)[0])
    refuse_too_many(points, source)
    packed = bool(form & 0xC0)
    if points * row > MAX_RAW:
        raise UserError(f"{source}: its header claims {points} points of {row} bytes, more than any scan has")
    if not _LEAST_HEADER <= size <= start <= len(content) or records * _VLR_HEADER > start - size:
        raise UserError(f"{source}: broken header: {records} records between bytes {size} and {start} do not fit")
    if not packed and start + points * row > len(content):
        raise UserError(
            f"{source}: truncated: {points} points of {row} bytes are due behind byte {start}, and "
            f"{len(content) - start} bytes follow"
        )
    return packed


def _refuse_compression(content: bytes, header: Any, source: str) -> None:
    """Hold what the record of LASzip claims against the file: bytes of a point, and the number of chunks."""
    found = [record for record in header.vlrs if record.record_id == 22204]
    data = bytes(found[0].record_data) if found else b""
    items = struct.unpack_from("<H", data, 32)[0] if len(data) >= 34 else 0
    if not items or len(data) < 34 + 6 * items:
        raise UserError(f"{source}: its points are compressed, and the record that says how is missing or broken")
    row = sum(struct.unpack_from("<H", data, 36 + 6 * place)[0] for place in range(items))
    if row != header.point_format.size:
        raise UserError(f"{source}: its points have {header.point_format.size} bytes, and {row} are compressed of each")
    start = header.offset_to_point_data
    (table,) = struct.unpack_from("<q", content, start) if len(content) >= start + 8 else (-1,)
    if table == -1:
        (table,) = struct.unpack_from("<q", content, len(content) - 8)
    if not start < table <= len(content) - 8:
        raise UserError(f"{source}: truncated: the table of its compressed chunks is not in it")
    (chunks,) = struct.unpack_from("<I", content, table + 4)
    (size,) = struct.unpack_from("<I", data, 12)
    held = chunks * (size if size != _ANY_SIZE else MAX_POINTS)
    if chunks > min(max(header.point_count, 1), len(content)) or header.point_count > held:
        raise UserError(f"{source}: claims {header.point_count} points in {chunks} compressed chunks, which cannot be")
