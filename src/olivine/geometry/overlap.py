"""How much rotated boxes overlap, and non-maximum suppression: exact, in float64 whatever the boxes are given in.

Boxes are (x, y, z, dx, dy, dz, yaw) as in `olivine.geometry.boxes`; bird's-eye-view (BEV) measures leave z and dz out.
The kernels of the device do the work (`olivine.gpu.kernels_on`); where there are none, PyTorch does, by the same
formula. What a rectangle |x| ≤ w, |y| ≤ h cuts out of a convex polygon reaches, at x, from the polygon's lower edge
to its upper one, both held to ±h. Its area is therefore -∮ min(max(y, -h), h) dx, counter-clockwise along the polygon
where |x| ≤ w: each edge adds the mean of a clamped line times a clamped width.

No corner of the overlap is looked for and every term is continuous in the boxes, so coincident edges, touching corners
and slivers need no tolerance: the error is a few roundings of the product of the longest sides. Boxes that an axis of
either separates share exactly 0. Gradients do not pass.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from olivine import gpu
from olivine.native.boxes import Measure

_PAIRS_AT_ONCE = 1 << 20  # of the PyTorch path, for its memory
Pair = tuple[Tensor, Tensor]
_ROWS_AT_ONCE = 512  # of suppression: boxes that settle it among themselves


def bev_overlap(a: Tensor, b: Tensor) -> Tensor:
    """The area that every two boxes share, seen from above.

    Args:
        a: [N, 7] float32 or float64.
        b: [M, 7] of the same type, on the same device.

    Returns:
        [N, M] m², as the boxes.

    Raises:
        ValueError: boxes of another shape or type, that are not finite or have a negative side.
    """
    return _matrix(a, b, Measure.SHARED_AREA)


def iou_bev(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every two boxes, seen from above.

    Args:
        a: [N, 7] float32 or float64.
        b: [M, 7] of the same type, on the same device.

    Returns:
        [N, M] in 0…1, as the boxes; 0 for a box without area.

    Raises:
        ValueError: as `bev_overlap`.
    """
    return _matrix(a, b, Measure.IOU_FROM_ABOVE)


