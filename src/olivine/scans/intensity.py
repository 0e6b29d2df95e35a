"""The range of a log's intensities, measured as its scans stream by.

Sensors write 0…1, 0…255 or 0…65535, and no format says which. `IntensityRange` takes in any number of scans in bounded
memory, in any order and in parts that are merged, and judges which range they are of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.scans.scan import Scan

TOPS = (1.0, 255.0, 65535.0)
"""Tops of the ranges that sensors and drivers use."""

_SHIFT = 15
"""Low bits of a float32 that a bin leaves out: bins are 1/256 of their value wide, and whole numbers to 512 have their
own."""

_BINS = 0x7F800000 >> _SHIFT
"""Bins up to infinity."""


@dataclass(frozen=True)
class IntensityGuess:
    """Which range intensities are of.

    Attributes:
        top: its top: one of `TOPS`, or the largest value where none fits.
        sure: whether the values leave no other; else the user is to be asked.
        why: what speaks for it, one line.
    """

    top: float
    sure: bool
    why: str


class IntensityRange:
    """Running account of intensities: how many, the least and largest, a histogram."""

    def __init__(self) -> None:
        self.count = 0
        """Values taken in."""
        self.negative = 0
        """Those below 0, which are in no range."""
        self.undefined = 0
        """Those that are no finite number."""
        self.fractions = 0
        """Those that are no whole number."""
        self.min = np.inf
        """The least; infinite while there is none."""
        self.max = -np.inf
        """The largest; minus infinite while there is none."""
        self.types: set[str] = set()
        """Numpy types that the raw values had, e.g. `u1`."""
        self._bins = np.zeros(_BINS, np.int64)

    def add(self, scan: Scan) -> None:
        """Take in the returns of a scan; one without intensities changes nothing."""
        if scan.intensity is not None:
            self.add_values(scan.intensity[scan.returns()], scan.intensity_type)

    def add_values(self, values: NDArray[Any], kind: str | None = None) -> None:
        """Take in values [N] of numpy type `kind` (their own where None)."""
        self.types.add(kind or values.dtype.str[1:])
        values = values.astype(np.float32, copy=False)
        known = np.isfinite(values)
        finite = values if known.all() else values[known]
        self.count += len(values)
        self.undefined += len(values) - len(finite)
        if not len(finite):
            return
        low = float(finite.min())
        self.min, self.max = min(self.min, low), max(self.max, float(finite.max()))
        self.fractions += int(np.count_nonzero(finite != np.floor(finite)))
        counted = finite if low >= 0 else finite[finite >= 0]
        self.negative += len(finite) - len(counted)
        # Bits of floats that are not negative are in the order of their values; + 0 makes -0 one of them.
        self._bins += np.bincount((counted + np.float32(0)).view(np.uint32) >> _SHIFT, minlength=_BINS)

    def merge(self, other: IntensityRange) -> None:
        """Take in what another has; the order of merging changes nothing."""
        self.count, self.negative = self.count + other.count, self.negative + other.negative
        self.undefined, self.fractions = self.undefined + other.undefined, self.fractions + other.fractions
        self.min, self.max = min(self.min, other.min), max(self.max, other.max)
        self.types |= other.types
        self._bins += other._bins

    def percentile(self, share: float) -> float:
        """The value that `share` percent of the values do not exceed, to 0.4 % of itself; NaN while there are none."""
        total = int(self._bins.sum())
        if not total:
            return float("nan")
        rank = max(int(np.ceil(total * share / 100)), 1)
        place = np.uint32(np.searchsorted(np.cumsum(self._bins), rank))
        low = float((place << np.uint32(_SHIFT)).view(np.float32))
        return float(np.clip(low, max(self.min, 0.0), self.max))

    def guess(self) -> IntensityGuess:
        """Which range the values are of."""
        if self.count == self.undefined:
            return IntensityGuess(1.0, False, "there are no intensities")
        if self.negative or self.undefined:
            bad = self.negative + self.undefined
            return IntensityGuess(self.max, False, f"{bad} of {self.count} intensities are negative or no numbers")
        if self.types == {"u1"}:
            return IntensityGuess(255.0, True, "they are stored in bytes")
        return self._by_values()

    def _by_values(self) -> IntensityGuess:
        """The guess where values alone tell."""
        said = f"the largest of {self.count} intensities is {self.max:g}"
        whole = self.fractions == 0
        if self.max > TOPS[-1]:
            return IntensityGuess(self.max, False, f"{said}, above any known range")
        if self.max <= 1:
            return IntensityGuess(1.0, not whole, f"{said}, {'and all are 0 or 1' if whole else 'in fractions'}")
        if self.max <= 255:
            # Two bytes may hold 0…65535 of which a dark log uses little; only saturation tells.
            near = self.max == 255 if "u2" in self.types else self.max >= 200
            return IntensityGuess(255.0, near, said if near else f"{said}, which is little for 0…255")
        near = self.max >= 32768 and whole
        return IntensityGuess(65535.0, near, said if near else f"{said}, which is little for 0…65535")
