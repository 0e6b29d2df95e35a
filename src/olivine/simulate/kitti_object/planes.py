"""Road planes: where the road lies under each frame, as the files beside KITTI's labels say it.

The files have three lines that are no numbers, then a b c d: the road is where a·x + b·y + c·z + d = 0 in the rectified
frame, (a, b, c) a unit vector that points up, so that the left side is the height above the road, metres.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from olivine.geometry import invert


def road_plane(rect_from_lidar: NDArray[np.float64], global_from_lidar: NDArray[np.float64]) -> str:
    """The text of a frame's file.

    Args:
        rect_from_lidar: [4, 4] from the LiDAR to the rectified frame.
        global_from_lidar: [4, 4] pose of the LiDAR; the road is where the global z is 0.
    """
    global_from_rect = global_from_lidar @ invert(rect_from_lidar)
    return "# Plane\nWidth 4\nHeight 1\n" + " ".join(f"{value:.6e}" for value in global_from_rect[2]) + "\n"
