"""Two views of a frame, for methods that learn from clouds alone: how they are cut, and which voxels match.

The second view is the same scan cut and augmented anew, or a neighbouring frame of the scene. Either way a point of
one may be found in the other: as the same row of the scan, or as the point at the same place by the frames' poses.
"""

from __future__ import annotations

import warnings
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from olivine.config import Config
from olivine.data.augment import Interval
from olivine.data.frame import Dataset
from olivine.errors import OlivineWarning

_REACH = 2**20  # cubes to each side of the origin that a key of 3 × 21 bits can hold


def _shares(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[1] > 1:
        raise ValueError("a share of the cloud is at most 1")
    return interval


class ViewConfig(Config):
    """How the two views of a frame come about, before each is rotated, mirrored and scaled by `augment`."""

    keep: Annotated[Interval, AfterValidator(_shares)] = (1.0, 1.0)
    """Share of the cloud that a view keeps, uniform in this interval: the points nearest, on the ground plane, to a
    random one of them. (1, 1) keeps all."""

    drop_cuboid: float = Field(default=0.0, ge=0, lt=1)
    """Drop the points in a random cuboid of up to this share of the cloud's extent per axis; 0 drops none."""

    max_gap: PositiveInt = 1
    """Where the second view is another frame: how many frames of the split it may lie before or after the first."""

    match_m: PositiveFloat = 0.1
    """Where the second view is another frame: points match that lie in the same cube of this side, metres."""


def cut_view(points_m: NDArray[np.float32], rng: np.random.Generator, config: ViewConfig) -> NDArray[np.bool_]:
    """Draw which points a view keeps.

    Args:
        points_m: [N, 3] float32 points, metres.
        rng: the sample's generator.
        config: how much to keep.

    Returns:
        [N] bool; at least one point where there are any.
    """
    share, center, corner, extent = rng.uniform(*config.keep), *rng.random(2), rng.random(3)
    kept = np.ones(len(points_m), np.bool_)
    if len(points_m) == 0:
        return kept
    if share < 1:
        around = points_m[int(center * len(points_m)), :2]
        distance = np.square(points_m[:, :2] - around).sum(axis=1)
        count = max(1, round(share * len(points_m)))
        kept[np.argpartition(distance, count - 1)[count:]] = False
    if config.drop_cuboid > 0:
        middle = points_m[int(corner * len(points_m))]
        half = np.ptp(points_m, axis=0) * extent * config.drop_cuboid / 2
        outside = (np.abs(points_m - middle) > half).any(axis=1)
        # A cuboid may hold all that is left of a small cloud; an empty view would have nothing to teach.
        kept = kept & outside if (kept & outside).any() else kept
    return kept


def neighbour(dataset: Dataset, index: int, max_gap: int, rng: np.random.Generator) -> int:
    """Draw a frame near another one of the same scene.

    Returns:
        A place in the dataset within `max_gap` of `index`, not itself; or `index` where its scene has no other frame
        so near, which leaves two views of one scan.
    """
    others = _others(dataset, index, max_gap)
    drawn = rng.random()
    return others[int(drawn * len(others))] if others else index


def warn_if_alone(dataset: Dataset, max_gap: int) -> None:
    """Say so where no frame at all has another one of its scene near it, as of `neighbour`."""
    if not any(_others(dataset, index, max_gap) for index in range(len(dataset))):
        warnings.warn(
            f"{dataset.name}: no frame has another one of its scene within views.max_gap={max_gap}, so both views of "
            "each are of one scan; the method is made for recordings",
            OlivineWarning,
            stacklevel=2,
        )


def _others(dataset: Dataset, index: int, max_gap: int) -> list[int]:
    """The frames of its scene at most so far from one."""
    scene = dataset.scene(index)
    around = range(max(0, index - max_gap), min(len(dataset), index + max_gap + 1))
    return [place for place in around if place != index and dataset.scene(place) == scene]


def same_rows(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Points of two views of one scan that are the same.

    Args:
        first: [N] rows of the scan that the first view holds, distinct.
        second: [M] likewise of the second view.

    Returns:
        [K, 2] int64 (place in `first`, place in `second`).
    """
    place = np.full(max(first.max(initial=-1), second.max(initial=-1)) + 1, -1, np.int64)
    place[second] = np.arange(len(second))
    found = place[first]
    return np.stack((np.flatnonzero(found >= 0), found[found >= 0]), axis=1)


def same_places(first_m: NDArray[np.float64], second_m: NDArray[np.float64], size_m: float) -> NDArray[np.int64]:
    """Points of two clouds in one frame of reference that lie in the same cube; of several in a cube the first.

    Args:
        first_m: [N, 3] float64 points, metres.
        second_m: [M, 3] float64 likewise.
        size_m: side of the cubes, metres.

    Returns:
        [K, 2] int64 (row of `first_m`, row of `second_m`). A point a million cubes or more from the origin, which a
        wrong pose or a wild echo gives, matches nothing.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        cells = np.floor(np.concatenate((first_m, second_m)) / size_m)
        near = (np.abs(cells[:, 0]) < _REACH) & (np.abs(cells[:, 1]) < _REACH) & (np.abs(cells[:, 2]) < _REACH)
    x, y, z = cells[near].astype(np.int64).T + _REACH
    cube = np.full(len(cells), -1)
    cube[near] = (x << 42) | (y << 21) | z
    of_first, row_first = np.unique(cube[: len(first_m)], return_index=True)
    of_second, row_second = np.unique(cube[len(first_m) :], return_index=True)
    common, at_first, at_second = np.intersect1d(of_first, of_second, assume_unique=True, return_indices=True)
    at_first, at_second = at_first[common >= 0], at_second[common >= 0]
    return np.stack((row_first[at_first], row_second[at_second]), axis=1)


def voxel_matches(
    points: NDArray[np.int64], first_voxel: NDArray[np.int64], second_voxel: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Voxels that hold matching points.

    Args:
        points: [K, 2] int64 matching points.
        first_voxel: [N] int64 voxel of each point of the first view, -1 outside the grid.
        second_voxel: [M] int64 likewise of the second view.

    Returns:
        [Q, 2] int64 pairs of voxels, each once.
    """
    voxels = np.stack((first_voxel[points[:, 0]], second_voxel[points[:, 1]]), axis=1)
    voxels = voxels[(voxels >= 0).all(axis=1)]
    return np.unique(voxels, axis=0) if len(voxels) else voxels
