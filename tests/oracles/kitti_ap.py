"""KITTI's average precision, one object, one detection and one threshold at a time, with shapely's polygons.

Slow and plain: written from the rules of the benchmark, nothing shared with the package but the class of labels.
"""

from __future__ import annotations

import math

from shapely import affinity
from shapely.geometry import box as rectangle

from olivine.data.kitti_labels import ObjectLabels

NEUTRAL = {"car": "van", "pedestrian": "person_sitting", "cyclist": ""}
STRICT = {"car": 0.7, "pedestrian": 0.5, "cyclist": 0.5}
LOOSE = {"car": 0.5, "pedestrian": 0.25, "cyclist": 0.25}
LEVELS = ((40, 0, 0.15), (25, 1, 0.3), (25, 2, 0.5))


def image_area(box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def image_common(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def footprint(objects: ObjectLabels, row: int):
    """The object from above: camera x to the right, camera z up the page; positive rotation_y turns clockwise there."""
    _, width, length = objects.size_hwl_m[row]
    x, _, z = objects.location_m[row]
    flat = rectangle(-length / 2, -width / 2, length / 2, width / 2)
    turned = affinity.rotate(flat, -objects.rotation_y_rad[row], origin=(0, 0), use_radians=True)
    return affinity.translate(turned, x, z)


def overlap(metric: str, truth: ObjectLabels, i: int, found: ObjectLabels, j: int) -> float:
    if metric == "bbox":
        a, b = truth.image_box[i], found.image_box[j]
        common = image_common(a, b)
        union = image_area(a) + image_area(b) - common
        return common / union if union > 0 else 0.0
    if min(truth.size_hwl_m[i].min(), found.size_hwl_m[j].min()) < 0:
        return 0.0
    one, other = footprint(truth, i), footprint(found, j)
    common = one.intersection(other).area
    whole = one.area + other.area
    if metric == "3d":
        high = min(truth.location_m[i][1], found.location_m[j][1])
        low = max(truth.location_m[i][1] - truth.size_hwl_m[i][0], found.location_m[j][1] - found.size_hwl_m[j][0])
        common *= max(0.0, high - low)
        whole = one.area * truth.size_hwl_m[i][0] + other.area * found.size_hwl_m[j][0]
    return common / (whole - common) if whole > common else 0.0


class Frame:
    """What one frame's objects and detections are for a class at a difficulty."""

    def __init__(self, truth: ObjectLabels, found: ObjectLabels, name: str, level: int, metric: str):
        height, occlusion, truncation = LEVELS[level]
        self.truth, self.found = truth, found
        self.state = []  # of objects: counted, neutral, or None
        for i, kind in enumerate(word.lower() for word in truth.names):
            box = truth.image_box[i]
            easy = box[3] - box[1] >= height and truth.occlusion[i] <= occlusion and truth.truncation[i] <= truncation
            own = kind == name
            self.state.append("counted" if own and easy else "neutral" if own or kind == NEUTRAL[name] else None)
        self.judged = []  # of detections: judged, low, or None
        for j, kind in enumerate(word.lower() for word in found.names):
            box = found.image_box[j]
            self.judged.append("low" if box[3] - box[1] < height else "judged" if kind == name else None)
        self.overlaps = {
            (i, j): overlap(metric, truth, i, found, j)
            for i in range(len(truth))
            for j in range(len(found))
            if self.state[i] and self.judged[j]
        }
        self.areas = [truth.image_box[i] for i, kind in enumerate(truth.names) if kind.lower() == "dontcare"]

    def surest(self, least: float) -> list[float]:
        """The scores of right detections when every object takes the surest one."""
        taken, scores = set(), []
        for i, state in enumerate(self.state):
            best = None
            for j, judged in enumerate(self.judged):
                free = state and judged and j not in taken and self.overlaps[i, j] > least
                if free and (best is None or self.found.score[j] > self.found.score[best]):
                    best = j
            if best is not None:
                taken.add(best)
                if state == "counted" and self.judged[best] == "judged":
                    scores.append(float(self.found.score[best]))
        return scores

    def count(self, least: float, threshold: float, excuse: bool) -> tuple[int, int, float]:
        """(right, wrong, sum of heading similarities) among the detections that reach a score."""
        there = [j for j, judged in enumerate(self.judged) if judged and self.found.score[j] >= threshold]
        taken, right, similar = set(), 0, 0.0
        for i, state in enumerate(self.state):
            open_to = [j for j in there if state and j not in taken and self.overlaps[i, j] > least]
            good = [j for j in open_to if self.judged[j] == "judged"]
            if not open_to:
                continue
            # max() keeps the first of equals, as the benchmark does.
            best = max(good, key=lambda j, i=i: self.overlaps[i, j]) if good else open_to[0]
            taken.add(best)
            if state == "counted" and good:
                right += 1
                similar += (1 + math.cos(self.truth.alpha_rad[i] - self.found.alpha_rad[best])) / 2
        wrong = [j for j in there if self.judged[j] == "judged" and j not in taken]
        if excuse:
            wrong = [j for j in wrong if not self.excused(j, least)]
        return right, len(wrong), similar

    def excused(self, j: int, least: float) -> bool:
        box = self.found.image_box[j]
        return any(image_common(area, box) / image_area(box) > least for area in self.areas if image_area(box) > 0)


def precision_curve(truths, detections, name: str, level: int, metric: str, least: float):
    """([41] precision, [41] orientation similarity, number of objects); None for the curves without objects."""
    frames = [Frame(truth, found, name.lower(), level, metric) for truth, found in zip(truths, detections, strict=True)]
    objects = sum(frame.state.count("counted") for frame in frames)
    if objects == 0:
        return None, None, 0
    scores = sorted((score for frame in frames for score in frame.surest(least)), reverse=True)
    thresholds, recall = [], 0.0
    for place, score in enumerate(scores):
        left = (place + 1) / objects
        right = (place + 2) / objects if place + 1 < len(scores) else left
        if right - recall < recall - left and place + 1 < len(scores):
            continue
        thresholds.append(score)
        recall += 1 / 40
    precision, similarity = [0.0] * 41, [0.0] * 41
    for step, threshold in enumerate(thresholds):
        counts = [frame.count(least, threshold, metric == "bbox") for frame in frames]
        right, wrong, similar = (sum(column) for column in zip(*counts, strict=True))
        if right + wrong:
            precision[step], similarity[step] = right / (right + wrong), similar / (right + wrong)
    return (
        [max(precision[step:]) for step in range(41)],
        [max(similarity[step:]) for step in range(41)],
        objects,
    )
