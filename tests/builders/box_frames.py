"""Frames with boxes, made in memory, for tests of detection."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from olivine.data.frame import Boxes, Frame

SIZES = {"Car": (3.9, 1.6, 1.56), "Van": (5.0, 1.9, 2.2), "Pedestrian": (0.8, 0.6, 1.73), "Cyclist": (1.76, 0.6, 1.73)}
"""Length, width and height of each category, metres."""


def box_frame(seed: int, names: Sequence[str], *, points: int = 2000, range_m: float = 24.0) -> Frame:
    """A scan of x > 0, half of whose points lie in objects on the ground at z = -1.7, no two of which overlap."""
    rng = np.random.default_rng((seed, 2))
    places = rng.permutation(16)[: len(names)]  # cells of a 4 × 4 checkerboard
    cell = range_m / 4
    sizes = np.array([SIZES[name] for name in names]).reshape(-1, 3)
    xy = np.stack([places // 4 + 0.5, places % 4 - 1.5], axis=1) * cell + rng.uniform(-0.3, 0.3, (len(names), 2))
    yaw = rng.uniform(-np.pi, np.pi, (len(names), 1))
    boxes = np.concatenate([xy, -1.7 + sizes[:, 2:] / 2, sizes, yaw], axis=1).reshape(-1, 7)
    ground = rng.uniform((0, -range_m / 2, -1.8), (range_m, range_m / 2, -1.6), (points // 2, 3))
    inside = [_inside(rng, box, points // 2 // max(1, len(names))) for box in boxes]
    cloud = np.concatenate([ground, *inside]).astype(np.float32)
    return Frame(
        token=f"frame-{seed}",
        scene=f"scene-{seed}",
        points_lidar_m=cloud,
        intensity=rng.uniform(0, 1, len(cloud)).astype(np.float32),
        intensity_max=1.0,
        timestamp_us=seed,
        boxes=Boxes(boxes, tuple(names), np.arange(len(names)) % 3),
    )


def _inside(rng: np.random.Generator, box: np.ndarray, count: int) -> np.ndarray:
    x, y, z, dx, dy, dz, yaw = box
    along, across, up = (rng.uniform(-0.5, 0.5, (count, 3)) * (dx, dy, dz)).T
    turned = [x + along * np.cos(yaw) - across * np.sin(yaw), y + along * np.sin(yaw) + across * np.cos(yaw), z + up]
    return np.stack(turned, axis=1)
