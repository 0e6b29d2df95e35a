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

_OTHERS = {
    **dict.fromkeys(
        (".pcap", ".pcapng", ".lvx", ".lvx2"), " (packets of a sensor: decode them first, by its maker's program)"
    ),
    **dict.fromkeys(
        (".xyz", ".txt", ".csv", ".asc", ".pts"), " (a table in text: name its columns in a header of PCD or PLY)"
    ),
    **dict.fromkeys(
        (".npz", ".pkl", ".pickle", ".h5", ".feather", ".parquet"),
        " (save one scan as .npy: [N, C] numbers, or records)",
    ),
    **dict.fromkeys((".e57", ".ptx", ".copc"), " (a survey: save it as .las or .laz)"),
    **dict.fromkeys((".gz", ".zip", ".zst", ".bz2", ".xz", ".7z"), " (packed: unpack it)"),
}
"""What to do about files of points in other formats."""

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
        known = _OTHERS.get(path.suffix.lower(), "")
        raise UserError(f"{path}: no file of a cloud that is read{known}; those end in {', '.join(SUFFIXES)}")
    return reader(path, columns or ScanColumns())
