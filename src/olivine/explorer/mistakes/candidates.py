"""Things whose labels a network doubts: points of one label that are together, most of which it gives another class."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from olivine.data.labels import IGNORED
from olivine.data.masks import UNKNOWN
from olivine.explorer.mistakes.clusters import Cluster, connected

CELL_M = 0.6
"""Points are together where they lie in cells of this side that touch, seen from above: beams may be a metre apart
where a thing is far, but it stands on the ground."""

LEAST = 5
"""Fewer points are no thing."""

MOST = 64
"""So many are kept of a frame, those that are doubted most."""


@dataclass(frozen=True)
class Labelled:
    """The N points of a frame, their labels, and what is said of them.

    Attributes:
        points_m: [N, 3] metres in the LiDAR frame.
        labels: [N] uint8 class 1…C, 0 unknown.
        probabilities: [N, C] float32 of the classes, by the network.
        inside: [N] bool which points the network says something of.
        weak: [N] uint8 class of the masks, `UNKNOWN` where none; None without masks.
        mask_classes: how many classes the masks have.
    """

    points_m: NDArray[np.float32] = field(repr=False)
    labels: NDArray[np.uint8] = field(repr=False)
    probabilities: NDArray[np.float32] = field(repr=False)
    inside: NDArray[np.bool_] = field(repr=False)
    weak: NDArray[np.uint8] | None = field(default=None, repr=False)
    mask_classes: int = 0

    def seen_by_masks(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """[mask_classes] how many of some points each class of the masks has."""
        if self.weak is None:
            return np.zeros(0, np.int64)
        known = self.weak[rows]
        return np.bincount(known[known != UNKNOWN], minlength=self.mask_classes)


@dataclass(frozen=True)
class Candidate:
    """Points of one label that are together, most of which the network gives another class.

    Attributes:
        cluster: where they are.
        rows: [n] int32 the points, rising.
        given: class 1…C that they are labelled as.
        dissent: the share that the network gives another class than the label.
        mean: [C] float32 mean class probabilities.
        masks: [M] int64 how many points each class of the masks has; empty without masks.
    """

    cluster: Cluster
    rows: NDArray[np.int32] = field(repr=False)
    given: int
    dissent: float
    mean: NDArray[np.float32] = field(repr=False)
    masks: NDArray[np.int64] = field(repr=False)


def candidates(frame: int, points: Labelled) -> list[Candidate]:
    """What is doubted of a frame, the most doubted first, `MOST` at most.

    Args:
        frame: its place in the dataset.
        points: its points.
    """
    things = doubted(points)
    doubt = [float((1 - points.probabilities[rows, points.labels[rows] - 1]).sum()) for rows in things]
    most = sorted(range(len(things)), key=lambda place: (-doubt[place], int(things[place][0])))[:MOST]
    return [_candidate(frame, things[place], points) for place in most]


def doubted(points: Labelled) -> list[NDArray[np.int64]]:
    """The points of each thing that is doubted.

    A cell is doubted where the network gives at least half of the points of a label in it another class. Such cells of
    the same label that touch, at corners too, are a thing, with all the points of the label in them.

    Returns:
        [n] rows of each, rising, `LEAST` or more.
    """
    rows = np.flatnonzero((points.labels != IGNORED) & points.inside)
    given = points.labels[rows].astype(np.int64)
    dissent = points.probabilities[rows].argmax(axis=1) + 1 != given
    flat_m = points.points_m[rows] * np.array([1, 1, 0], np.float32)
    cells = np.floor(flat_m[:, :2].astype(np.float64) / CELL_M).astype(np.int64)
    _, cell = np.unique(np.column_stack((given, cells)), axis=0, return_inverse=True)
    cell = cell.reshape(-1)  # NumPy 2.0 gives it another shape
    against, every = np.bincount(cell, weights=dissent), np.bincount(cell)
    held = np.flatnonzero((2 * against >= every)[cell]) if len(rows) else np.zeros(0, np.int64)
    number = connected(flat_m[held], given[held], CELL_M)
    order = np.argsort(number, kind="stable")
    parts = np.split(rows[held[order]], np.flatnonzero(np.diff(number[order])) + 1)
    return [part for part in parts if len(part) >= LEAST]


def _candidate(frame: int, rows: NDArray[np.int64], points: Labelled) -> Candidate:
    said, given = points.probabilities[rows], int(points.labels[rows[0]])
    predicted = said.argmax(axis=1)
    low, high = points.points_m[rows].min(axis=0), points.points_m[rows].max(axis=0)
    sure = float(said.max(axis=1).mean())
    cluster = Cluster(frame, int(rows[0]), len(rows), sure, _three((low + high) / 2), _three(high - low))
    dissent = float((predicted + 1 != given).mean())
    return Candidate(cluster, rows.astype(np.int32), given, dissent, said.mean(axis=0), points.seen_by_masks(rows))


def _three(values: NDArray[np.float32]) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 3) for value in values)
    return x, y, z
