"""What each anchor is to learn: matching of anchors and objects, as SECOND is trained with.

The overlap is that of axis-aligned boxes on the ground, the nearer of a box's two alignments. The anchors of a class
see the objects of that class alone. An anchor learns the object that it overlaps most if that is at least
`positive_iou`; it learns that nothing is there below `negative_iou`. So that no object is left out, every anchor whose
overlap equals the largest of *some* object learns too, whatever the thresholds say, but *its own* best object
(published; it need not be that one).

An object overlaps few of the anchors, and which ones follows along x and y apart; so all pairs are looked at without
the table of every anchor with every object.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from olivine.data.batch import Boxes
from olivine.detectors.parts.anchors import Anchors
from olivine.detectors.parts.coder import direction_bin, encode
from olivine.geometry import limit_period
from olivine.host import waiting

BACKGROUND = 0
"""Label of anchors that learn that nothing is there."""
IGNORED = -1
"""Label of anchors that learn nothing."""
_LEAST_UNION_M2 = 1e-6


@dataclass(frozen=True)
class AnchorTargets:
    """What the anchors of a batch learn. B frames, A anchors, P anchors that learn an object.

    Attributes:
        labels: [B, A] int64 class 1…C, `BACKGROUND` or `IGNORED`.
        frame: [P] int64 frame of each anchor that learns an object, ascending.
        anchor: [P] int64 which anchor that is.
        box: [P] int64 row of the object that it learns.
        codes: [P, 7] code of that object, as of `olivine.detectors.parts.coder.encode`.
        directions: [P] int64 bin of its heading.
    """

    labels: Tensor
    frame: Tensor
    anchor: Tensor
    box: Tensor
    codes: Tensor
    directions: Tensor


@dataclass(frozen=True)
class _Pairs:
    """Anchors and objects that overlap. Q pairs.

    Attributes:
        place: [Q] frame · A + anchor.
        box: [Q] row of the object.
        iou: [Q] their overlap, above 0.
    """

    place: Tensor
    box: Tensor
    iou: Tensor


def match_anchors(anchors: Anchors, boxes: Boxes, frames: int) -> AnchorTargets:
    """Match the anchors of a batch with its objects.

    Args:
        anchors: the anchors.
        boxes: the objects; a frame may have none.
        frames: B.
    """
    with waiting("which anchors overlap objects", boxes.values.device):
        return _matched(anchors, boxes, frames)


def _matched(anchors: Anchors, boxes: Boxes, frames: int) -> AnchorTargets:
    values = boxes.values.to(anchors.boxes.dtype)
    pairs = _overlapping(anchors, values, boxes)
    places = frames * len(anchors)
    best = values.new_zeros(places).scatter_reduce_(0, pairs.place, pairs.iou, "amax")
    best_of_box = values.new_zeros(len(values)).scatter_reduce_(0, pairs.box, pairs.iou, "amax")
    # Of several objects that an anchor overlaps equally, the first is its own.
    own = torch.full((places,), len(values), device=values.device)
    equal = pairs.iou == best[pairs.place]
    own.scatter_reduce_(0, pairs.place[equal], pairs.box[equal], "amin")

    labels = torch.full((places,), BACKGROUND, device=values.device)
    of_class = boxes.label[pairs.box]
    labels[pairs.place[best[pairs.place] >= anchors.negative_iou[of_class - 1]]] = IGNORED
    learns = (best[pairs.place] >= anchors.positive_iou[of_class - 1]) | (pairs.iou == best_of_box[pairs.box])
    labels[pairs.place[learns]] = of_class[learns]

    place = (labels > BACKGROUND).nonzero()[:, 0]
    frame, anchor, box = place // len(anchors), place % len(anchors), own[place]
    codes = encode(values[box], anchors.boxes[anchor])
    directions = direction_bin(codes[:, 6] + anchors.boxes[anchor, 6])
    return AnchorTargets(labels.view(frames, -1), frame, anchor, box, codes, directions)


def _overlapping(anchors: Anchors, values: Tensor, boxes: Boxes) -> _Pairs:
    """All anchors and objects of one class that overlap. M objects, R headings, Y rows, X columns."""
    kinds = anchors.kinds[boxes.label - 1]  # [M, R, 5]
    half, anchor_half = _half_extent(values[:, 3:5], values[:, 6]), _half_extent(kinds[..., 1:3], kinds[..., 4])
    x = _along(anchors.x_m, anchor_half[..., 0], values[:, 0], half[:, 0])
    y = _along(anchors.y_m, anchor_half[..., 1], values[:, 1], half[:, 1])
    shared = y.shared[..., :, None] * x.shared[..., None, :]  # [M, R, rows, columns]
    union = y.length[..., :, None] * x.length[..., None, :] + (x.own * y.own)[:, None, None, None] - shared
    iou = shared / union.clamp(min=_LEAST_UNION_M2)
    box, heading, row, column = (iou > 0).nonzero().unbind(1)
    classes, headings = anchors.kinds.shape[:2]
    pixel = y.index[box, heading, row] * len(anchors.x_m) + x.index[box, heading, column]
    anchor = (pixel * classes + boxes.label[box] - 1) * headings + heading
    return _Pairs(boxes.frame[box] * len(anchors) + anchor, box, iou[box, heading, row, column])


def _half_extent(size: Tensor, yaw: Tensor) -> Tensor:
    """[..., 2] half the sizes along x and y, swapped for boxes nearer to the y axis."""
    across = limit_period(yaw, 0.5, math.pi).abs() >= math.pi / 4
    return torch.where(across[..., None], size.flip(-1), size) / 2


@dataclass(frozen=True)
class _Along:
    """How objects and anchors overlap along one axis. W is the largest number of centres that one object reaches.

    Attributes:
        index: [M, R, W] the centre.
        shared: [M, R, W] the length that both share; 0 beyond what the object reaches.
        length: [M, R, W] the anchor's.
        own: [M] the object's.
    """

    index: Tensor
    shared: Tensor
    length: Tensor
    own: Tensor


def _along(centres: Tensor, anchor_half: Tensor, centre: Tensor, half: Tensor) -> _Along:
    """One axis: centres [S] of anchors with half lengths [M, R], objects at [M] with half lengths [M]."""
    low, high = centres - anchor_half[..., None], centres + anchor_half[..., None]  # [M, R, S]
    own_low, own_high = centre - half, centre + half
    shared = torch.minimum(high, own_high[:, None, None]) - torch.maximum(low, own_low[:, None, None])
    hit = shared > 0
    width = int(hit.sum(-1).max()) if hit.numel() else 0
    first = hit.to(torch.uint8).argmax(-1, keepdim=True)  # the centres that an object reaches are neighbours
    # Beyond the last centre it stands again, and its pairs twice, which changes nothing.
    index = (first + torch.arange(width, device=centres.device)).clamp(max=len(centres) - 1)
    taken = shared.gather(2, index).clamp(min=0)
    return _Along(index, taken, (high - low).gather(2, index), own_high - own_low)
