"""Voxel sets on the device: their keys, coarser sets, reached cells, and the search for the neighbours of all voxels.

A set is numbered within the box that its voxels span, so that a key is one int64 and sets are made and searched by
sorting. A box is read back to the host once, with the finest voxels of a cloud; boxes of coarser voxels follow from it.
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from olivine.gpu.launch import ROWS, blocks, on_device, on_device_of
from olivine.host import waiting
from olivine.sparse.coordinates import OVERFLOW, CoordinateMap, Triple
from olivine.sparse.engines.gpu.programs import maps as programs

_LIMIT = 2**63 - 1
"""A key that no voxel has."""
_LOWEST = torch.iinfo(torch.int32).min


@dataclass(frozen=True)
class Box:
    """The cells among which a set of voxels is numbered, in raster order, x fastest.

    Attributes:
        low: the lowest (batch, x, y, z).
        size: cells along (batch, x, y, z).
        step: length of a cell along (x, y, z), in grid units.
    """

    low: tuple[int, int, int, int]
    size: tuple[int, int, int, int]
    step: Triple

    @property
    def numbered(self) -> bool:
        """Whether int64 keys are enough for the cells."""
        return math.prod(self.size) < _LIMIT

    def coarser(self, stride: Triple) -> Box:
        """The box of the cells of length `stride` that the corners of this one lie in."""
        low, size = list(self.low), list(self.size)
        for axis, length in enumerate(stride, 1):
            last = self.low[axis] + (self.size[axis] - 1) * self.step[axis - 1]
            low[axis] = self.low[axis] // length * length
            size[axis] = (last - low[axis]) // length + 1
        return Box((low[0], low[1], low[2], low[3]), (size[0], size[1], size[2], size[3]), stride)

    def numbers(self) -> tuple[int, ...]:
        """The box as the arguments of `keys_of` and `rows_of`."""
        return (*self.low, *self.size[1:], *self.step)


@dataclass(frozen=True)
class Index:
    """Voxels in order.

    Attributes:
        box: what the keys number.
        keys: int64 [N] ascending.
        order: int64 [N] the row that has each key.
    """

    box: Box
    keys: Tensor
    order: Tensor


_BOXES: MutableMapping[Tensor, Box] = WeakIdKeyDictionary()
"""The box of a tensor of coordinates, for as long as the tensor lives."""
_INDEX: WeakKeyDictionary[CoordinateMap, Index | None] = WeakKeyDictionary()
"""Voxels in order, for as long as they live; None where no key is long enough."""


def box_of(coordinates: Tensor) -> Box:
    """The box that int32 [N, 4] coordinates span; it is read back from the device once for a tensor."""
    found = _BOXES.get(coordinates)
    if found is None:
        found = _BOXES[coordinates] = _measured(coordinates)
    return found


def index_of(voxels: CoordinateMap) -> Index | None:
    """Voxels in order; None where they are so far apart that no int64 numbers the cells between them."""
    if voxels not in _INDEX:
        box = box_of(voxels.coordinates)
        if box.numbered:
            keys, order = torch.sort(_keys(voxels.coordinates, box))
            _INDEX[voxels] = Index(box, keys, order)
        else:
            _INDEX[voxels] = None
    return _INDEX[voxels]


def coarsen(coordinates: Tensor, stride: Triple) -> Tensor | None:
    """Distinct voxels of a coarser grid in raster order, int32 [M, 4]; None where no int64 numbers its cells.

    Raises:
        ValueError: a coarser coordinate lies outside the int32 range.
    """
    if not len(coordinates):
        return coordinates
    box = box_of(coordinates).coarser(stride)
    if min(box.low) < _LOWEST:
        raise ValueError(OVERFLOW)
    return _rows(_distinct(_keys(coordinates, box)), box) if box.numbered else None


def reach(coordinates: Tensor, axes: Sequence[tuple[int, int, int, int, int]]) -> Tensor | None:
    """Cells of a bounded grid that see a voxel, in raster order, as `Engine.reach`; None as `coarsen`."""
    if not len(coordinates):
        return coordinates
    within = box_of(coordinates)
    box = Box((within.low[0], 0, 0, 0), (within.size[0], axes[0][4], axes[1][4], axes[2][4]), (1, 1, 1))
    if not box.numbered:
        return None
    count, taps = len(coordinates), math.prod(size for size, *_ in axes)
    # One key more than there are stands for no cell, so that it always is there, and last.
    keys = torch.full((taps * count + 1,), _LIMIT, dtype=torch.int64, device=coordinates.device)
    shape = on_device(axes, torch.int64, coordinates.device)
    with on_device_of(coordinates):
        grid = (blocks(count, ROWS), taps)
        programs.reached_by[grid](keys, coordinates.contiguous(), shape, count, box.low[0], _LIMIT, BLOCK=ROWS)
    return _rows(_distinct(keys)[:-1], box)


def neighbours(index: Index, outputs: Tensor, offsets: Tensor) -> Tensor:
    """For every kernel cell and output voxel the input row that they meet.

    Args:
        index: the input voxels.
        outputs: int32 [N_out, 4].
        offsets: int64 [K, 3] in grid units.

    Returns:
        int32 [K, N_out], −1 where there is none.
    """
    count, box = len(outputs), index.box
    table = torch.empty((len(offsets), count), dtype=torch.int32, device=outputs.device)
    if count:
        first_step = 1 << (len(index.keys).bit_length() - 1) if len(index.keys) else 0
        grid = (blocks(count, ROWS), len(offsets))
        numbers = (*box.low, *box.size, *box.step)
        with on_device_of(outputs):
            programs.search[grid](
                table,
                outputs,
                offsets,
                index.keys,
                index.order,
                count,
                len(index.keys),
                first_step,
                *numbers,
                BLOCK=ROWS,
            )
    return table


def _measured(coordinates: Tensor) -> Box:
    if not len(coordinates):
        return Box((0, 0, 0, 0), (1, 1, 1, 1), (1, 1, 1))
    with waiting("the box that voxels span", coordinates.device):
        low, high = torch.stack(torch.aminmax(coordinates, dim=0)).tolist()
    size = [top - bottom + 1 for bottom, top in zip(low, high, strict=True)]
    return Box((low[0], low[1], low[2], low[3]), (size[0], size[1], size[2], size[3]), (1, 1, 1))


def _distinct(keys: Tensor) -> Tensor:
    with waiting("how many voxels are distinct", keys.device):
        distinct: Tensor = torch.unique(keys)
    return distinct


def _keys(coordinates: Tensor, box: Box) -> Tensor:
    keys = torch.empty(len(coordinates), dtype=torch.int64, device=coordinates.device)
    if len(keys):
        with on_device_of(keys):
            grid = (blocks(len(keys), ROWS),)
            programs.keys_of[grid](keys, coordinates.contiguous(), len(keys), *box.numbers(), BLOCK=ROWS)
    return keys


def _rows(keys: Tensor, box: Box) -> Tensor:
    """The int32 rows of ascending keys, whose box is noted."""
    rows = torch.empty((len(keys), 4), dtype=torch.int32, device=keys.device)
    if len(keys):
        with on_device_of(keys):
            programs.rows_of[(blocks(len(keys), ROWS),)](rows, keys, len(keys), *box.numbers(), BLOCK=ROWS)
    _BOXES[rows] = box
    return rows
