"""Ball queries: the points around centres."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from olivine import gpu
from olivine.points.ragged import checked_bounds

_DISTANCES_AT_ONCE = 2**22  # of the PyTorch path, for its memory


def ball_query(
    xyz: Tensor, offsets: Tensor, centres: Tensor, centre_offsets: Tensor, radius: float, samples: int
) -> Tensor:
    """The first points of its frame that lie around each centre.

    Args:
        xyz: [N, 3] float32 or float64 points of B frames, finite.
        offsets: [B + 1] int64 frame b owns the points `offsets[b]:offsets[b + 1]`.
        centres: [M, 3] of the same type, on the same device, finite.
        centre_offsets: [B + 1] int64 the same of the centres.
        radius: > 0, how far around, in the unit of the points.
        samples: S ≥ 1, how many points of a ball at most.

    Returns:
        [M, S] int64 rows of `xyz`: the first S, by row, that are nearer than `radius` (dx² + dy² + dz² < radius²,
        summed in this order in the type of the points). Where there are fewer, the first takes the places that are
        left; where there are none, all are -1, so also in frames without points.

    Raises:
        ValueError: arguments of another shape or type, points or centres that are not finite, or not as many frames of
            both.
    """
    return ball_queries(xyz, offsets, centres, centre_offsets, (radius,), (samples,))[0]


@torch.no_grad()
def ball_queries(
    xyz: Tensor,
    offsets: Tensor,
    centres: Tensor,
    centre_offsets: Tensor,
    radii: Sequence[float],
    samples: Sequence[int],
) -> list[Tensor]:
    """`ball_query` for several radii at once, which measures each distance once.

    Args:
        xyz: as `ball_query`.
        offsets: as `ball_query`.
        centres: as `ball_query`.
        centre_offsets: as `ball_query`.
        radii: how far around, each > 0.
        samples: how many points at most, for each radius, each ≥ 1.

    Returns:
        The [M, S] rows of each radius.

    Raises:
        ValueError: as `ball_query`, or not as many radii as samples.
    """
    bounds, centre_bounds = checked_bounds("points", xyz, offsets), checked_bounds("centres", centres, centre_offsets)
    _check_alike(xyz, centres, bounds, centre_bounds)
    if len(radii) != len(samples) or not all(radius > 0 for radius in radii) or not all(most >= 1 for most in samples):
        raise ValueError(f"radii above 0 and as many samples of 1 or more, got {list(radii)} and {list(samples)}")
    kernels = gpu.kernels_on(xyz.device)
    if kernels:
        return kernels.balls(xyz.contiguous(), bounds, centres.contiguous(), centre_bounds, radii, samples)
    return _balls_by_torch(xyz, bounds, centres, centre_bounds, radii, samples)


def _check_alike(xyz: Tensor, centres: Tensor, bounds: list[int], centre_bounds: list[int]) -> None:
    if xyz.dtype != centres.dtype or xyz.device != centres.device:
        raise ValueError(
            f"points and centres are of one type and on one device, got {xyz.dtype} on {xyz.device} and "
            f"{centres.dtype} on {centres.device}"
        )
    if len(bounds) != len(centre_bounds):
        raise ValueError(
            f"points and centres are of as many frames, got {len(bounds) - 1} and {len(centre_bounds) - 1}"
        )


def _balls_by_torch(
    xyz: Tensor,
    bounds: list[int],
    centres: Tensor,
    centre_bounds: list[int],
    radii: Sequence[float],
    samples: Sequence[int],
) -> list[Tensor]:
    """The reference of `olivine.native.points.PointKernels.balls`: all distances of a frame, some centres at a time."""
    found = [torch.full((len(centres), most), -1, device=xyz.device) for most in samples]
    for (start, end), (centre_start, centre_end) in zip(pairwise(bounds), pairwise(centre_bounds), strict=True):
        points = xyz[start:end]
        step = max(1, _DISTANCES_AT_ONCE // max(1, len(points)))
        for first in range(centre_start, centre_end if len(points) else centre_start, step):
            part = slice(first, min(first + step, centre_end))
            squared = _squared_distances(centres[part], points)
            for rows, radius, most in zip(found, radii, samples, strict=True):
                # The square, too, is rounded to the type of the points.
                inside = squared < torch.tensor(radius, dtype=xyz.dtype).square()
                rows[part] = _first_of_each(inside, most, start)
    return found


def _squared_distances(centres: Tensor, points: Tensor) -> Tensor:
    """[M, 3] and [N, 3] → [M, N]; the form by matrix products is not exact for neighbours far from the origin."""
    x, y, z = ((centres[:, None, axis] - points[None, :, axis]).square_() for axis in range(3))
    return x.add_(y).add_(z)


def _first_of_each(inside: Tensor, most: int, start: int) -> Tensor:
    """[M, N] bool → [M, most] columns of the first that are true, plus `start`, padded as `ball_query` says."""
    place = inside.cumsum(1, dtype=torch.int32) - 1
    # What is not kept goes into a column more, which is cut off.
    place = torch.where(inside & (place < most), place, most).long()
    column = (torch.arange(inside.shape[1], device=inside.device) + start).expand_as(place)
    rows = torch.full((len(inside), most + 1), -1, device=inside.device).scatter_(1, place, column)[:, :most]
    return torch.where(rows < 0, rows[:, :1], rows)