def iou_3d(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of the volumes of every two boxes.

    Args:
        a: [N, 7] float32 or float64.
        b: [M, 7] of the same type, on the same device.

    Returns:
        [N, M] in 0…1, as the boxes; 0 for a box without volume.

    Raises:
        ValueError: as `bev_overlap`.
    """
    return _matrix(a, b, Measure.IOU_IN_SPACE)


def paired_iou_bev(a: Tensor, b: Tensor) -> Tensor:
    """`iou_bev` of each box with the one in the same row: [N, 7] and [N, 7] → [N]."""
    return _pairs(a, b, Measure.IOU_FROM_ABOVE)


def paired_iou_3d(a: Tensor, b: Tensor) -> Tensor:
    """`iou_3d` of each box with the one in the same row: [N, 7] and [N, 7] → [N]."""
    return _pairs(a, b, Measure.IOU_IN_SPACE)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, most: int | None = None) -> Tensor:
    """Greedy non-maximum suppression seen from above.

    Boxes are taken by descending score, equal ones by row; each that is taken drops all later ones that it overlaps
    by more than the threshold.

    Args:
        boxes: [N, 7] float32 or float64.
        scores: [N] of any floating type, on the same device.
        iou_threshold: in 0…1; a box is dropped where its `iou_bev` with a kept one is above it.
        most: stop after so many, or None.

    Returns:
        int64 [K] kept rows, best first.

    Raises:
        ValueError: boxes or scores of another shape or type, or that are not numbers; a negative side; a threshold
            out of range.
    """
    values = _values(boxes)
    if scores.shape != boxes.shape[:1] or not scores.is_floating_point() or bool(scores.isnan().any()):
        raise ValueError(
            f"scores are [{len(boxes)}] numbers for boxes {list(boxes.shape)}; "
            f"got {scores.dtype} {list(scores.shape)}{', some of them NaN' if scores.isnan().any() else ''}"
        )
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold is in 0…1, got {iou_threshold}")
    order = torch.sort(scores.detach(), descending=True, stable=True).indices
    ordered, most = values[order].contiguous(), len(boxes) if most is None else most
    kernels = gpu.kernels_on(boxes.device)
    kept = (
        kernels.suppress(ordered, iou_threshold, most) if kernels else _suppress_by_torch(ordered, iou_threshold, most)
    )
    return order[kept]


def _matrix(a: Tensor, b: Tensor, measure: Measure) -> Tensor:
    one, other = _both(a, b)
    kernels = gpu.kernels_on(one.device)
    measured = kernels.measure_boxes(one, other, measure) if kernels else _matrix_by_torch(one, other, measure)
    return measured.to(a.dtype)


def _pairs(a: Tensor, b: Tensor, measure: Measure) -> Tensor:
    one, other = _both(a, b)
    if len(one) != len(other):
        raise ValueError(f"boxes that are paired are as many, got {len(one)} and {len(other)}")
    kernels = gpu.kernels_on(one.device)
    return (kernels.measure_pairs(one, other, measure) if kernels else _measured(one, other, measure)).to(a.dtype)


def _both(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.dtype != b.dtype or a.device != b.device:
        raise ValueError(
            f"boxes are of one type on one device, got {a.dtype} on {a.device} and {b.dtype} on {b.device}"
        )
    return _values(a), _values(b)


def _values(boxes: Tensor) -> Tensor:
    """The boxes in float64, checked."""
    if boxes.ndim != 2 or boxes.shape[1] != 7 or boxes.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"boxes are float32 or float64 [N, 7], got {boxes.dtype} {list(boxes.shape)}")
    wrong = ~boxes.isfinite().all(dim=1) | (boxes[:, 3:6] < 0).any(dim=1)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"boxes {list(boxes.shape)}: row {row} is not finite or has a negative side: {boxes[row].tolist()}"
        )
    return boxes.detach().double().contiguous()


def _matrix_by_torch(a: Tensor, b: Tensor, measure: Measure) -> Tensor:
    """The reference of `olivine.native.boxes.BoxKernels.measure_boxes`: only pairs whose circles meet are measured."""
    out, rows = a.new_zeros(len(a), len(b)), max(1, _PAIRS_AT_ONCE // max(1, len(b)))
    reach_a, reach_b = (0.5 * torch.hypot(boxes[:, 3], boxes[:, 4]) for boxes in (a, b))
    for first in range(0, len(a), rows):
        part = slice(first, first + rows)
        apart = torch.hypot(a[part, None, 0] - b[:, 0], a[part, None, 1] - b[:, 1])
        row, column = (apart < reach_a[part, None] + reach_b).nonzero(as_tuple=True)
        out[row + first, column] = _measured(a[row + first], b[column], measure)
    return out


def _measured(a: Tensor, b: Tensor, measure: Measure) -> Tensor:
    """The reference: a measure of boxes [N, 7] with those [N, 7] in the same rows."""
    shared, size, other_size = _shared_area(a, b), a[:, 3] * a[:, 4], b[:, 3] * b[:, 4]
    if measure is Measure.SHARED_AREA:
        return shared
    if measure is Measure.IOU_IN_SPACE:
        shared, size, other_size = shared * _shared_height(a, b), size * a[:, 5], other_size * b[:, 5]
    return torch.where(shared == 0, shared, shared / (size + other_size - shared))


def _shared_height(a: Tensor, b: Tensor) -> Tensor:
    up, half, other_half = a[:, 2] - b[:, 2], a[:, 5] / 2, b[:, 5] / 2
    return (torch.minimum(other_half, up + half) - torch.maximum(-other_half, up - half)).clamp(min=0)


def _shared_area(a: Tensor, b: Tensor) -> Tensor:
    """The boundary of `a`, in the axes of `b`, integrated over the rectangle of `b`; 0 where an axis separates them."""
    (cos_a, sin_a, along, across), (cos_b, sin_b, half_x, half_y) = (
        (rows[:, 6].cos(), rows[:, 6].sin(), rows[:, 3] / 2, rows[:, 4] / 2) for rows in (a, b)
    )
    east, north = a[:, 0] - b[:, 0], a[:, 1] - b[:, 1]
    x, y = east * cos_b + north * sin_b, north * cos_b - east * sin_b
    cos, sin = cos_a * cos_b + sin_a * sin_b, sin_a * cos_b - cos_a * sin_b
    # Counter-clockwise from the front left.
    corners = [
        (x + u * along * cos - v * across * sin, y + u * along * sin + v * across * cos)
        for u, v in ((1, 1), (-1, 1), (-1, -1), (1, -1))
    ]
    area = torch.zeros_like(x)
    for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
        area -= _under(start, end, half_x, half_y)
    area = torch.minimum(area.clamp(min=0), torch.minimum(a[:, 3] * a[:, 4], b[:, 3] * b[:, 4]))
    apart = _apart((x, y), (half_x, half_y), (along, across), (cos, sin)) | _apart(
        (east * cos_a + north * sin_a, north * cos_a - east * sin_a), (along, across), (half_x, half_y), (cos, sin)
    )
    return torch.where(apart, 0.0, area)


def _apart(centre: Pair, halves: Pair, other_halves: Pair, heading: Pair) -> Tensor:
    """Whether an axis of a box separates it from another, whose centre and heading (cos, sin) are in its axes."""
    cos, sin = heading[0].abs(), heading[1].abs()
    along, across = other_halves
    beyond_x = centre[0].abs() >= halves[0] + along * cos + across * sin
    return beyond_x | (centre[1].abs() >= halves[1] + along * sin + across * cos)


def _under(start: Pair, end: Pair, half_x: Tensor, half_y: Tensor) -> Tensor:
    """The integral of y held to ±half_y over the x of an edge held to ±half_x."""
    (x, y), (to_x, to_y) = start, end
    width, rise = to_x - x, to_y - y
    from_x, until_x = _held(x, half_x), _held(to_x, half_x)
    safe_width = torch.where(width == 0, 1.0, width)
    low, high = (y + (at - x) / safe_width * rise for at in (from_x, until_x))
    return (until_x - from_x) * _mean_held(low, high, half_y)


def _mean_held(start: Tensor, end: Tensor, limit: Tensor) -> Tensor:
    """The mean of y held to ±limit while y goes evenly from one value to another."""
    low, high = torch.minimum(start, end), torch.maximum(start, end)
    span = high - low
    below = torch.minimum((-limit - low).clamp(min=0), span)
    above = torch.minimum((high - limit).clamp(min=0), span)
    first, last = _held(low, limit), _held(high, limit)
    sloping = ((last - first) * (first + last) / 2 + (above - below) * limit) / torch.where(span == 0, 1.0, span)
    return torch.where(span == 0, first, sloping)


def _held(values: Tensor, limit: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(values, -limit), limit)


def _suppress_by_torch(boxes: Tensor, threshold: float, most: int) -> Tensor:
    """The reference of `olivine.native.boxes.BoxKernels.suppress`: boxes [N, 7] best first → int64 [K] kept rows."""
    left, kept = torch.arange(len(boxes), device=boxes.device), [torch.empty(0, dtype=torch.int64, device=boxes.device)]
    while len(left) and sum(map(len, kept)) < most:
        head = left[:_ROWS_AT_ONCE]
        shaded = _matrix_by_torch(boxes[head], boxes[left], Measure.IOU_FROM_ABOVE) > threshold
        chosen = torch.tensor(list(_settled(shaded[:, : len(head)].cpu())), device=boxes.device)
        kept.append(head[chosen])
        left = left[len(head) :][~shaded[chosen, len(head) :].any(dim=0)]
    return torch.cat(kept)[:most]


def _settled(shaded: Tensor) -> Iterator[int]:
    """The rows that are kept of a block [R, R] in which a row is dropped by those kept before it that shade it."""
    alive = torch.ones(len(shaded), dtype=torch.bool)
    for row in range(len(shaded)):
        if alive[row]:
            yield row
            alive &= ~shaded[row]
