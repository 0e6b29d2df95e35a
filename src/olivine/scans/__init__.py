"""Files of one cloud, read and written: PCD in all variants and bare rows of float32.

`read_scan` opens a file as a `Scan`; `scan_from_records` makes one from rows that a message holds; `IntensityRange`
measures what range a log's intensities have.
"""

from olivine.scans.columns import ScanColumns, TimeOrigin, TimeUnit
from olivine.scans.files import SUFFIXES, read_scan
from olivine.scans.intensity import IntensityGuess, IntensityRange
from olivine.scans.records import scan_from_records
from olivine.scans.scan import Scan, TimeForm

__all__ = [
    "SUFFIXES",
    "IntensityGuess",
    "IntensityRange",
    "Scan",
    "ScanColumns",
    "TimeForm",
    "TimeOrigin",
    "TimeUnit",
    "read_scan",
    "scan_from_records",
]
