"""`read_scan`: a file of one cloud, by its suffix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from olivine.errors import UserError
from olivine.scans.columns import ScanColumns
from olivine.scans.las import read_las
from olivine.scans.pcd import read_pcd
from olivine.scans.ply import read_ply
from olivine.scans.rows import read_bin, read_npy
from olivine.scans.scan import Scan

_READERS: dict[str, Callable[[Path, ScanColumns], Scan]] = {
    ".pcd": read_pcd,
    ".bin": read_bin,
    ".ply": read_ply,
    ".las": read_las,
    ".laz": read_las,
    ".npy": read_npy,
}

SUFFIXES = tuple(_READERS)
"""Suffixes of files of clouds, in small letters."""


def read_scan(path: Path, columns: ScanColumns | None = None) -> Scan:
    """Read a file of one cloud.

    Args:
        path: the file; its suffix says the format, see `SUFFIXES`.
        columns: what the user says about its columns.

    Raises:
        UserError: no such file or format; broken, truncated, larger or claiming more than is plausible; without
            points' coordinates; or its columns are not known for certain. The message names the file.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: no file of a cloud; those end in {', '.join(SUFFIXES)}")
    return reader(path, columns or ScanColumns())
