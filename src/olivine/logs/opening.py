"""`open_log`: what a path is taken for, and its log."""

from __future__ import annotations

from pathlib import Path

from olivine.errors import UserError
from olivine.logs.log import Log
from olivine.logs.sources.bag import BagLog
from olivine.logs.sources.folder import FolderLog
from olivine.logs.sources.kitti_raw import KittiRawLog
from olivine.logs.sources.rellis3d import RellisLog

SOURCES: tuple[type[Log], ...] = (BagLog, KittiRawLog, RellisLog, FolderLog)
"""Every kind of log, the more particular ones first."""


def recognise(path: Path) -> type[Log] | None:
    """The kind of log that a path is, by names of files alone; None where it is none that is known."""
    return next((kind for kind in SOURCES if kind.recognise(path)), None)


def open_log(path: Path) -> Log:
    """Open a log of any known kind.

    Args:
        path: a bag (`.bag`, `.db3`, `.mcap`, or a folder of such), or a folder of another known kind.

    Returns:
        The log, a context manager; its `form` says what it was taken for.

    Raises:
        UserError: missing, of no known kind, or damaged.
        MissingExtraError: a library that it needs is not installed (extra `logs`).
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such log")
    kind = recognise(path)
    if kind is None:
        raise UserError(
            f"{path}: no log recognised; a log is a bag (.bag, .db3, .mcap or a folder of such), a folder of scans "
            "(.pcd, .bin, .ply, .las, .laz, .npy) with images and a calibration, a drive of KITTI raw, or RELLIS-3D"
        )
    return kind(path)
