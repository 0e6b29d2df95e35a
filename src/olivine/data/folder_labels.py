"""What is known about the scans of a folder beside their points: labels, boxes and poses, from plain files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from olivine.calibration import Trajectory, trajectory
from olivine.data.file_times import time_of_number
from olivine.data.frame import Boxes
from olivine.data.scan_folders import read_label_file
from olivine.errors import UserError
from olivine.geometry import rigid_transform
from olivine.reading import SCAN_BYTES, TEXT_BYTES, opened, read_file

_KITTI, _TUM, _BOX = 12, 8, 8


def labels_of(folder: Path, name: str) -> Path | None:
    """The file of a scan's labels, `NAME.label` or `NAME.npy`; None where there is none."""
    return next((path for path in (folder / f"{name}.label", folder / f"{name}.npy") if path.exists()), None)


def read_raw_labels(path: Path, rows: int) -> NDArray[np.integer]:
    """[rows] raw labels of the rows of a scan, 0…65535.

    Raises:
        UserError: missing or damaged, of another length, no integers, or beyond that range.
    """
    if path.suffix != ".npy":
        return read_label_file(path, rows)
    with opened(path, "these labels", limit=SCAN_BYTES):
        pass  # a regular file of plausible size
    try:
        # Mapped, so that a header that claims more than the file holds takes no memory.
        values = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError, OverflowError, SyntaxError) as error:
        raise UserError(f"{path}: cannot read these labels ({error})") from error
    if values.shape != (rows,) or values.dtype.kind not in "iu":
        found = f"{values.dtype} {list(values.shape)}"
        raise UserError(f"{path}: labels are {rows} integers, one for each row of the scan; this file holds {found}")
    if len(values) and not (values.min() >= 0 and values.max() <= 65535):
        raise UserError(f"{path}: labels lie in 0…65535, these in {values.min()}…{values.max()}")
    return np.array(values)


def read_boxes(path: Path) -> Boxes:
    """The boxes of a scan: a line for each, name x y z dx dy dz yaw.

    Raises:
        UserError: missing, or a line that is none.
    """
    names, rows = [], []
    text = read_file(path, "these boxes", limit=TEXT_BYTES).decode("utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        try:
            values = [float(word) for word in words[1:]]
        except ValueError:
            values = []
        if len(words) != _BOX or not np.isfinite(values).all() or not values:
            raise UserError(f"{path}: line {number}: a box is name x y z dx dy dz yaw, this is {' '.join(words[:9])!r}")
        names.append(words[0])
        rows.append(values)
    return Boxes(np.array(rows, np.float64).reshape(-1, 7), tuple(names))


def read_poses(path: Path, scans: int) -> NDArray[np.float64] | Trajectory:
    """The poses of a folder.

    Args:
        path: twelve numbers a line, one for each scan in order: the first three rows of global_from_lidar; or eight,
            time x y z qx qy qz qw, time in seconds, milliseconds, microseconds or nanoseconds.
        scans: how many scans there are.

    Returns:
        [scans, 4, 4] float64 global_from_lidar, metres; or the poses over time.

    Raises:
        UserError: neither, no rigid transforms, or fewer lines than scans.
    """
    lines = [line.split() for line in _lines(path)]
    widths = {len(line) for line in lines}
    try:
        values = np.array([line[1:] if widths == {_TUM} else line for line in lines], np.float64)
    except ValueError as error:
        raise UserError(f"{path}: a line of poses has twelve numbers, or time and seven ({error})") from error
    if not np.isfinite(values).all():
        raise UserError(f"{path}: a pose holds numbers that are not finite")
    if widths == {_TUM}:
        times = [time_of_number(line[0]) for line in lines]
        if None in times:
            raise UserError(f"{path}: line {times.index(None) + 1} begins with no time")
        poses = [rigid_transform(row[[6, 3, 4, 5]], row[:3]) for row in values]
        return trajectory([time or 0 for time in times], poses, str(path))
    if widths != {_KITTI}:
        raise UserError(f"{path}: a line of poses has twelve numbers, or time and seven; these have {sorted(widths)}")
    if len(lines) < scans:
        raise UserError(f"{path}: {len(lines)} poses for {scans} scans; a line for each scan, in their order")
    rows = values[:scans].reshape(-1, 3, 4)
    off = np.abs(np.swapaxes(rows[:, :, :3], 1, 2) @ rows[:, :, :3] - np.eye(3)).max(axis=(1, 2)) > 1e-2
    if off.any():
        raise UserError(f"{path}: line {int(off.argmax()) + 1} is no pose: its rotation is none")
    found = np.tile(np.eye(4), (scans, 1, 1))
    found[:, :3] = rows
    return found


def _lines(path: Path) -> list[str]:
    text = read_file(path, "these poses", limit=TEXT_BYTES).decode("utf-8", errors="replace")
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
