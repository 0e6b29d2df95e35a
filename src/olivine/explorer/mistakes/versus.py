"""Where one network beats another: frames and clusters in which the first is right and the second is wrong."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from olivine.errors import UserError
from olivine.explorer.coloring import NOTHING, Coloring, Entry, compared
from olivine.explorer.mistakes.clusters import Cluster, Worst, clusters
from olivine.explorer.mistakes.confusion import KEPT, compared_classes, labels_of, surety
from olivine.explorer.subject.moments import Moment, Moments
from olivine.explorer.subject.networks import Answer, Network, may_predict

LEGEND = (
    Entry("both right", (72, 104, 88)),
    Entry("only the first right", (70, 160, 255)),
    Entry("only the second right", (255, 170, 50)),
    Entry("both wrong", (150, 52, 66)),
    Entry("unknown", NOTHING),
)
"""What the colours of a comparison of two networks mean; those in which they differ stand out."""

FIRST, SECOND = 1, 2
"""Entries of `LEGEND` in which one alone is right."""

ALL = 0
"""In place of a class: all of them together."""


def opponent(moments: Moments, network: Network, name: str = "") -> Network:
    """The network that another is compared with.

    Args:
        moments: the networks.
        network: the first.
        name: of the second; empty for the first other one that may predict classes.

    Raises:
        UserError: there is no other network, none of that name, or the first itself is named.
    """
    others = {key: other for key, other in moments.networks.items() if key != network.run.name}
    if name:
        if name not in others:
            known = ", ".join(others) or "no other run"
            raise UserError(f"against={name}: there is no such run beside {network.run.name}; there is {known}")
        return others[name]
    found = next((other for other in others.values() if may_predict(other)), None)
    if found is None:
        raise UserError("a comparison needs two networks; name a second run of `olivine segment`")
    return found


def duel(moments: Moments, moment: Moment, first: Answer, second: Answer) -> NDArray[np.int64]:
    """[N] entry of `LEGEND` of each point; a point without a prediction is wrong.

    Raises:
        UserError: one of them predicts no classes.
    """
    if first.probabilities is None or second.probabilities is None:
        raise UserError("only networks that predict classes can be compared; name runs of `olivine segment`")
    right, known = [], np.ones(len(moment.frame.points_lidar_m), bool)
    for answer in (first, second):
        predicted, labels = compared(moments, moment, answer)
        right.append(predicted == labels)
        known &= labels != 0
    entry = np.where(right[0], np.where(right[1], 0, FIRST), np.where(right[1], SECOND, 3))
    return np.where(known, entry, 4).astype(np.int64)


def coloring(moments: Moments, moment: Moment, first: Network, second: Network) -> Coloring:
    """Points by which of two networks is right about them.

    Raises:
        UserError: one of them predicts no classes, or cannot be read.
    """
    entry = duel(moments, moment, moment.answer(first), moment.answer(second))
    return Coloring(np.array([line.color for line in LEGEND], np.uint8)[entry], entry, LEGEND)


@dataclass(frozen=True)
class Margin:
    """By how much a network is ahead in a frame.

    Attributes:
        frame: place of the frame in the dataset.
        points: those that it alone has right.
        lost: those that the other alone has right.
    """

    frame: int
    points: int
    lost: int

    @property
    def ahead(self) -> int:
        """`points` less `lost`."""
        return self.points - self.lost


@dataclass(frozen=True)
class Fought:
    """What a frame adds to a comparison in C classes.

    Attributes:
        counts: [C, 4] int64 labelled points by true class and entry of `LEGEND`.
        clusters: (true class, `FIRST` or `SECOND`, cluster) of the worst clusters.
    """

    counts: NDArray[np.int64] = field(repr=False)
    clusters: list[tuple[int, int, Cluster]] = field(repr=False)


class Versus:
    """Two networks compared, added up frame by frame. Several threads may ask it.

    Args:
        moments: the frames.
        first: a network.
        second: the other.
        kept: so many frames and clusters of each class and side are kept.

    Attributes:
        names: [C] the classes.
        weak: whether weak labels are compared with.
        frames: frames counted so far.

    Raises:
        UserError: one predicts no classes, or others than the other where a dataset has no labels; its weights cannot
            be read; or there is nothing to compare with.
    """

    def __init__(self, moments: Moments, first: Network, second: Network, kept: int = KEPT) -> None:
        self._moments, self._kept = moments, kept
        self.names, self.weak = compared_classes(moments, first)
        if compared_classes(moments, second)[0] != self.names:
            raise UserError(
                f"{first.run.name} and {second.run.name} predict different classes, and there are no labels"
            )
        self.frames = 0
        self._counts = np.zeros((len(self.names), 4), np.int64)
        self._frames, self._clusters = Worst[Margin](kept), Worst[Cluster](kept)
        self._lock = threading.Lock()

    def look(self, moment: Moment, first: Answer, second: Answer) -> Fought:
        """Compare them in a frame, for `Survey`; changes nothing here.

        Raises:
            UserError: its labels are none of the class set, or a mask cannot be read.
        """
        count = len(self.names)
        truth = labels_of(self._moments, moment, first, weak=self.weak)
        if truth is None:
            return Fought(np.zeros((count, 4), np.int64), [])
        labels = truth[1].astype(np.int64)
        entry = duel(self._moments, moment, first, second)
        known = entry < 4
        counts = np.bincount((labels[known] - 1) * 4 + entry[known], minlength=4 * count).reshape(count, 4)
        # Of those that one alone has right, as sure as the other was of what is wrong.
        loser = np.where(entry == FIRST, surety(second), surety(first))
        group = np.where(np.isin(entry, (FIRST, SECOND)), (labels - 1) * 4 + entry, -1)
        found = clusters(moment.index, moment.frame.points_lidar_m, group, loser, self._kept)
        return Fought(counts, [(at // 4 + 1, at % 4, cluster) for at, cluster in found])

    def add(self, place: int, found: Fought) -> None:
        """Count in what `look` found of the frame at `place`."""
        sums = {ALL: found.counts.sum(axis=0)} | {row + 1: counts for row, counts in enumerate(found.counts)}
        with self._lock:
            self.frames += 1
            self._counts += found.counts
            for truth, counts in sums.items():
                for side, other in ((FIRST, SECOND), (SECOND, FIRST)):
                    margin = Margin(place, int(counts[side]), int(counts[other]))
                    if margin.ahead > 0:
                        self._frames.add((truth, side), (margin.ahead, margin.points, -place), margin)
            for truth, side, cluster in found.clusters:
                self._clusters.add((truth, side), cluster.badness, cluster)

    @property
    def counts(self) -> NDArray[np.int64]:
        """[C, 4] labelled points by true class: both right, only the first, only the second, both wrong."""
        with self._lock:
            return np.array(self._counts)

    def best_frames(self, side: int, truth: int = ALL) -> list[Margin]:
        """The frames in which a side is ahead, by most points first.

        Args:
            side: `FIRST` or `SECOND`.
            truth: a true class 1…C, or `ALL`.
        """
        with self._lock:
            return self._frames.of((truth, side))

    def best_clusters(self, side: int, truth: int = ALL) -> list[Cluster]:
        """The clusters that a side alone has right, those first of which the other was surest and that are largest.

        Args: as of `best_frames`.
        """
        with self._lock:
            classes = range(1, len(self.names) + 1) if truth == ALL else (truth,)
            return self._clusters.of(*((each, side) for each in classes))
