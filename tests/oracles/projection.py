"""Point-to-pixel pairs one point at a time, in homogeneous coordinates: slow, and independent of the package."""

from __future__ import annotations

import numpy as np


def slow_pairs(
    points_lidar_m: np.ndarray,
    cameras: list[tuple[np.ndarray, np.ndarray, tuple[int, int], np.ndarray | None]],
    min_depth_m: float,
    border_px: float,
) -> list[tuple[int, int, float, float, int]]:
    """Pairs (point, camera, u, v, label) of cameras (intrinsics, camera_from_lidar, (width, height), mask [H, W])."""
    pairs = []
    for index, (intrinsics, camera_from_lidar, (width, height), mask) in enumerate(cameras):
        projection = intrinsics @ camera_from_lidar[:3]
        for row, point in enumerate(points_lidar_m.tolist()):
            a, b, depth_m = projection @ np.array([*point, 1.0])
            if not depth_m > min_depth_m:
                continue
            u, v = a / depth_m, b / depth_m
            if border_px < u < width - border_px and border_px < v < height - border_px:
                label = 255 if mask is None else int(mask[nearest(v, height), nearest(u, width)])
                pairs.append((row, index, u, v, label))
    return pairs


def nearest(position: float, count: int) -> int:
    """Index of the pixel whose centre (at an integer) is nearest."""
    return min(range(count), key=lambda index: abs(index - position))
