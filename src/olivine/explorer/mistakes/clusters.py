"""Clusters of points that went wrong alike: connected in space, with what tells how bad they are."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from olivine.explorer.view import View

REACH_M = 0.6
"""Points of the same or of touching voxels of this size are connected."""

_AHEAD = np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if (x, y, z) > (0, 0, 0)])
"""Half of the neighbours of a voxel; the others have it among theirs."""

_FARTHEST = 16_000
"""Voxels from the sensor."""

_AIR_M = 0.15
_NEAREST_M, _PER_EXTENT = 5.0, 1.6
"""A cluster is looked at from this far off, and this many times its extent where that is more."""


@dataclass(frozen=True)
class Cluster:
    """Points of a frame that lie together and went wrong alike.

    Attributes:
        frame: place of the frame in the dataset.
        row: the first of its points in the frame.
        points: how many there are.
        confidence: mean probability of what was predicted, 0…1; 0 where nothing was.
        center_m: middle of the upright box around them, metres in the LiDAR frame.
        extent_m: edges of that box along x, y and z, metres.
    """

    frame: int
    row: int
    points: int
    confidence: float
    center_m: tuple[float, float, float]
    extent_m: tuple[float, float, float]

    @property
    def box(self) -> NDArray[np.float64]:
        """[7] the box around them, with some air, as boxes are everywhere (x, y, z, dx, dy, dz, yaw)."""
        return np.array([*self.center_m, *(edge + 2 * _AIR_M for edge in self.extent_m), 0.0])

    @property
    def badness(self) -> tuple[float, ...]:
        """Larger is worse: the points, each as much as the network was sure; then points, then the dataset's order."""
        return (round(self.points * self.confidence, 6), self.points, -self.frame, -self.row)

    def seen(self, view: View) -> View:
        """A view that looks at the cluster from the side of the sensor, the side from which it was measured."""
        center = np.array(self.center_m)
        flat = center[:2] / max(float(np.linalg.norm(center[:2])), 1e-6)
        distance = max(_NEAREST_M, _PER_EXTENT * max(self.extent_m))
        x, y = center[:2] - distance * flat
        eye = (round(float(x), 2), round(float(y), 2), round(float(center[2]) + 0.5 * distance, 2))
        target = tuple(round(float(value), 2) for value in center)
        return replace(view, frame=self.frame, eye=eye, target=(target[0], target[1], target[2]))


def connected(points_m: NDArray[np.floating], group: NDArray[np.integer], reach_m: float = REACH_M) -> NDArray[np.intp]:
    """Which points hang together: those of a group whose voxels touch, also at an edge or a corner.

    Args:
        points_m: [N, 3] metres.
        group: [N] points of different groups are never connected.
        reach_m: edge of a voxel.

    Returns:
        [N] number of each point's cluster, from 0.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(points_m):
        return np.zeros(0, np.intp)
    # Clipped far beyond what any sensor reaches, so that cells are numbered within 64 bits.
    places = np.floor(np.clip(np.asarray(points_m, np.float64) / reach_m, -_FARTHEST, _FARTHEST)).astype(np.int64)
    places -= places.min(axis=0)
    sizes = places.max(axis=0) + 2  # with an empty layer, where neighbours beyond either end of a row fall
    strides = np.array([sizes[1] * sizes[2], sizes[2], 1])
    cells, voxel = np.unique(group.astype(np.int64) * int(np.prod(sizes)) + places @ strides, return_inverse=True)
    links = []
    for step in _AHEAD @ strides:
        at = np.searchsorted(cells, cells + step)
        there = np.flatnonzero((at < len(cells)) & (cells[np.minimum(at, len(cells) - 1)] == cells + step))
        links.append(np.stack((there, at[there])))
    first, second = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(cells), len(cells)))
    return np.asarray(connected_components(graph, directed=False)[1][voxel], np.intp)


def clusters(
    frame: int,
    points_m: NDArray[np.floating],
    group: NDArray[np.integer],
    confidence: NDArray[np.floating],
    kept: int,
) -> list[tuple[int, Cluster]]:
    """The worst clusters of each group of a frame's points.

    Args:
        frame: place of the frame in the dataset.
        points_m: [N, 3] metres in the LiDAR frame.
        group: [N] what each point belongs to; negative for nothing.
        confidence: [N] probability of what was predicted.
        kept: at most so many of each group.

    Returns:
        (group, cluster), worst first.
    """
    rows = np.flatnonzero(group >= 0)
    if not len(rows):
        return []
    at_m, sure = np.asarray(points_m[rows], np.float64), np.asarray(confidence[rows], np.float64)
    number = connected(at_m, group[rows])
    points = np.bincount(number)
    first = np.full(len(points), len(rows))
    np.minimum.at(first, number, np.arange(len(rows)))
    total = np.bincount(number, sure)
    order = np.lexsort((first, -points, -total))
    found, taken = list[tuple[int, Cluster]](), dict[int, int]()
    low, high = np.full((len(points), 3), np.inf), np.full((len(points), 3), -np.inf)
    np.minimum.at(low, number, at_m)
    np.maximum.at(high, number, at_m)
    for place in order:
        of = int(group[rows[first[place]]])
        taken[of] = taken.get(of, 0) + 1
        if taken[of] <= kept:
            x, y, z = (round(float(value), 3) for value in (low[place] + high[place]) / 2)
            dx, dy, dz = (round(float(value), 3) for value in high[place] - low[place])
            mean = float(total[place] / points[place])
            row = int(rows[first[place]])
            found.append((of, Cluster(frame, row, int(points[place]), mean, (x, y, z), (dx, dy, dz))))
    return found


Item = TypeVar("Item")


class Worst(Generic[Item]):
    """The worst few of each key, however many there are: all that is kept of a survey beside its counts.

    Args:
        kept: how many of each key.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._held: dict[Hashable, list[tuple[tuple[float, ...], Item]]] = {}

    def add(self, key: Hashable, badness: tuple[float, ...], item: Item) -> None:
        """Count an item in.

        Args:
            key: what it belongs to.
            badness: larger is worse; no two items of a key may have the same.
            item: the item.
        """
        heap = self._held.setdefault(key, [])
        if len(heap) < self._kept:
            heapq.heappush(heap, (badness, item))
        elif badness > heap[0][0]:
            heapq.heapreplace(heap, (badness, item))

    def of(self, *keys: Hashable) -> list[Item]:
        """The worst of some keys together, worst first."""
        held = [entry for key in keys for entry in self._held.get(key, ())]
        return [item for _, item in heapq.nlargest(self._kept, held, key=lambda entry: entry[0])]
