"""Which detections overlap which labelled objects, and by how much."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from olivine.detection.kitti.frames import ObjectTable, Rows
from olivine.geometry.overlap import paired_iou_3d, paired_iou_bev

_PAIRS = 1 << 20
"""Looked at together; keeps memory small where frames have hundreds of detections."""

_Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Labelled objects and detections of the same frames that overlap, by object and then by detection.

    Attributes:
        truth: [P] row of the labelled object.
        detection: [P] row of the detection.
        overlap: [P] float64 IoU in 0…1, of `bbox` (in the image), `bev` (from above) and `3d` (in space).
    """

    truth: Rows
    detection: Rows
    overlap: dict[str, _Numbers]


def find_pairs(truth: ObjectTable, detections: ObjectTable) -> Pairs:
    """All pairs of an object and a detection of its frame that overlap in the image, from above or in space.

    Args:
        truth: labelled objects; areas without labels take no part.
        detections: of the same frames.
    """
    found = [_of_block(truth, detections, *block) for block in _blocks(truth, detections, ~truth.is_dont_care)]
    nothing = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), {name: np.empty(0) for name in ("bbox", "bev", "3d")})
    parts = [nothing, *found]
    return Pairs(
        truth=np.concatenate([part.truth for part in parts]),
        detection=np.concatenate([part.detection for part in parts]),
        overlap={name: np.concatenate([part.overlap[name] for part in parts]) for name in nothing.overlap},
    )


def excused_share(truth: ObjectTable, detections: ObjectTable) -> _Numbers:
    """How much of each detection one area without labels covers.

    Returns:
        [D] float64, the largest share of the detection's image box, 0…1.
    """
    share = np.zeros(len(detections))
    for areas, found in _blocks(truth, detections, truth.is_dont_care):
        common = _image_intersection(truth.image_box[areas], detections.image_box[found])
        np.maximum.at(share, found, _ratio(common, _image_area(detections.image_box[found])))
    return share


def _blocks(truth: ObjectTable, detections: ObjectTable, wanted: NDArray[np.bool_]) -> Iterator[tuple[Rows, Rows]]:
    """(row of the object, row of the detection) of every pair in a frame with a wanted object, a block at a time."""
    rows = np.flatnonzero(wanted)
    frame = truth.frame[rows]
    first, count = detections.start[frame], np.diff(detections.start)[frame]
    block = (np.cumsum(count) - 1) // _PAIRS
    for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(block)) + 1):
        many = count[part]
        offset = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
        yield np.repeat(rows[part], many), np.repeat(first[part], many) + offset


def _of_block(truth: ObjectTable, detections: ObjectTable, one: Rows, other: Rows) -> Pairs:
    a, b = truth.image_box[one], detections.image_box[other]
    common = _image_intersection(a, b)
    overlap = {"bbox": _ratio(common, _image_area(a) + _image_area(b) - common)}
    overlap["bev"], overlap["3d"] = _box_overlap(truth, detections, one, other)
    some = np.any([values > 0 for values in overlap.values()], axis=0)
    return Pairs(one[some], other[some], {name: values[some] for name, values in overlap.items()})


def _box_overlap(truth: ObjectTable, detections: ObjectTable, one: Rows, other: Rows) -> tuple[_Numbers, _Numbers]:
    """[P] IoU from above and in space."""
    from_above, in_space = np.zeros(len(one)), np.zeros(len(one))
    both = truth.has_box[one] & detections.has_box[other]
    near = np.flatnonzero(both & _may_touch(truth.boxes[one], detections.boxes[other]))
    a, b = torch.from_numpy(truth.boxes[one[near]]), torch.from_numpy(detections.boxes[other[near]])
    from_above[near], in_space[near] = paired_iou_bev(a, b).numpy(), paired_iou_3d(a, b).numpy()
    return from_above, in_space


def _may_touch(a: _Numbers, b: _Numbers) -> NDArray[np.bool_]:
    """[P] whether the circles about two boxes, from above, meet."""
    reach = (np.hypot(a[:, 3], a[:, 4]) + np.hypot(b[:, 3], b[:, 4])) / 2
    return np.asarray(np.hypot(a[:, 0] - b[:, 0], a[:, 1] - b[:, 1]) < reach)


def _image_intersection(a: _Numbers, b: _Numbers) -> _Numbers:
    """[P] pixels in common; boxes reach from edge to edge, without the pixel more that older tools add."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    return np.asarray(np.maximum(sides, 0).prod(1))


def _image_area(boxes: _Numbers) -> _Numbers:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(1))


def _ratio(part: _Numbers, whole: _Numbers) -> _Numbers:
    """Part of whole; 0 where there is no whole."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
