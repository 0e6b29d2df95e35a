"""Likely label errors of a dataset: things whose labels a network and the masks contradict, the likeliest first.

How much a contradiction counts depends on how well the class that is seen is known from the one that is labelled.
Both are counted over the whole dataset, as confident learning does (Northcutt, Jiang & Chuang 2021,
arXiv 1911.00068): T(k | c), the mean probability that the network gives class k on points labelled c; and likewise
M(m | c), the share of mask class m. For a thing labelled g, of mean probabilities p, and s_m the share of its points
that masks show as m,

    evidence(q) = Σ_k p_k log(T(k | q) / T(k | g)) + Σ_m s_m log(M(m | q) / M(m | g))

says how much better q explains what is seen than g does, q being the class that the network finds most likely beside g.
Masks see a part of the points, or none, and count by that part; where the network is for g they are not asked. A
network that often takes trailers for trucks is little evidence against the label trailer where it says truck; one that
never takes cars for pedestrians is much. Classes of masks need not be those of labels.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from olivine.data.labels import IGNORED
from olivine.errors import UserError
from olivine.explorer.mistakes.candidates import Candidate, Labelled, candidates
from olivine.explorer.subject.moments import Moment, Moments
from olivine.explorer.subject.networks import Answer, Network, translation

LISTED = 1000
"""So many are listed."""

KEPT = 20_000
"""So many candidates are kept of a dataset; when there are twice as many the less likely ones are let go."""

FEW_POINTS = 15
"""A thing of so many points counts half: the fewer points there are, the less sure is anything about them."""

_FLOOR = 1e-3
"""Added to every share T and M, so that what was never seen is no proof."""


@dataclass(frozen=True)
class Tables:
    """What networks and masks say of points by their labels.

    Attributes:
        network: [C, C] sums of the class probabilities of points, by the points' label.
        masks: [C, M] counts of mask classes, by the points' label; M is 0 without masks.
    """

    network: NDArray[np.float64] = field(repr=False)
    masks: NDArray[np.float64] = field(repr=False)

    def __add__(self, other: Tables) -> Tables:
        return Tables(self.network + other.network, self.masks + other.masks)


@dataclass(frozen=True)
class Suspect:
    """A likely label error.

    Attributes:
        candidate: the thing.
        proposed: class 1…C that the network finds most likely beside the labelled one.
        score: how likely the label is wrong; of meaning against other scores only.
        network: evidence of the network, nats.
        masks: evidence of the masks, nats; 0 where they see nothing of it.
    """

    candidate: Candidate
    proposed: int
    score: float
    network: float
    masks: float


@dataclass(frozen=True)
class Doubts:
    """What is found in a frame.

    Attributes:
        tables: what its points add to those of the dataset; None where they have no labels.
        things: what is doubted.
    """

    tables: Tables | None
    things: list[Candidate]


def tables_of(points: Labelled) -> Tables:
    """The tables of a frame's points."""
    count = points.probabilities.shape[1]
    network, masks = np.zeros((count, count)), np.zeros((count, points.mask_classes))
    for given in np.unique(points.labels[(points.labels != IGNORED) & points.inside]).tolist():
        rows = np.flatnonzero((points.labels == given) & points.inside)
        network[given - 1] = points.probabilities[rows].sum(axis=0, dtype=np.float64)
        if points.weak is not None:
            masks[given - 1] = points.seen_by_masks(rows)
    return Tables(network, masks)


def rank(things: Sequence[Candidate], tables: Tables) -> list[Suspect]:
    """Score things by the tables of the whole dataset.

    The score is evidence · share of points seen otherwise · n / (n + `FEW_POINTS`), n being the number of points.

    Returns:
        Those with evidence for another class, the likeliest error first.
    """
    if not things:
        return []
    row = np.arange(len(things))
    given = np.array([thing.given - 1 for thing in things])
    mean = np.stack([thing.mean for thing in things]).astype(np.float64)
    network = _evidence(mean, tables.network, given)
    points = np.array([len(thing.rows) for thing in things])
    seen = np.stack([thing.masks for thing in things]) / points[:, None]
    masks = _evidence(seen, tables.masks, given)
    mean[row, given] = -1
    best = mean.argmax(axis=1)
    both = np.where(network > 0, network + masks, -np.inf)
    score = both[row, best] * [thing.dissent for thing in things] * points / (points + FEW_POINTS)
    first = [(thing.cluster.row, thing.cluster.frame) for thing in things]
    order = np.lexsort((*np.array(first).T, -score))
    return [
        Suspect(
            things[at], int(best[at]) + 1, float(score[at]), float(network[at, best[at]]), float(masks[at, best[at]])
        )
        for at in order[: int((score > 0).sum())]
    ]


