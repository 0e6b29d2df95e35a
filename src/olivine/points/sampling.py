"""Furthest-point sampling: points that are spread over a cloud."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from olivine import gpu
from olivine.errors import UserError
from olivine.host import numbers_on, sent
from olivine.points.ragged import checked_bounds

_MOST_LANES = 1024


@torch.no_grad()
def furthest_points(xyz: Tensor, offsets: Tensor, count: int) -> Tensor:
    """Pick points far from each other: from a frame's first on, always the one furthest from those picked.

    Distances are squared, dx² + dy² + dz² summed in this order in the type of the points. Points on grids of
    millimetres tie often, so the rule for ties is part of the meaning. It is that of the reference outputs (OpenPCDet's
    own kernel, by its source, may pick otherwise from the first tie on): of a frame's n points those that are equally
    far are taken by the lowest (row mod T), then by the lowest row, with
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
    kernels, order = gpu.kernels_on(xyz.device), sent(_tie_order(bounds), xyz.device)
    if kernels:
        return kernels.furthest(xyz.contiguous(), order, bounds, count)
    return _furthest_by_torch(xyz, order, bounds, count)


def _tie_order(bounds: list[int]) -> Tensor:
    """[N] int64 the rows of each frame in the order in which points that are equally far are picked, on the CPU."""
    parts = [torch.zeros(0, dtype=torch.int64)]
    for start, end in pairwise(bounds):
        lanes = min(_MOST_LANES, 1 << ((end - start).bit_length() - 1))
        rows = torch.arange(-(-(end - start) // lanes) * lanes).view(-1, lanes).T.flatten()
        parts.append(rows[rows < end - start] + start)
    return torch.cat(parts)


def _furthest_by_torch(xyz: Tensor, order: Tensor, bounds: list[int], count: int) -> Tensor:
    """The reference of `olivine.native.points.PointKernels.furthest`: all frames at once, padded to the largest."""
    device, frames = xyz.device, len(bounds) - 1
    if not frames:
        return order.new_zeros(0, count)
    lengths = [end - start for start, end in pairwise(bounds)]
    sizes = numbers_on(device, lengths)
    # argmax takes the first of equals.
    row = nn.utils.rnn.pad_sequence(list(torch.split(order, lengths)), batch_first=True)
    distance = torch.where(torch.arange(row.shape[1], device=device) < sizes[:, None], torch.inf, -1.0).to(xyz.dtype)
    axes = xyz.T[:, row]  # one axis at a time is three times as fast as [..., 3]
    picked = torch.zeros(frames, count, dtype=torch.int64, device=device)
    each = torch.arange(frames, device=device)
    for step in range(1, count):
        latest = axes[:, each, picked[:, step - 1]]
        x, y, z = (axes - latest[:, :, None]).square_()
        torch.minimum(distance, x.add_(y).add_(z), out=distance)
        picked[:, step] = distance.argmax(1)
    return row.gather(1, picked.gather(1, torch.arange(count, device=device) % sizes[:, None]))
