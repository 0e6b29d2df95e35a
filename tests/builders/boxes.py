"""Boxes to overlap: ordinary ones, and pairs that are hard to get right."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

Rows = NDArray[np.float64]


def random_boxes(count: int, seed: int = 0, extent_m: float = 20.0) -> Rows:
    """[N, 7] boxes of a street, at random within ±`extent_m`."""
    rng = np.random.default_rng(seed)
    parts = [rng.uniform(-extent_m, extent_m, (count, 2)), rng.uniform(-1, 1, (count, 1))]
    return np.concatenate([*parts, rng.uniform(0.3, 6, (count, 3)), rng.uniform(-7, 7, (count, 1))], axis=1)


def random_pairs(count: int, seed: int = 0) -> tuple[Rows, Rows]:
    """Boxes [N, 7] of which most overlap the one in the same row of the other set."""
    a, b = random_boxes(count, seed), random_boxes(count, seed + 1, extent_m=3)
    b[:, :2] += a[:, :2]
    return a, b


def hard_pairs(seed: int = 0) -> tuple[Rows, Rows]:
    """Boxes with shared edges, almost parallel ones, slivers, very different sizes, and those far from the origin."""
    rng, pairs = np.random.default_rng(seed), []
    for a in random_boxes(12, seed):
        x, y, z, dx, dy, dz, yaw = a
        along = np.array([np.cos(yaw), np.sin(yaw), 0])
        across = np.array([-np.sin(yaw), np.cos(yaw), 0])
        for quarter in range(5):  # itself, by its other names
            sides = (dx, dy) if quarter % 2 == 0 else (dy, dx)
            pairs.append((a, [x, y, z, *sides, dz, yaw + quarter * np.pi / 2]))
        for turn in (*(10.0 ** -np.arange(1, 18)), 5e-324):
            pairs.append((a, [x, y, z, dx, dy, dz, yaw + turn]))
            pairs.append((a, [*(a[:3] + turn * along), dx, dy, dz, yaw - turn]))
        for shift in (
            dx * along,
            dy * across,
            dx * along + dy * across,
            dx / 2 * along,
            dy / 3 * across,
            0.999 * (dx * along + dy * across),
        ):
            pairs.append((a, [*(a[:3] + shift), dx, dy, dz, yaw]))
        pairs.append((a, [*(a[:3] + dx / 4 * along), dx / 2, dy, dz, yaw]))  # inside, with three shared edges
        pairs.append((a, [*(a[:3] + dx / 4 * along + dy / 4 * across), dx / 2, dy / 2, dz, yaw]))
        pairs.append((a, [x, y, z, dx / 9, dy / 9, dz, yaw + 1]))
        pairs.append((a, [x, y, z, 1e-3, 2e-3, 1e-3, yaw + rng.uniform(0, 6)]))
        pairs.append((a, [x, y, z, 1e4, 2e4, 1, yaw + rng.uniform(0, 6)]))
        pairs.append(([x, y, z, 100, 1e-2, dz, yaw], [x, y, z, 80, 1e-2, dz, yaw + rng.choice([1e-4, 0.1, 1.5])]))
        pairs.append(([x, y, z, dx, dx, dz, yaw], [x, y, z, dx, dx, dz, yaw + np.pi / 4]))
        far = np.array([*(1e5 * rng.standard_normal(2)), 0, 0, 0, 0, 0])
        pairs.append((a + far, np.array([x + 0.3, y - 0.2, z, dx, dy, dz, yaw + 1]) + far))
    for step in range(-6, 7):  # along the axes, edges upon edges
        pairs.append(([0, 0, 0, 4, 2, 1, 0], [step, 0, 0, 2, 2, 1, 0]))
        pairs.append(([0, 0, 0, 4, 2, 1, 0], [step / 2, step / 2, 0, 2, 4, 1, np.pi / 2]))
    a, b = (np.array(side, np.float64) for side in zip(*pairs, strict=True))
    return np.concatenate([a, b]), np.concatenate([b, a])


def tensors(*rows: ArrayLike) -> tuple[torch.Tensor, ...]:
    """Each as float64."""
    return tuple(torch.as_tensor(np.asarray(one, np.float64)) for one in rows)
