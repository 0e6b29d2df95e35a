"""What `olivine check` counts of annotated boxes, and what it concludes about the calibration.

Boxes of a dataset that labels objects in space and in the image apart (KITTI) are looked at twice. Drawn on the image
they must meet the labelled image boxes, which says that the camera's matrix and the labels fit. And visible objects
must hold points, which says that the LiDAR's mount fits; the first comparison hardly sees that, since such labels stand
in the camera's frame and the mount cancels. Single frames are judged mildly, as labels of single objects are wrong here
and there; over a whole dataset small faults show too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from olivine.data.frame import Boxes, Camera, Frame
from olivine.errors import printable
from olivine.geometry import points_in_boxes
from olivine.geometry.edges import camera_edges, image_boxes

T = TypeVar("T")

MIN_AGREEMENT, MIN_AGREEMENT_OF_ALL = 0.5, 0.8
"""A median IoU below this, of a frame and of a dataset, is a problem. KITTI's boxes agree to 0.99, its pedestrians to
0.88; a focal length that is 10 % off gives 0.62."""

MAX_EMPTY, MAX_EMPTY_OF_ALL = 0.5, 0.15
"""A larger share of visible boxes without points, of a frame and of a dataset, is a problem. KITTI has 4 %; a LiDAR
that is turned by 2° gives 18 %."""

FEWEST_OF_FRAME, FEWEST_OF_ALL = 3, 10
"""Fewer boxes than this say nothing about the calibration of a frame, or of a dataset."""

LARGE_M = 3.0
"""Objects of at least this length on average are given the anchors' overlaps of cars, shorter ones those of people."""

LARGE_IOU, SMALL_IOU = (0.6, 0.45), (0.5, 0.35)
"""`positive_iou` and `negative_iou` of anchors, as published for KITTI's cars, and for its pedestrians and cyclists."""

LEVELS = ("easy", "moderate", "hard", "none")
"""Names of the difficulties 0, 1, 2 and -1, in that order."""


@dataclass
class BoxReport:
    """What the boxes of a dataset are.

    Attributes:
        frames: number of annotated frames.
        without: how many of them have no box.
        points: number of points in each box, by category.
        difficulty: difficulty of each box, by category; empty where the dataset has none.
        agreement: IoU of each labelled image box with what the box in space spans in that image; empty without them.
        measures_m: length, width, height of each box and how high its bottom is above the LiDAR, by category.
    """

    frames: int = 0
    without: int = 0
    points: dict[str, list[int]] = field(default_factory=dict)
    difficulty: dict[str, list[int]] = field(default_factory=dict)
    agreement: list[float] = field(default_factory=list)
    measures_m: dict[str, list[list[float]]] = field(default_factory=dict)

    def add(self, frame: Frame, where: str) -> Iterator[str]:
        """Count the boxes of a frame.

        Args:
            frame: a frame whose boxes are finite and have positive sides.
            where: what it is called in messages.

        Yields:
            What is wrong with them, a line each.
        """
        if frame.boxes is None:
            return
        boxes, self.frames = frame.boxes, self.frames + 1
        self.without += not len(boxes.names)
        counts = points_in_boxes(frame.points_lidar_m, boxes.boxes).sum(axis=1)
        bottom_m = boxes.boxes[:, 2] - boxes.boxes[:, 5] / 2
        measures_m = np.column_stack((boxes.boxes[:, 3:6], bottom_m)).tolist()
        for name, count, measured_m in zip(boxes.names, counts.tolist(), measures_m, strict=True):
            self.points.setdefault(name, []).append(count)
            self.measures_m.setdefault(name, []).append(measured_m)
        if boxes.difficulty is not None:
            for name, level in zip(boxes.names, boxes.difficulty.tolist(), strict=True):
                self.difficulty.setdefault(name, []).append(level)
            yield from _empty(counts[boxes.difficulty >= 0], where)
        if boxes.image_boxes is not None and len(boxes.names) and frame.cameras:
            agreement = image_agreement(boxes, boxes.image_boxes, frame.cameras[0])
            self.agreement += agreement.tolist()
            yield from _apart(agreement, boxes.names, where)

    def problems(self, where: str) -> Iterator[str]:
        """What is wrong with the boxes of a whole dataset, a line each; `where` is what it is called."""
        median = float(np.median(self.agreement)) if len(self.agreement) >= FEWEST_OF_ALL else 1.0
        if median < MIN_AGREEMENT_OF_ALL:
            yield _disagree(where, len(self.agreement), median)
        visible = [
            points
            for name, levels in self.difficulty.items()
            for points, level in zip(self.points[name], levels, strict=True)
            if level >= 0
        ]
        empty = visible.count(0)
        if len(visible) >= FEWEST_OF_ALL and empty > MAX_EMPTY_OF_ALL * len(visible):
            yield _hold_none(where, len(visible), empty)

    def as_json(self) -> dict[str, Any]:
        """Frames, frames without boxes, and counts by category, ready for `json.dumps`.

        `{"frames": …, "frames_without": …, "classes": {category: {"boxes": …, "easy": …, "moderate": …, "hard": …,
        "none": …, "points_median": …, "without_points": …, "size_mean_m": [length, width, height], "bottom_mean_m":
        …}}, "image_box_iou_median": …}`; the levels and the last key only where the dataset has what they count.
        """
        found: dict[str, Any] = {"frames": self.frames, "frames_without": self.without}
        found["classes"] = {name: self._of_class(name) for name in sorted(self.points)}
        if self.agreement:
            found["image_box_iou_median"] = round(float(np.median(self.agreement)), 4)
        return found

    def lines(self) -> list[str]:
        """The same for people."""
        total = sum(map(len, self.points.values()))
        lines = [f"{total} boxes in {self.frames} annotated frames, {self.without} of them without a box"]
        for name in sorted(self.points, key=lambda name: (-len(self.points[name]), name)):
            of = self._of_class(name)
            levels = ", ".join(f"{level} {of[level]}" for level in LEVELS if level in of)
            lines.append(
                f"  {printable(name)}: {of['boxes']}{f' ({levels})' if levels else ''}, {of['points_median']:g} points "
                f"in the middle one, {of['without_points']} without a point"
            )
        if self.agreement:
            median = float(np.median(self.agreement))
            lines.append(f"boxes in space span their boxes in the image to an IoU of {median:.2f} (median)")
        return [*lines, *self._anchors()]

    def _anchors(self) -> list[str]:
        """Anchors of the mean sizes, to be pasted into a recipe, where the boxes are such as detectors learn from."""
        if not self.difficulty:
            return []
        lines = ["their mean sizes as anchors, for detector.anchors:"]
        for name in sorted(self.measures_m, key=lambda name: (-len(self.measures_m[name]), name)):
            of = self._of_class(name)
            positive, negative = LARGE_IOU if of["size_mean_m"][0] >= LARGE_M else SMALL_IOU
            lines.append(
                f"  - {{category: {json.dumps(name)}, size_m: {of['size_mean_m']}, bottom_m: {of['bottom_mean_m']}, "
                f"positive_iou: {positive}, negative_iou: {negative}}}"
            )
        return lines

    def merged(self, other: BoxReport) -> BoxReport:
        """One report of two datasets."""
        return BoxReport(
            self.frames + other.frames,
            self.without + other.without,
            _joined(self.points, other.points),
            _joined(self.difficulty, other.difficulty),
            self.agreement + other.agreement,
            _joined(self.measures_m, other.measures_m),
        )

    def _of_class(self, name: str) -> dict[str, Any]:
        points, levels = self.points[name], self.difficulty.get(name)
        known = (
            {} if levels is None else {level: levels.count(n) for level, n in zip(LEVELS, (0, 1, 2, -1), strict=True)}
        )
        *size_m, bottom_m = (np.mean(self.measures_m[name], axis=0).round(2) + 0.0).tolist()
        return {
            "boxes": len(points),
            **known,
            "points_median": float(np.median(points)),
            "without_points": sum(count == 0 for count in points),
            "size_mean_m": size_m,
            "bottom_mean_m": bottom_m,
        }


