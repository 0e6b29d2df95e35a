"""Which projected points a camera can really see.

LiDAR and camera sit apart, so a point behind an object may fall on the object's pixels. The published recipe keeps
those pairs; this filter drops them. It is a depth buffer on coarse cells: a point is hidden when another point in
its cell or in one of the 8 around it is nearer by more than a tolerance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CELLS_ACROSS = 160


def visible(
    uv: NDArray[np.float64], depth_m: NDArray[np.float64], size: tuple[int, int], tolerance_m: float
) -> NDArray[np.bool_]:
    """Tell visible points from hidden ones.

    The tolerance grows with depth (5 % of it), since ground seen at a grazing angle covers metres within one cell.

    Args:
        uv: [P, 2] pixel positions inside the image.
        depth_m: [P] depth along the optical axis, metres.
        size: (width, height) of the image, pixels; cells are 1/160 of the width.
        tolerance_m: how much nearer the nearest neighbour must be for a point to count as hidden, metres.

    Returns:
        [P] bool.
    """
    cell_px = size[0] / _CELLS_ACROSS
    column, row = np.maximum(uv / cell_px, 0).astype(np.int64).T
    nearest = np.full((int(size[1] / cell_px) + 3, _CELLS_ACROSS + 3), np.inf)
    np.minimum.at(nearest, (row + 1, column + 1), depth_m)
    around = np.lib.stride_tricks.sliding_window_view(nearest, (3, 3)).min(axis=(2, 3))
    seen: NDArray[np.bool_] = depth_m <= around[row, column] * 1.05 + tolerance_m
    return seen
