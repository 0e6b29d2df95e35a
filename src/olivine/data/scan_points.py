"""From a `Scan` of any format to the points of a frame: rows without a return are left out, and labels follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from olivine.scans import Scan

V = TypeVar("V", bound=np.generic)


@dataclass(frozen=True)
class ScanPoints:
    """The points of a scan that a frame has. N points, R rows in the file.

    Attributes:
        points_m: [N, 3] float32, metres, in file order.
        intensity: [N] float32 in the file's own range, or None.
        returns: [R] bool which rows of the file they are; None where they are all.
        rings: [N] uint16 beam of each, or None where the file does not say.
    """

    points_m: NDArray[np.float32]
    intensity: NDArray[np.float32] | None
    returns: NDArray[np.bool_] | None = None
    rings: NDArray[np.uint16] | None = None

    @property
    def rows(self) -> int:
        """Rows in the file."""
        return len(self.points_m) if self.returns is None else len(self.returns)

    def of_points(self, values: NDArray[V]) -> NDArray[V]:
        """Values [R] of the rows, as those [N] of the points."""
        return values if self.returns is None else values[self.returns]


def points_of(scan: Scan) -> ScanPoints:
    """The points of a scan, without the rows that are no return."""
    returns = scan.returns()
    if returns.all():
        return ScanPoints(scan.points_m, scan.intensity, rings=scan.rings)
    kept = scan.take(returns)
    return ScanPoints(kept.points_m, kept.intensity, returns, kept.rings)
