"""Files of bare rows: .bin, float32 without any header, as KITTI, nuScenes and many loggers write them, and .npy."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.errors import UserError, printable
from olivine.reading import opened, read_file
from olivine.scans.columns import ScanColumns
from olivine.scans.folding import COUNTS, LEAST, tell_columns
from olivine.scans.records import scan_from_records
from olivine.scans.scan import Scan
from olivine.scans.tables import refuse_too_many

USUAL = ("x", "y", "z", "intensity")
"""What the first columns are in every dataset that is known to have such files; what follows differs."""


def read_bin(path: Path, columns: ScanColumns) -> Scan:
    """Read a file of float32 rows; see `olivine.scans.files.read_scan`."""
    content, source = read_file(path, "this cloud"), str(path)
    if columns.names:
        return _scan(_folded(content, len(columns.names), source), columns, source)
    rows = _folded(content, _count_of(content, [len(content)], source), source)
    names = name_columns(rows)
    notes = (f"columns of float32, told from size and content: {', '.join(names)}",)
    return _scan(rows, columns.model_copy(update={"names": names}), source, notes)


def read_npy(path: Path, columns: ScanColumns) -> Scan:
    """Read an array of numpy: [N, C] numbers, [H, W, C], or [N] records; see `olivine.scans.files.read_scan`."""
    content, source = read_file(path, "this cloud"), str(path)
    array = _array(content, source)
    if array.dtype.names:
        return scan_from_records(array.reshape(-1), source, columns=columns)
    if array.ndim not in (2, 3) or array.dtype.kind not in "fiu":
        raise UserError(
            f"{source}: holds {array.dtype} of shape {array.shape}; a cloud is [N, C] numbers or [N] records"
        )
    rows = array.reshape(-1, array.shape[-1])
    if columns.names:
        return _scan(rows, columns, source)
    if rows.shape[1] not in COUNTS:
        raise UserError(
            f"{source}: holds {rows.shape[1]} columns; say what they are, e.g. names: [x, y, z, intensity, _]"
            + ("; or turn it over, should points be its columns" if rows.shape[0] in COUNTS else "")
        )
    names = name_columns(rows)
    notes = (f"columns, told from their number and content: {', '.join(names)}",)
    return _scan(rows, columns.model_copy(update={"names": names}), source, notes)


def find_columns(paths: Sequence[Path]) -> ScanColumns:
    """The columns that all .bin files of a folder have, from all their sizes and the content of a few.

    Raises:
        UserError: they are not known for certain; the message says what to write.
    """
    sizes = []
    for path in paths:
        with opened(path, "this cloud") as file:
            sizes.append(file.seek(0, io.SEEK_END))
    full = sorted((place for place, size in enumerate(sizes) if size), key=lambda place: (-sizes[place], place))
    if not full:
        raise UserError(f"{paths[0] if paths else 'no files'}: no cloud has any points")
    path = paths[full[0]]
    content = read_file(path, "this cloud")
    count = _count_of(content, sizes, str(path))
    return ScanColumns(names=name_columns(_folded(content, count, str(path))))


def name_columns(rows: NDArray[Any]) -> tuple[str, ...]:
    """Names of 3 to 6 columns [N, C]: x, y, z, intensity; then `ring`, where the numbers show it, or `_`."""
    names = [*USUAL, "_", "_"][: rows.shape[1]]
    if len(names) > 4 and _is_ring(rows):
        names[4] = "ring"
    return tuple(names)


def _count_of(content: bytes, sizes: Sequence[int], source: str) -> int:
    """The number of columns that all sizes fit, by the content of one file where several do."""
    fits = [count for count in COUNTS if all(size % (4 * count) == 0 for size in sizes)]
    numbers = np.frombuffer(content, "<f4", count=len(content) // 4)
    told = tell_columns(numbers, fits) if fits else None
    if told is not None:
        return told
    if len(fits) == 1 and len(numbers) < LEAST:
        return fits[0]  # so few points that their content tells nothing
    said = f"fit {', '.join(map(str, fits))} columns" if fits else "fit none of 3 to 6 columns"
    other = tell_columns(numbers)
    likely = f", and the content is that of {other}, cut off" if other is not None else ""
    raise UserError(
        f"{source}: its {len(content)} bytes {said} of float32{likely}; say which it has, "
        "e.g. names: [x, y, z, intensity]"
    )


def _folded(content: bytes, count: int, source: str) -> NDArray[np.float32]:
    if len(content) % (4 * count):
        raise UserError(
            f"{source}: truncated, or of other columns: {len(content)} bytes are no whole number of rows of {count} "
            "float32"
        )
    return np.frombuffer(content, "<f4").reshape(-1, count)


def _scan(rows: NDArray[Any], columns: ScanColumns, source: str, notes: tuple[str, ...] = ()) -> Scan:
    """The scan of plain rows [N, C] whose columns are named."""
    names = columns.names
    if len(names) != rows.shape[1]:
        raise UserError(f"{source}: has {rows.shape[1]} columns, and {len(names)} are named: {', '.join(names)}")
    refuse_too_many(len(rows), source)
    shown = [f"_{place}" if name == "_" else name for place, name in enumerate(names)]
    if len(set(shown)) < len(shown) or not all(shown):
        raise UserError(f"{source}: the names of columns {', '.join(names)} are not each one's own")
    kind = np.dtype([(name, rows.dtype) for name in shown])
    records = np.ascontiguousarray(rows).view(kind)
    return scan_from_records(records.reshape(-1), source, columns=columns, notes=notes)


def _is_ring(rows: NDArray[Any]) -> bool:
    """Whether the fifth column is the beam: whole numbers, each at its own elevation."""
    points, ring = rows[:, :3].astype(np.float64), rows[:, 4]
    distance = np.linalg.norm(points, axis=1)
    returned = np.isfinite(distance) & (distance > 0)
    if returned.sum() < 128 or not ((ring >= 0) & (ring < 1024) & (ring == np.floor(ring))).all():
        return False
    far = returned & (distance >= np.median(distance[returned]))  # near the sensor, its parts stand apart
    beam = ring[far].astype(np.int64)
    elevation = np.arcsin(points[far, 2] / distance[far])
    count = np.bincount(beam)
    mean = np.bincount(beam, elevation) / np.maximum(count, 1)
    return int((count > 0).sum()) > 3 and float(np.var(elevation - mean[beam])) < 0.05 * float(np.var(elevation))


def _array(content: bytes, source: str) -> NDArray[Any]:
    """The array of a .npy file, without copying it; never one of Python objects, which are pickled."""
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, turned, dtype = read(file)
    except Exception as error:  # numpy parses the header as Python, which fails in many ways
        raise UserError(f"{source}: no array of numpy ({printable(error)[:200]})") from error
    if dtype.hasobject:
        raise UserError(f"{source}: holds Python objects, which can run code when they are read; save plain numbers")
    size = dtype.itemsize
    for length in shape:
        size *= length
    if size != len(content) - file.tell() or not dtype.itemsize:
        raise UserError(
            f"{source}: truncated, or broken header: {dtype} of shape {shape} are {size} bytes, and "
            f"{len(content) - file.tell()} follow"
        )
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape, order="F" if turned else "C")
