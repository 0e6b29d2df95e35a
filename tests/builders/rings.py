"""Scans whose beams are known: of a sensor that KITTI's is like, and of one whose beams leave from one point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from olivine.data.frame import Frame
from olivine.data.labels import load_class_set


def kitti_like(
    seed: int = 0, *, beams: int = 64, columns: int = 300, returns: float = 0.8, moved_m: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A scan with its points in KITTI's order: rings from the top, each counter-clockwise from straight ahead.

    Beams leave from places above each other; some give no return; the vehicle moves while the sensor turns (the turn
    begins and ends at the back), which was corrected; positions are rounded to the millimetre.

    Returns:
        [N, 3] float32 points, and the [N] beam of each, 0 at the top.
    """
    rng = np.random.default_rng((seed, 2))
    elevation = np.radians(np.concatenate([np.linspace(2, -8.5, beams // 2), np.linspace(-8.9, -24.8, beams // 2)]))
    turn = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    beam, column = (index.reshape(-1) for index in np.mgrid[:beams, :columns])
    tall_m = 12 + 8 * np.sin(3 * turn)[column] + rng.normal(0, 0.02, beams * columns)
    range_m = np.minimum(tall_m, 1.7 / np.maximum(1e-3, -np.sin(elevation[beam])))
    azimuth = turn[column] + rng.uniform(0, 0.2 * np.pi / columns, len(column))
    height_m = np.linspace(0.1, -0.1, beams)[beam]
    flat_m = range_m * np.cos(elevation[beam])
    points = np.stack(
        (flat_m * np.cos(azimuth), flat_m * np.sin(azimuth), range_m * np.sin(elevation[beam]) + height_m)
    )
    points[0] += moved_m * ((azimuth + np.pi) / (2 * np.pi) % 1 - 0.5)
    kept = rng.random(len(column)) < returns * (1 - 0.5 * (beam < 3))
    return points.T[kept].round(3).astype(np.float32), beam[kept]


def central(
    seed: int = 0, *, beams: int = 32, columns: int = 200, by_column: bool = True
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A scan of a sensor whose beams leave from one point, by column or by ring, with rows of no return.

    Returns:
        [N, 3] float32 points, (0, 0, 0) without return, and the [N] beam of each, 0 at the bottom.
    """
    rng = np.random.default_rng((seed, 3))
    elevation = np.radians(np.linspace(-22.5, 22.5, beams))
    grid = np.mgrid[:columns, :beams] if by_column else np.mgrid[:beams, :columns]
    column, beam = (index.reshape(-1) for index in (grid if by_column else grid[::-1]))
    azimuth = -2 * np.pi * column / columns
    range_m = rng.uniform(2, 40, len(beam)) * (rng.random(len(beam)) < 0.7)
    flat_m = range_m * np.cos(elevation[beam])
    points = np.stack((flat_m * np.cos(azimuth), flat_m * np.sin(azimuth), range_m * np.sin(elevation[beam])))
    return points.T.round(3).astype(np.float32), beam


def ringed_frame(seed: int = 0, **options: float) -> tuple[Frame, NDArray[np.int64]]:
    """A labelled frame of a scan like KITTI's, without cameras, and its beams."""
    points, beam = kitti_like(seed, **options)
    rng = np.random.default_rng((seed, 4))
    frame = Frame(
        token=f"frame-{seed}",
        scene="scene",
        points_lidar_m=points,
        intensity=rng.uniform(0.01, 1, len(points)).astype(np.float32),
        intensity_max=1.0,
        timestamp_us=seed,
        labels=rng.integers(0, load_class_set("semantickitti").count + 1, len(points)).astype(np.uint8),
    )
    return frame, beam
