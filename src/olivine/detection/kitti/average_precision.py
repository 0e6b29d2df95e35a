"""KITTI's average precision, from labels and detections in memory.

For every class, difficulty and metric the scores at which recall reaches 0, 1/40, … 1 are found first, by letting each
object take the surest detection that overlaps it enough. At each of these scores objects then take the detection that
overlaps them most, and precision is right / (right + wrong). It is made monotone from the right, and its mean over 40
or 11 of the steps is the average precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olivine.data.kitti_labels import UNSET_ALPHA_RAD, ObjectLabels
from olivine.detection.kitti.frames import ObjectTable, Rows
from olivine.detection.kitti.matching import NONE, Candidates, choose
from olivine.detection.kitti.pairs import Pairs, excused_share, find_pairs
from olivine.detection.kitti.rules import (
    CLASSES,
    DIFFICULTIES,
    METRICS,
    OVERLAPS,
    RECALL_STEPS,
    ClassRule,
    Difficulty,
    Metric,
    class_rule,
)
from olivine.detection.kitti.scores import KittiScores
from olivine.errors import UserError

_Bools = NDArray[np.bool_]
_Numbers = NDArray[np.float64]

_IN_SPACE: tuple[Metric, ...] = ("bev", "3d")


def average_precision(
    truth: Sequence[ObjectLabels],
    detections: Sequence[ObjectLabels],
    classes: Sequence[str | ClassRule] = CLASSES,
    *,
    split: str = "",
) -> KittiScores:
    """Score detections by KITTI's rules.

    Args:
        truth: the labels of every frame, areas without labels (DontCare) included.
        detections: what was found in each of these frames, in the same order, with scores.
        classes: what is scored: names of KITTI's classes, and rules of others.
        split: what the frames are, for whoever reads the scores.

    Raises:
        UserError: the numbers of frames differ, detections lack scores, a number is not finite, or KITTI does not score
            a class.
    """
    if len(truth) != len(detections):
        raise UserError(f"labels of {len(truth)} frames, detections of {len(detections)}; give both for every frame")
    for frame, (labels, found) in enumerate(zip(truth, detections, strict=True)):
        if found.score is None:
            raise UserError(f"the detections of frame {frame} (counted from 0) have no scores; give every one a score")
        if not (_finite(labels) and _finite(found)):
            raise UserError(f"frame {frame} (counted from 0) holds numbers that are not finite; leave such objects out")
    rules = [class_rule(name) for name in classes]
    scene = _Scene.of(ObjectTable.of(truth), ObjectTable.of(detections))
    results = [_score_class(scene, rule) for rule in rules]
    return KittiScores(
        rules=tuple(rules),
        frames=len(truth),
        split=split,
        objects=np.array([result.objects for result in results], np.int64).reshape(len(rules), len(DIFFICULTIES)),
        detections=np.array([(scene.found.kind == rule.name.lower()).sum() for rule in rules], np.int64),
        precision={metric: np.stack([result.precision[metric] for result in results]) for metric in METRICS},
    )


def _finite(objects: ObjectLabels) -> bool:
    numbers = (objects.image_box, objects.size_hwl_m, objects.location_m, objects.rotation_y_rad, objects.alpha_rad)
    return all(np.isfinite(part).all() for part in (*numbers, () if objects.score is None else objects.score))


@dataclass(frozen=True)
class _Scene:
    """Everything that the scores of all classes are made of."""

    truth: ObjectTable
    found: ObjectTable
    pairs: Pairs
    excused: _Numbers
    frame_of_truth: Rows

    @classmethod
    def of(cls, truth: ObjectTable, found: ObjectTable) -> _Scene:
        return cls(truth, found, find_pairs(truth, found), excused_share(truth, found), truth.frame)


@dataclass(frozen=True)
class _ClassResult:
    """Of one class: objects that count [3], and per metric the precision [3, 2, 41]."""

    objects: list[int]
    precision: dict[Metric, _Numbers]


@dataclass(frozen=True)
class _Part:
    """One class at one difficulty.

    Attributes:
        counted: [M] objects that must be found.
        neutral: [M] objects that may be found.
        judged: [D] detections that are right or wrong.
        low: [D] detections of any class that are too low in the image to be either.
    """

    counted: _Bools
    neutral: _Bools
    judged: _Bools
    low: _Bools


def _part(scene: _Scene, rule: ClassRule, difficulty: Difficulty) -> _Part:
    truth, found = scene.truth, scene.found
    clear = (
        (truth.height_px >= difficulty.height_px)
        & (truth.occlusion <= difficulty.occlusion)
        & (truth.truncation <= difficulty.truncation)
    )
    own = truth.kind == rule.name.lower()
    alike = truth.kind == (rule.neutral or "").lower()
    low = found.height_px < difficulty.height_px
    return _Part(own & clear, (own & ~clear) | alike, (found.kind == rule.name.lower()) & ~low, low)


def _score_class(scene: _Scene, rule: ClassRule) -> _ClassResult:
    shape = (len(DIFFICULTIES), len(OVERLAPS), RECALL_STEPS)
    precision: dict[Metric, _Numbers] = {metric: np.full(shape, np.nan) for metric in METRICS}
    own = scene.found.kind == rule.name.lower()
    has_heading = not (scene.found.alpha_rad[own] == UNSET_ALPHA_RAD).any()
    has_boxes = bool(scene.found.has_box[own].any()) or not own.any()
    objects = []
    for level, difficulty in enumerate(DIFFICULTIES):
        part = _part(scene, rule, difficulty)
        objects.append(int(part.counted.sum()))
        if objects[-1] == 0:
            continue  # no recall without objects
        curve, heading = _curve(scene, part, "bbox", rule.strict)
        precision["bbox"][level] = curve
        if has_heading:
            precision["aos"][level] = heading
        for metric in _IN_SPACE if has_boxes else ():
            for column, overlaps in enumerate(OVERLAPS):
                precision[metric][level, column] = _curve(scene, part, metric, rule.overlap(metric, overlaps))[0]
    return _ClassResult(objects, precision)


def _curve(scene: _Scene, part: _Part, metric: str, least: float) -> tuple[_Numbers, _Numbers]:
    """Precision at the 41 recall steps, and the same with every right detection weighted by its heading."""
    overlap, score = scene.pairs.overlap[metric], scene.found.score
    mine = (part.counted | part.neutral)[scene.pairs.truth] & (overlap > least)
    present = np.flatnonzero(mine & (part.judged | part.low)[scene.pairs.detection])
    truth, detection = scene.pairs.truth[present], scene.pairs.detection[present]
    surest = Candidates.of(truth, detection, _rank(-score[detection]), scene.frame_of_truth)
    by_score = choose(surest, score, np.array([-np.inf]))
    right = by_score[_right(surest.truth, by_score, part)]
    thresholds = recall_thresholds(score[right], int(part.counted.sum()))

    # An object takes one that is too low only where no other is left, and nothing comes of it.
    present = present[part.judged[detection]]
    truth, detection = scene.pairs.truth[present], scene.pairs.detection[present]
    nearest = Candidates.of(truth, detection, _rank(-overlap[present]), scene.frame_of_truth)
    met = choose(nearest, score, thresholds)
    hit = _right(nearest.truth, met, part)
    excused = (scene.excused > least) if metric == "bbox" else np.zeros(len(score), np.bool_)
    wrong = _wrong(score, part.judged & ~excused, met, thresholds)
    turned = scene.truth.alpha_rad[nearest.truth][:, None] - scene.found.alpha_rad[met]
    similar = np.where(hit, (1 + np.cos(turned)) / 2, 0).sum(0)
    return _monotone(hit.sum(0), hit.sum(0) + wrong), _monotone(similar, hit.sum(0) + wrong)


def recall_thresholds(scores: _Numbers, objects: int) -> _Numbers:
    """The scores at which recall comes nearest to 0, 1/40, 2/40, ….

    Args:
        scores: [R] of the detections that are right, in any order.
        objects: how many were to be found.

    Returns:
        [at most 41] scores, descending.
    """
    ordered = np.sort(scores)[::-1]
    taken: list[int] = []
    recall = 0.0
    for place in range(len(ordered)):
        here, last = (place + 1) / objects, place == len(ordered) - 1
        following = here if last else (place + 2) / objects
        if last or following - recall >= recall - here:
            taken.append(place)
            recall += 1 / (RECALL_STEPS - 1)
    return ordered[taken]


def _rank(values: _Numbers) -> Rows:
    """[N] place of every value in ascending order; of equal ones the first comes first."""
    rank = np.empty(len(values), np.int64)
    rank[np.argsort(values, kind="stable")] = np.arange(len(values))
    return rank


def _right(truth: Rows, met: Rows, part: _Part) -> _Bools:
    """[G, T] whether an object that counts is met by a detection that counts."""
    return np.asarray((met != NONE) & part.counted[truth][:, None] & part.judged[met])


def _wrong(score: _Numbers, blamed: _Bools, met: Rows, thresholds: _Numbers) -> _Numbers:
    """[T] how many detections at each threshold nothing speaks for."""
    ascending = np.sort(score[blamed])
    present = len(ascending) - np.searchsorted(ascending, thresholds)
    return np.asarray(present - ((met != NONE) & blamed[met]).sum(0))


def _monotone(part: _Numbers, whole: _Numbers) -> _Numbers:
    """[41] part of whole, the best at this recall or a higher one; 0 beyond the highest."""
    curve = np.zeros(RECALL_STEPS)
    np.divide(part, whole, out=curve[: len(part)], where=whole > 0)
    return np.asarray(np.maximum.accumulate(curve[::-1])[::-1])
