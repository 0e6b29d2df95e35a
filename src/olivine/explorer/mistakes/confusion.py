"""The confusion matrix of a whole dataset, of which every cell knows its worst frames and clusters of points."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from olivine.errors import UserError
from olivine.explorer.coloring import compared
from olivine.explorer.mistakes.clusters import Cluster, Worst, clusters
from olivine.explorer.mistakes.survey import spread
from olivine.explorer.subject.moments import Moment, Moments
from olivine.explorer.subject.networks import Answer, Network

KEPT = 20
"""So many frames and clusters of each cell are kept."""

LOOKED_AT = 4
"""So many frames say whether a dataset has labels."""

NONE = "none"
"""What the column of points without a prediction is called."""


@dataclass(frozen=True)
class Cell:
    """A cell of the matrix.

    Attributes:
        truth: true class 1…C.
        predicted: predicted class 1…C; 0 for none.
        points: how many points it has.
        share: of the points of the true class, 0…1.
    """

    truth: int
    predicted: int
    points: int
    share: float


@dataclass(frozen=True)
class Share:
    """What a frame has of a cell.

    Attributes:
        frame: place of the frame in the dataset.
        points: of the frame in the cell.
        of: points of the true class in the frame.
    """

    frame: int
    points: int
    of: int


@dataclass(frozen=True)
class Counted:
    """What a frame adds to a matrix of C classes.

    Attributes:
        points: how many it has, labelled or not.
        counts: [C, C + 1] int64 by true class and predicted class, column 0 for none.
        clusters: (true class, predicted class, cluster) of the worst clusters of each cell that is wrong.
    """

    points: int
    counts: NDArray[np.int64] = field(repr=False)
    clusters: list[tuple[int, int, Cluster]] = field(repr=False)


class Confusion:
    """What a network confuses, added up frame by frame. Several threads may ask it.

    Points without a label are not counted; a point without a prediction is wrong, as in `olivine segment`. What is
    predicted is brought to the dataset's classes by their names. Where no frame has labels, weak labels are what is
    compared with, in the network's own classes.

    Args:
        moments: the frames.
        network: the network.
        kept: so many frames and clusters of each cell are kept.

    Attributes:
        names: [C] the classes.
        weak: whether weak labels are compared with.
        frames: frames counted so far.
        labelled: those of them that have labels.
        points: their points, labelled or not.

    Raises:
        UserError: the network predicts no classes, its weights cannot be read, or there is nothing to compare with.
    """

    def __init__(self, moments: Moments, network: Network, kept: int = KEPT) -> None:
        self._moments, self._kept = moments, kept
        self.names, self.weak = compared_classes(moments, network)
        self.frames, self.labelled, self.points = 0, 0, 0
        self._counts = np.zeros((len(self.names), len(self.names) + 1), np.int64)
        self._frames, self._clusters = Worst[Share](kept), Worst[Cluster](kept)
        self._lock = threading.Lock()

    def look(self, moment: Moment, answer: Answer) -> Counted:
        """Count a frame, for `Survey`; changes nothing here.

        Raises:
            UserError: its labels are none of the class set, or a mask cannot be read.
        """
        count, points = len(self.names), len(moment.frame.points_lidar_m)
        truth = labels_of(self._moments, moment, answer, weak=self.weak)
        if truth is None:
            return Counted(points, np.zeros((count, count + 1), np.int64), [])
        labels, predicted = truth[1].astype(np.int64), truth[0].astype(np.int64)
        cell = np.where(labels == 0, -1, (labels - 1) * (count + 1) + predicted)
        counts = np.bincount(cell[cell >= 0], minlength=count * (count + 1)).reshape(count, count + 1)
        wrong = np.where(predicted == labels, -1, cell)
        found = clusters(moment.index, moment.frame.points_lidar_m, wrong, surety(answer), self._kept)
        return Counted(points, counts, [(at // (count + 1) + 1, at % (count + 1), cluster) for at, cluster in found])

    def add(self, place: int, found: Counted) -> None:
        """Count in what `look` found of the frame at `place`."""
        total = found.counts.sum(axis=1)
        with self._lock:
            self.frames, self.points = self.frames + 1, self.points + found.points
            self.labelled += int(found.counts.any())
            self._counts += found.counts
            for row, column in zip(*np.nonzero(found.counts), strict=True):
                if row + 1 != column:
                    points = int(found.counts[row, column])
                    share = Share(place, points, int(total[row]))
                    self._frames.add((int(row) + 1, int(column)), (points, -place), share)
            for truth, predicted, cluster in found.clusters:
                self._clusters.add((truth, predicted), cluster.badness, cluster)

    @property
    def counts(self) -> NDArray[np.int64]:
        """[C, C + 1] points by true class and predicted class, column 0 for none."""
        with self._lock:
            return np.array(self._counts)

    def name(self, number: int) -> str:
        """What class 1…C is called; `NONE` for 0."""
        return self.names[number - 1] if number else NONE

    def cells(self) -> list[Cell]:
        """The cells that are wrong and not empty, worst first: those with most points."""
        counts = self.counts
        total = counts.sum(axis=1)
        found = [
            Cell(int(row) + 1, int(column), int(counts[row, column]), float(counts[row, column] / total[row]))
            for row, column in zip(*np.nonzero(counts), strict=True)
            if row + 1 != column
        ]
        return sorted(found, key=lambda cell: (-cell.points, cell.truth, cell.predicted))

    def worst_frames(self, truth: int, predicted: int) -> list[Share]:
        """The frames of a cell, those with most points first."""
        with self._lock:
            return self._frames.of((truth, predicted))

    def worst_clusters(self, truth: int, predicted: int) -> list[Cluster]:
        """The clusters of a cell, worst first."""
        with self._lock:
            return self._clusters.of((truth, predicted))


def compared_classes(moments: Moments, network: Network) -> tuple[tuple[str, ...], bool]:
    """The classes in which a network is compared with labels, the dataset's, or with weak labels, the network's own.

    Returns:
        The classes, and whether labels are weak.

    Raises:
        UserError: the network predicts no classes, its weights cannot be read, or there is nothing to compare with.
    """
    own = network.model.classes
    if own is None:
        raise UserError(f"{network.run.name}: this network predicts no classes; name a run of `olivine segment`")
    masks = moments.dataset.manifest is not None
    if moments.dataset.classes.count and not (masks and _unlabelled(moments)):
        return moments.dataset.classes.names, False
    if not masks:
        raise UserError(f"{moments.dataset.name}: neither labels nor masks, so that nothing is known to be wrong")
    return own.names, True


def _unlabelled(moments: Moments) -> bool:
    """Whether some frames, spread over the dataset, have no labels and can be read."""
    frames = []
    for place in spread(len(moments))[:LOOKED_AT]:
        with suppress(UserError):
            frames.append(moments.glimpse(place).frame)
    return bool(frames) and all(frame.labels is None for frame in frames)


def labels_of(
    moments: Moments, moment: Moment, answer: Answer, *, weak: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """[N] what is predicted and [N] labels, in the classes of `compared_classes`; None where the frame has no labels.

    Args:
        moments: the frames.
        moment: the frame.
        answer: what a network says of it.
        weak: whether weak labels are what is compared with, and not those of points.

    Raises:
        UserError: its labels are none of the class set, or a mask cannot be read.
    """
    if moment.frame.label_fault is not None:
        raise UserError(moment.frame.label_fault)
    if weak != (moment.frame.labels is None):
        return None
    return compared(moments, moment, answer)


def surety(answer: Answer) -> NDArray[np.float32]:
    """[N] probability of what is predicted of each point; 0 outside the grid."""
    assert answer.probabilities is not None
    return np.asarray(answer.probabilities.max(axis=1))
