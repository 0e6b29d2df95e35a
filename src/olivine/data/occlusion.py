"""Which projected points a camera can really see.

LiDAR and camera sit apart, so a point behind an object may fall on the object's pixels. The published recipe keeps
those pairs; this filter drops them. A point is hidden when nearer points surround it in the image. Being nearer alone
proves nothing: of the road ahead and of a wall beside it every point has nearer ones at its side, yet all are seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

_NEIGHBOURS = 16  # in the image; two or three rings of a LiDAR up and down


def visible(uv: NDArray[np.float64], depth_m: NDArray[np.float64], tolerance_m: float) -> NDArray[np.bool_]:
    """Tell visible points from hidden ones.

    Of the 16 nearest points in the image, those count that are nearer to the camera by more than the tolerance and 5 %
    of their depth. A point is hidden where such points lie on opposite sides of it: above left and below right, or
    above right and below left; or where one has its very pixel.

    Args:
        uv: [P, 2] pixel positions.
        depth_m: [P] depth along the optical axis, metres.
        tolerance_m: how much nearer others must be, metres.

    Returns:
        [P] bool.
    """
    if len(uv) < 2:
        return np.ones(len(uv), np.bool_)
    _, others = cKDTree(uv).query(uv, k=min(_NEIGHBOURS + 1, len(uv)))
    du, dv = np.moveaxis(uv[others] - uv[:, None], 2, 0)
    nearer = depth_m[others] * 1.05 + tolerance_m < depth_m[:, None]
    falling = (nearer & (du < 0) & (dv < 0)).any(axis=1) & (nearer & (du > 0) & (dv > 0)).any(axis=1)
    rising = (nearer & (du < 0) & (dv > 0)).any(axis=1) & (nearer & (du > 0) & (dv < 0)).any(axis=1)
    same = (nearer & (du == 0) & (dv == 0)).any(axis=1)
    return np.asarray(~(falling | rising | same))
