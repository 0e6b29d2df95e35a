"""Files of bare rows: .bin, float32 without any header, as KITTI, nuScenes and many loggers write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from olivine.errors import UserError
from olivine.reading import read_file
from olivine.scans.columns import ScanColumns
from olivine.scans.records import scan_from_records
from olivine.scans.scan import Scan

COUNTS = (3, 4, 5, 6)
"""Numbers of columns that files of bare rows have."""

USUAL = ("x", "y", "z", "intensity", "_", "_")
"""What the columns are, in every dataset that is known to have such files; the later ones differ."""


def read_bin(path: Path, columns: ScanColumns) -> Scan:
    """Read a file of float32 rows; see `olivine.scans.files.read_scan`."""
    content, source = read_file(path, "this cloud"), str(path)
    names = columns.names or _guessed(content, source)
    if len(content) % (4 * len(names)):
        raise UserError(f"{source}: its {len(content)} bytes are no whole number of rows of {len(names)} float32")
    shown = [f"_{place}" if name == "_" else name for place, name in enumerate(names)]
    if len(set(shown)) < len(shown):
        raise UserError(f"{source}: the columns {', '.join(names)} name one twice")
    records = np.frombuffer(content, np.dtype([(name, "<f4") for name in shown]))
    return scan_from_records(records, source, columns=columns)


def _guessed(content: bytes, source: str) -> tuple[str, ...]:
    fits = [count for count in COUNTS if len(content) % (4 * count) == 0]
    if len(fits) != 1:
        counts = ", ".join(map(str, fits)) or "none of 3 to 6"
        raise UserError(
            f"{source}: {len(content)} bytes fit {counts} columns of float32; say which they are, e.g. "
            "names: [x, y, z, intensity]"
        )
    return USUAL[: fits[0]]