def image_agreement(boxes: Boxes, labelled: NDArray[np.float64], camera: Camera) -> NDArray[np.float64]:
    """How well boxes in space, drawn on an image, agree with the boxes that are labelled in it.

    Args:
        boxes: M boxes.
        labelled: [M, 4] their image boxes: left, top, right, bottom, pixels.
        camera: whose image it is.

    Returns:
        [M] IoU.
    """
    edges_px = camera_edges(boxes.boxes, camera.camera_from_lidar, camera.intrinsics)
    drawn = image_boxes(edges_px, camera.size)
    both = np.minimum(drawn[:, 2:], labelled[:, 2:]) - np.maximum(drawn[:, :2], labelled[:, :2])
    overlap = np.clip(both, 0, None).prod(axis=1)
    either = (drawn[:, 2:] - drawn[:, :2]).prod(axis=1) + (labelled[:, 2:] - labelled[:, :2]).prod(axis=1) - overlap
    return np.asarray(np.divide(overlap, either, out=np.zeros(len(overlap)), where=either > 0))


def _empty(visible: NDArray[np.int64], where: str) -> Iterator[str]:
    """Visible objects of a frame without points, by their number of points."""
    empty = int((visible == 0).sum())
    if len(visible) >= FEWEST_OF_FRAME and empty > MAX_EMPTY * len(visible):
        yield _hold_none(where, len(visible), empty)


def _apart(agreement: NDArray[np.float64], names: tuple[str, ...], where: str) -> Iterator[str]:
    """Objects of a frame whose two boxes do not fit each other."""
    median, outside = float(np.median(agreement)), np.flatnonzero(agreement == 0)
    if len(agreement) >= FEWEST_OF_FRAME and median < MIN_AGREEMENT:
        yield _disagree(where, len(agreement), median)
    elif len(outside):
        few = ", ".join(f"{row + 1} ({names[row]})" for row in outside[:3]) + (", …" if len(outside) > 3 else "")
        yield f"{where}: {len(outside)} of {len(agreement)} boxes lie outside their labelled image boxes: {few}"


def _disagree(where: str, count: int, median: float) -> str:
    return (
        f"{where}: {count} boxes in space, drawn on the image, agree with the labelled image boxes to an IoU of "
        f"{median:.2f} only (median); check the camera's part of the calibration"
    )


def _hold_none(where: str, visible: int, empty: int) -> str:
    return f"{where}: {empty} of {visible} visible boxes hold no point; check the LiDAR's part of the calibration"


def _joined(first: dict[str, list[T]], second: dict[str, list[T]]) -> dict[str, list[T]]:
    return {name: first.get(name, []) + second.get(name, []) for name in {**first, **second}}
