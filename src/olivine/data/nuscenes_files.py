"""The files that the nuScenes tables name: LiDAR sweeps and point labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from olivine.data.beams import ring_column
from olivine.data.data_record import OFFICIAL_COLUMNS, RECORD
from olivine.data.scan_points import ScanPoints, points_of
from olivine.errors import UserError
from olivine.reading import read_file
from olivine.scans import read_scan


def read_sweep(path: Path, columns: tuple[str, ...], *, intensity: bool) -> ScanPoints:
    """Read a LiDAR sweep.

    Args:
        path: bare float32 rows (`.bin`, as the official `.pcd.bin`), whose every row is a point; or a file of any other
            format of `olivine.scans`, without the rows that are no return.
        columns: what the columns of bare rows are, x, y, z first.
        intensity: whether there is one.

    Raises:
        UserError: missing, truncated or damaged; or intensities are due and the file has none.
    """
    if path.suffix.lower() != ".bin":
        found = points_of(read_scan(path))
        if intensity and found.intensity is None:
            raise UserError(f"{path}: has no intensity; say so by intensity_max null in {RECORD} beside the tables")
        return found if intensity else replace(found, intensity=None)
    rows = _rows(path, columns)
    column = np.ascontiguousarray(rows[:, columns.index("intensity")]) if intensity else None
    rings = ring_column(rows[:, columns.index("ring")]) if "ring" in columns else None
    return ScanPoints(np.ascontiguousarray(rows[:, :3]), column, rings=rings)


def read_point_labels(path: Path, points: int) -> NDArray[np.uint8]:
    """[points] uint8 raw lidarseg labels of the rows of a sweep."""
    raw = _read_bytes(path, "label file")
    if len(raw) != points:
        raise UserError(f"{path}: {len(raw)} labels for a sweep of {points} points; one byte a point is needed")
    return np.frombuffer(raw, np.uint8)


def _rows(path: Path, columns: tuple[str, ...]) -> NDArray[np.float32]:
    raw = _read_bytes(path, "LiDAR sweep")
    if len(raw) % (4 * len(columns)):
        other = f"; if its columns are others than {', '.join(columns)}, list them in {RECORD} beside the tables"
        raise UserError(
            f"{path}: truncated sweep: {len(raw)} bytes are no multiple of {4 * len(columns)} a point"
            f"{other if columns == OFFICIAL_COLUMNS else ''}"
        )
    return np.frombuffer(raw, "<f4").astype(np.float32, copy=False).reshape(-1, len(columns))


def _read_bytes(path: Path, what: str) -> bytes:
    return read_file(
        path, f"this {what}", missing=f"missing {what} that the tables name; unpack all parts of the dataset"
    )
