"""When each point was measured: unit and origin of a field of times, from its values.

Drivers write seconds or nanoseconds, after the scan's stamp or since 1970, under one name or another, and no header
says which. What values tell for certain is taken, and a note says so; what they do not is left out until the user says
it (`ScanColumns.time_unit`, `time_origin`). A scan takes some hundredths of a second to a second, and units lie a
thousandfold apart; a time since 1970 tells its unit by its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.scans.columns import TimeOrigin, TimeUnit
from olivine.scans.scan import TimeForm

UNITS: dict[TimeUnit, int] = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""Nanoseconds of each unit."""

EPOCH_S = (10**9, 4 * 10**9)
"""Seconds since 1970 of plausible recordings: the years 2001 to 2096."""

LONGEST_S = 1.5
"""No scan takes longer; what does is a merged cloud, whose unit the user says."""

PERIOD_S = 0.12
"""A point of a scan lies at most so far from its stamp, or as far as the scan is long."""

SHORTEST_S = 2e-3
"""Whole scans take longer; whole numbers that say less are in another unit, or of a part of a scan."""


@dataclass(frozen=True)
class PointTimes:
    """Times of a scan's points.

    Attributes:
        offsets_s: as of `Scan`, or None.
        stamp_ns: as of `Scan`.
        form: how they were understood, or None.
        note: what was assumed, or why there are none; empty where nothing is to be said.
    """

    offsets_s: NDArray[np.float64] | None
    stamp_ns: int | None
    form: TimeForm | None
    note: str


def point_times(
    field: str,
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    stamp_ns: int | None,
    unit: TimeUnit | None = None,
    origin: TimeOrigin | None = None,
) -> PointTimes:
    """Understand a field of times.

    Args:
        field: its name.
        values: [N] integers or floats.
        valid: [N] which rows are a return.
        stamp_ns: time of the scan since 1970, or None where that is not known.
        unit: the unit, where the user says it.
        origin: the origin, where the user says it.
    """
    values = np.ascontiguousarray(values)  # as a field of records, it is slow to go through
    known = values if valid.all() else values[valid]
    if not len(known):
        return PointTimes(None, stamp_ns, None, "")
    if not np.isfinite(known).all():
        return PointTimes(None, stamp_ns, None, f"times of points are left out: some of {field!r} are no numbers")
    if known.min() == known.max() and (stamped := _epoch_unit(known)) is not None:
        note = f"{field!r} is the same in every point, and taken for the scan's time in {stamped} since 1970"
        return PointTimes(None, _nanoseconds(known[0], stamped) if stamp_ns is None else stamp_ns, None, note)
    if unit is None or origin is None:
        found = _found(known, stamp_ns)
        if isinstance(found, str):
            told = "say time_unit and time_origin to use them"
            return PointTimes(None, stamp_ns, None, f"times of points are left out: {field!r} {found}; {told}")
        unit, origin = unit or found[0], origin or found[1]
    offsets, stamp_ns = _offsets(values, valid, stamp_ns, unit, origin)
    return PointTimes(offsets, stamp_ns, TimeForm(field, unit, origin), _said(field, unit, origin, offsets))


def _found(known: NDArray[Any], stamp_ns: int | None) -> tuple[TimeUnit, TimeOrigin] | str:
    """Unit and origin, or why they cannot be told."""
    low, high = known.min(), known.max()
    if low == high:
        return f"is {low} in every point"
    since_1970 = _epoch_unit(known)
    if since_1970 is not None:
        return _since_1970(known, since_1970, stamp_ns)
    span = float(high) - float(low)
    fitting = _unit_of(span, known.dtype.kind == "f")
    if fitting is None:
        return f"reaches from {low} to {high}, which tells no unit"
    # Times after a stamp begin or end near it, or as far from it as a scan lasts that was cut to what a camera sees.
    nearest = 0.0 if low < 0 < high else min(abs(float(low)), abs(float(high)))
    near = nearest * UNITS[fitting] <= max(span * UNITS[fitting], PERIOD_S * 1e9)
    return fitting, "stamp" if near else "first"


def _epoch_unit(known: NDArray[Any]) -> TimeUnit | None:
    """The unit in which all times lie in the years of `EPOCH_S`, or None."""
    low, high = int(known.min()), int(known.max())
    years = [(unit, 10**9 // scale) for unit, scale in UNITS.items()]
    return next((unit for unit, second in years if EPOCH_S[0] * second <= low <= high <= EPOCH_S[1] * second), None)


def _unit_of(span: float, fractions: bool) -> TimeUnit | None:
    """The unit of a scan's duration, where it tells one: seconds as floats, else microseconds or nanoseconds."""
    if fractions and span <= LONGEST_S:
        return "s"
    units: tuple[TimeUnit, ...] = ("us", "ns")
    return next((unit for unit in units if SHORTEST_S <= span * UNITS[unit] / 1e9 <= LONGEST_S), None)


def _since_1970(known: NDArray[Any], unit: TimeUnit, stamp_ns: int | None) -> tuple[TimeUnit, TimeOrigin] | str:
    if known.dtype.kind == "f" and np.spacing(known.max()) * UNITS[unit] > 1e6:
        return f"holds times since 1970 as float{8 * known.dtype.itemsize}, which does not keep the millisecond"
    first_ns = _nanoseconds(known.min(), unit)
    apart = stamp_ns is not None and abs(first_ns - stamp_ns) > LONGEST_S * 1e9
    return unit, "first" if apart else "epoch"


def _offsets(
    values: NDArray[Any], valid: NDArray[np.bool_], stamp_ns: int | None, unit: TimeUnit, origin: TimeOrigin
) -> tuple[NDArray[np.float64], int | None]:
    scale = UNITS[unit] / 1e9
    offsets = np.full(len(values), np.nan)
    if origin == "stamp":
        offsets[valid] = values[valid].astype(np.float64) * scale
        return offsets, stamp_ns
    first = values[valid].min()
    # Differences first: a double of a time since 1970 keeps 0.2 µs in seconds, and integers keep everything.
    offsets[valid] = (values[valid] - first).astype(np.float64) * scale
    if origin == "epoch":
        first_ns = _nanoseconds(first, unit)
        stamp_ns = first_ns if stamp_ns is None else stamp_ns
        offsets[valid] += (first_ns - stamp_ns) / 1e9
    return offsets, stamp_ns


def _nanoseconds(value: Any, unit: TimeUnit) -> int:
    """A stored time in whole nanoseconds, exact before it is rounded."""
    return round(Fraction(value.item()) * UNITS[unit])


def _said(field: str, unit: TimeUnit, origin: TimeOrigin, offsets: NDArray[np.float64]) -> str:
    origins = {
        "stamp": "after the scan's stamp",
        "epoch": "since 1970",
        "first": "on a clock of its own, counted from the earliest point",
    }
    spread = float(np.nanmax(offsets) - np.nanmin(offsets))
    return f"times of points: {field!r} in {unit} {origins[origin]}; the scan takes {spread:.4f} s"
