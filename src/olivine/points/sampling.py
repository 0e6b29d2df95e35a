"""Furthest-point sampling: points that are spread over a cloud."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from olivine.errors import UserError
from olivine.points.ragged import checked_bounds

_MOST_LANES = 1024


@torch.no_grad()
def furthest_points(xyz: Tensor, offsets: Tensor, count: int) -> Tensor:
    """Pick points far from each other: from a frame's first on, always the one furthest from those picked.

    Distances are squared, dx² + dy² + dz² summed in this order in the type of the points. Points on grids of
    millimetres tie often, so the rule for ties is part of the meaning. It is the published one: of a frame's n points
    those that are equally far are taken by the lowest (row mod T), then by the lowest row, with
    T = min(1024, 2^⌊log2 n⌋) and rows counted from the frame's first.

    Args:
        xyz: [N, 3] float32 or float64 points of B frames, finite.
        offsets: [B + 1] int64 frame b owns the points `offsets[b]:offsets[b + 1]`.
        count: S ≥ 1, how many of each frame.

    Returns:
        [B, S] int64 rows of `xyz` in the order in which they were picked, on the device of `xyz`. A frame of n < S
        points gives its n picks again and again. Once all places of a frame are picked, all distances are 0 and its
        first point is picked again.

    Raises:
        UserError: a frame has no points.
        ValueError: arguments of another shape or type, or points that are not finite.
    """
    bounds = checked_bounds("points", xyz, offsets)
    if count < 1:
        raise ValueError(f"count is 1 or more, got {count}")
    sizes = [end - start for start, end in pairwise(bounds)]
    if 0 in sizes:
        raise UserError(
            f"frame {sizes.index(0)} of the batch has no points, so none can be picked from it; leave such frames out"
        )
    return _furthest_by_torch(xyz, bounds, count)


def _furthest_by_torch(xyz: Tensor, bounds: list[int], count: int) -> Tensor:
    """`furthest_points` of all frames at once, padded to the largest."""
    device, frames = xyz.device, len(bounds) - 1
    if not frames:
        return torch.zeros(0, count, dtype=torch.int64, device=device)
    sizes = torch.tensor(bounds, device=device).diff()
    # The places of a frame's points in the order in which ties are resolved, which argmax resolves by the first.
    order = torch.zeros(frames, int(sizes.max()), dtype=torch.int64, device=device)
    distance = xyz.new_full(order.shape, -1)
    for frame, (start, end) in enumerate(pairwise(bounds)):
        order[frame, : end - start] = _tie_order(end - start, device) + start
        distance[frame, : end - start] = torch.inf
    axes = xyz.T[:, order]  # one axis at a time is three times as fast as [..., 3]
    picked = torch.zeros(frames, count, dtype=torch.int64, device=device)
    each = torch.arange(frames, device=device)
    for step in range(1, count):
        latest = axes[:, each, picked[:, step - 1]]
        x, y, z = (axes - latest[:, :, None]).square_()
        torch.minimum(distance, x.add_(y).add_(z), out=distance)
        picked[:, step] = distance.argmax(1)
    turns = torch.arange(count, device=device) % sizes[:, None]
    return order.gather(1, picked.gather(1, turns))


def _tie_order(count: int, device: torch.device) -> Tensor:
    """[n] int64 the rows by (row mod T), then by row."""
    lanes = min(_MOST_LANES, 1 << (count.bit_length() - 1))
    rows = torch.arange(-(-count // lanes) * lanes, device=device).view(-1, lanes).T.flatten()
    return rows[rows < count]