class LabelErrors:
    """The likely label errors of a dataset, gathered frame by frame. Several threads may ask it.

    Args:
        moments: the frames.
        network: what doubts their labels.

    Attributes:
        frames: frames with labels that were gathered so far.

    Raises:
        UserError: the dataset has no labels, the network predicts none of its classes, or its weights cannot be read.
    """

    def __init__(self, moments: Moments, network: Network) -> None:
        self._moments, self.frames = moments, 0
        classes, known = moments.dataset.classes, network.model.classes
        if not classes.count:
            raise UserError(f"{moments.dataset.name}: its points have no labels, so none can be wrong")
        if known is None:
            raise UserError(f"{network.run.path}: predicts no classes; name a run of `olivine segment`")
        self._place = translation(known.names, classes.names)[1:]
        if not self._place.any():
            raise UserError(f"{network.run.path}: knows none of the classes of {moments.dataset.name}")
        self._tables: Tables | None = None
        self._things: list[Candidate] = []
        self._lock = threading.Lock()

    def look(self, moment: Moment, answer: Answer) -> Doubts:
        """What is doubted of a frame, for `Survey`; changes nothing here.

        Raises:
            UserError: its labels are none of the class set, or a mask cannot be read.
        """
        frame, manifest = moment.frame, self._moments.dataset.manifest
        if frame.label_fault is not None:
            raise UserError(frame.label_fault)
        if frame.labels is None:
            return Doubts(None, [])
        points = Labelled(
            frame.points_lidar_m,
            frame.labels,
            self._probabilities(answer),
            answer.inside,
            None if manifest is None else moment.weak,
            0 if manifest is None else len(manifest.classes),
        )
        return Doubts(tables_of(points), candidates(moment.index, points))

    def add(self, place: int, found: Doubts) -> None:  # noqa: ARG002 (as a `Tally` has it)
        """Count in what `look` found of the frame at `place`."""
        if found.tables is None:
            return
        with self._lock:
            self._tables = found.tables if self._tables is None else self._tables + found.tables
            self.frames += 1
            self._things += found.things
            if len(self._things) > 2 * KEPT:
                self._things = [suspect.candidate for suspect in rank(self._things, self._tables)[:KEPT]]

    def ranked(self, most: int = LISTED) -> list[Suspect]:
        """The likeliest label errors of the frames so far, the likeliest first."""
        with self._lock:
            return [] if self._tables is None else rank(self._things, self._tables)[:most]

    def _probabilities(self, answer: Answer) -> NDArray[np.float32]:
        """[N, C] what the network says of the dataset's classes, by their names; zeros of those that it lacks."""
        assert answer.probabilities is not None, "as was made sure"
        found = np.zeros((len(answer.inside), self._moments.dataset.classes.count + 1), np.float32)
        np.add.at(found.T, self._place, answer.probabilities.T)
        return found[:, 1:]


def _evidence(seen: NDArray[np.float64], sums: NDArray[np.float64], given: NDArray[np.int64]) -> NDArray[np.float64]:
    """[K, C] how much better each class explains what is seen of things than the labelled one does, nats.

    Args:
        seen: [K, M] share of each of what there is to see; zeros say nothing.
        sums: [C, M] the same over the whole dataset, by label.
        given: [K] place of the labelled class.
    """
    if not sums.size:
        return np.zeros((len(seen), len(sums)))
    shares = sums / np.maximum(sums.sum(axis=1, keepdims=True), 1e-9) + _FLOOR
    logs = np.log(shares / shares.sum(axis=1, keepdims=True))
    explained = seen @ logs.T
    return np.asarray(explained - explained[np.arange(len(seen)), given][:, None])
