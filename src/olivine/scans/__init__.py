"""Files of one cloud, read and written: PCD in all variants, bare rows of float32, PLY, LAS and LAZ, arrays of numpy.

`read_scan` opens a file as a `Scan`, and `write_scan` writes points; `scan_from_records` makes a scan from rows that a
message holds; `IntensityRange` measures what range a log's intensities have.
"""

from olivine.scans.columns import ScanColumns, TimeOrigin, TimeUnit
from olivine.scans.files import SUFFIXES, read_scan
from olivine.scans.intensity import IntensityGuess, IntensityRange
from olivine.scans.records import scan_from_records, settled_columns
from olivine.scans.rows import find_columns
from olivine.scans.scan import Scan, TimeForm
from olivine.scans.writing import WRITABLE, write_scan

__all__ = [
    "SUFFIXES",
    "WRITABLE",
    "IntensityGuess",
    "IntensityRange",
    "Scan",
    "ScanColumns",
    "TimeForm",
    "TimeOrigin",
    "TimeUnit",
    "find_columns",
    "read_scan",
    "scan_from_records",
    "settled_columns",
    "write_scan",
]
