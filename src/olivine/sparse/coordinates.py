"""Voxel coordinates as integer keys: uniqueness, strides, and looking one set of voxels up in another.

Coordinates are int32 [N, 4] rows (batch, x, y, z) in units of the finest grid, at every stride. A row becomes one int64
key, so that set operations are sorts and binary searches, which run on every device and give the same result every
time. Keys run in raster order: by batch, z, y, x, with x fastest, as the cells of a kernel do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from olivine.host import numbers_on, waiting

Triple = tuple[int, int, int]

_INT32 = torch.iinfo(torch.int32)
_KEY_LIMIT = 2**63
OVERFLOW = "a voxel coordinate overflows int32; shift the cloud towards the origin"
"""What is wrong with voxels outside the int32 range."""
_RASTER = (0, 3, 2, 1)
"""Columns of a coordinate row from the most to the least significant in a key."""


@dataclass(frozen=True, eq=False)
class CoordinateMap:
    """The voxels of one resolution, and how to find one of them.

    Attributes:
        coordinates: int32 [N, 4] distinct rows (batch, x, y, z), contiguous.
        stride: (x, y, z) tensor stride, in units of the finest grid; coordinates are multiples of it.
    """

    coordinates: Tensor
    stride: Triple

    @cached_property
    def order(self) -> Tensor:
        """int64 [N] permutation that puts the rows into raster order."""
        return raster_order(self.coordinates)


def triple(value: int | Sequence[int], name: str) -> Triple:
    """One positive integer per axis from an integer or three of them.

    Args:
        value: an integer for all axes, or (x, y, z).
        name: what the value is, for the error message.

    Returns:
        The three integers.

    Raises:
        ValueError: not three integers, or one of them is below 1.
    """
    values = (value,) * 3 if isinstance(value, int) else tuple(int(v) for v in value)
    if len(values) != 3 or min(values) < 1:
        raise ValueError(f"{name} must be a positive integer or three of them, got {value}")
    return values[0], values[1], values[2]


def pack(sets: Sequence[Tensor], reach: Triple = (0, 0, 0)) -> tuple[list[Tensor], tuple[int, int, int]]:
    """Keys of several coordinate sets, comparable with each other and under small shifts.

    Args:
        sets: coordinate sets, integer [N_i, 4].
        reach: the largest absolute shift per axis that keys must survive: for every |d| ≤ reach,
            key(row) + d·steps is the key of the shifted row and of no other.

    Returns:
        `(keys, steps)`: one int64 [N_i] tensor per set, and how far a key moves per unit of x, y and z (1 for x).

    Raises:
        ValueError: the voxels are so many and so far apart that no 63-bit key holds them.
    """
    margins = (0, *reach)
    columns = {axis: [rows[:, axis].long() for rows in sets] for axis in _RASTER}
    spans = _spans(columns, margins)
    if math.prod(extent for _, extent in spans.values()) >= _KEY_LIMIT:
        columns = {axis: _close_gaps(column, margins[axis]) for axis, column in columns.items()}
        spans = _spans(columns, margins)
        if math.prod(extent for _, extent in spans.values()) >= _KEY_LIMIT:
            raise ValueError(
                f"{sum(len(rows) for rows in sets)} voxels are spread too widely for 63-bit keys; use a coarser grid"
            )
    keys = [torch.zeros(len(rows), dtype=torch.int64, device=rows.device) for rows in sets]
    for axis in _RASTER:
        origin, extent = spans[axis]
        for key, values in zip(keys, columns[axis], strict=True):
            key.mul_(extent).add_(values - origin)
    return keys, (1, spans[1][1], spans[1][1] * spans[2][1])


def _spans(columns: Mapping[int, Sequence[Tensor]], margins: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Origin and extent of each axis over all sets, with a margin on both sides."""
    bounds = {
        axis: [torch.stack(torch.aminmax(part)) for part in parts if len(part)] for axis, parts in columns.items()
    }
    measured = [each for axis in bounds for each in bounds[axis]]
    if not measured:
        return dict.fromkeys(columns, (0, 1))
    with waiting("the box that voxels span", measured[0].device):
        found = iter(torch.stack(measured).tolist())
    spans = {}
    for axis, parts in bounds.items():
        lows, highs = zip(*(next(found) for _ in parts), strict=True)
        spans[axis] = min(lows) - margins[axis], max(highs) - min(lows) + 1 + 2 * margins[axis]
    return spans


