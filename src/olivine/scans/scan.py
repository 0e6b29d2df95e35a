"""`Scan`: one cloud of points as a file or a message holds it, whatever sensor and format it is from.

Readers of files (`olivine.scans.files`) and of bags end in it; conversion and prediction start from it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olivine.scans.columns import TimeOrigin, TimeUnit


@dataclass(frozen=True)
class TimeForm:
    """How the times of a scan's points were understood.

    Attributes:
        field: the field they are from.
        unit: its unit.
        origin: where it counts from; see `olivine.scans.columns`.
    """

    field: str
    unit: TimeUnit
    origin: TimeOrigin


@dataclass(frozen=True)
class Scan:
    """One cloud, in file order. Arrays are not to be written to.

    Attributes:
        points_m: [N, 3] float32, metres, in the frame of the file or message, less `origin_m`.
        intensity: [N] float32 raw values as the file has them, or None; their range is not known from one scan, see
            `olivine.scans.intensity`.
        offsets_s: [N] float64 seconds of each point after the scan's stamp (after the earliest point, where
            `time_form.origin` is `first`); NaN in rows without return. None where there are no times, or their unit
            is not known for certain; `notes` then say so.
        rings: [N] uint16 beam of each point, or None.
        fields: names of all fields, in file order; a field `_` is padding.
        source: the file or topic, for messages.
        stamp_ns: time of the scan since 1970, nanoseconds: what the caller said, else the earliest absolute time of a
            point, else None.
        frame_id: frame of the points as a message names it; empty where nothing does.
        origin_m: [3] float64 what was taken off the coordinates, metres: zeros, unless they are so large (a map's)
            that float32 would not keep the millimetre.
        intensity_type: numpy type of the raw intensity, e.g. `"u1"`, or None.
        time_form: how the times were understood, or None.
        notes: what was assumed or left out, a line each, for whoever shows the scan.
    """

    points_m: NDArray[np.float32]
    intensity: NDArray[np.float32] | None = None
    offsets_s: NDArray[np.float64] | None = None
    rings: NDArray[np.uint16] | None = None
    fields: tuple[str, ...] = ("x", "y", "z")
    source: str = ""
    stamp_ns: int | None = None
    frame_id: str = ""
    origin_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    intensity_type: str | None = None
    time_form: TimeForm | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.points_m)

    def returns(self) -> NDArray[np.bool_]:
        """Which rows are a return, [N]: those whose coordinates are finite and not all zero."""
        return has_return(self.points_m)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Scan:
        """The scan of some rows, given as a mask [N] or as row numbers."""
        parts = {
            name: None if column is None else column[rows]
            for name, column in (("intensity", self.intensity), ("offsets_s", self.offsets_s), ("rings", self.rings))
        }
        return dataclasses.replace(self, points_m=self.points_m[rows], **parts)  # type: ignore[arg-type]

    def without_gaps(self) -> Scan:
        """The scan without rows that are no return."""
        kept = self.returns()
        return self if kept.all() else self.take(kept)


def has_return(points_m: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which rows of [N, 3] coordinates are a return, [N]: finite and not all zero, as drivers mark what is none."""
    finite, some = np.isfinite(points_m), points_m != 0
    # Column by column: numpy takes ten times as long over rows of three.
    kept: NDArray[np.bool_] = finite[:, 0] & finite[:, 1] & finite[:, 2] & (some[:, 0] | some[:, 1] | some[:, 2])
    return kept
