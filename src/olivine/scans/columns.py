"""`ScanColumns`: what a user says about the fields of a scan, where the file does not say it for certain."""

from __future__ import annotations

from typing import Literal

from olivine.config import Config

TimeUnit = Literal["s", "ms", "us", "ns"]
"""Units that times of points are stored in."""

TimeOrigin = Literal["stamp", "epoch", "first"]
"""Where times of points count from: the scan's stamp; 1970-01-01; or anything else, so that only the time since the
earliest point is known."""


class ScanColumns(Config):
    """What the fields of a scan mean. What is left out is found by name and content, and the scan's notes say how."""

    names: tuple[str, ...] = ()
    """Names of the columns of a file that has none (.bin, plain .npy), in order, e.g. [x, y, z, intensity, ring]; `_`
    for a column that is not used. Their number is the number of columns."""

    intensity: str | None = None
    """The field to take for the intensity, where there are several."""

    ring: str | None = None
    """The field to take for the beam of each point."""

    time: str | None = None
    """The field to take for the time of each point."""

    time_unit: TimeUnit | None = None
    """The unit of that time."""

    time_origin: TimeOrigin | None = None
    """Where that time counts from: `stamp` (the scan's), `epoch` (1970), or `first` (a clock of its own)."""