def _close_gaps(column: Sequence[Tensor], margin: int) -> list[Tensor]:
    """Move the values of one axis together, keeping their order and every difference of at most `margin`.

    Differences above `margin` stay above it, so that neighbours within the margin are the same as before.
    """
    with waiting("how many places voxels have along an axis", column[0].device):
        values, position = torch.unique(torch.cat(list(column)), return_inverse=True)
    gaps = torch.diff(values, prepend=values[:1]).clamp(max=margin + 1)
    return list(torch.split(gaps.cumsum(0)[position], [len(part) for part in column]))


def raster_order(coordinates: Tensor) -> Tensor:
    """The int64 [N] permutation that puts distinct integer rows [N, 4] into raster order."""
    (keys,), _ = pack([coordinates])
    return torch.argsort(keys)


def unique_rows(coordinates: Tensor) -> Tensor:
    """The distinct rows of integer [N, 4] `coordinates` in raster order, int32.

    Raises:
        ValueError: a coordinate lies outside the int32 range.
    """
    rows = coordinates[raster_order(coordinates)]
    first = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    first[1:] = (rows[1:] != rows[:-1]).any(dim=1)
    with waiting("how many voxels are distinct", rows.device):
        distinct = rows[first]
    return to_int32(distinct)


def to_int32(coordinates: Tensor) -> Tensor:
    """Integer [N, 4] coordinates as int32.

    Raises:
        ValueError: a coordinate lies outside the int32 range.
    """
    if coordinates.numel() and coordinates.dtype != torch.int32:
        with waiting("whether voxels fit into int32", coordinates.device):
            low, high = torch.stack(torch.aminmax(coordinates)).tolist()
        if low < _INT32.min or high > _INT32.max:
            raise ValueError(OVERFLOW)
    return coordinates.int()


def floor_to_stride(coordinates: Tensor, stride: Triple) -> Tensor:
    """Distinct voxels of a coarser grid: ⌊c / stride⌋ · stride on each axis, towards −∞ for negatives too.

    Args:
        coordinates: int32 [N, 4].
        stride: (x, y, z) stride of the coarser grid.

    Returns:
        int32 [M, 4] in raster order.

    Raises:
        ValueError: a coarser coordinate lies outside the int32 range.
    """
    steps = numbers_on(coordinates.device, (1, *stride))
    return unique_rows(coordinates.long().div(steps, rounding_mode="floor") * steps)


@lru_cache(maxsize=256)
def kernel_offsets(kernel_size: Triple, unit: Triple, device: torch.device) -> Tensor:
    """Offsets of a kernel's cells, in the order of the weights.

    The first axis varies fastest. An odd size is centred (−⌊k/2⌋ … ⌊k/2⌋), an even one starts at 0 (0 … k − 1).

    Args:
        kernel_size: (x, y, z) cells.
        unit: length of one step per axis, that is the tensor stride times the dilation.
        device: where the offsets live.

    Returns:
        int64 [K, 3] with K = k_x·k_y·k_z; the same tensor for the same question, so not to be written to.
    """
    axes = [
        (torch.arange(size, device=device) - (size // 2 if size % 2 else 0)) * step
        for size, step in zip(kernel_size, unit, strict=True)
    ]
    z, y, x = torch.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    return torch.stack((x.flatten(), y.flatten(), z.flatten()), dim=1)
