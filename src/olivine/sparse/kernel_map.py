"""Kernel maps: which input voxel meets which output voxel under which weight.

A map depends on coordinates only, so that it is built once per resolution and kernel, and shared by every layer, by
its transpose and by the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from olivine import native
from olivine.sparse.coordinates import CoordinateMap, pack


@dataclass(frozen=True)
class Segments:
    """The pairs of a kernel map regrouped by the row on one side.

    Attributes:
        order: int64 [P] pairs, those of row 0 first; within a row by kernel cell.
        starts: int64 [N + 1] row u owns `order[starts[u]:starts[u + 1]]`.
    """

    order: Tensor
    starts: Tensor


@dataclass(frozen=True, eq=False)
class Side:
    """One side of the pairs of a kernel map, grouped by kernel cell. Within a cell no row occurs twice.

    Attributes:
        rows: int32 [P] row of each pair.
        count: number of rows N that this side has.
        sizes: [K] number of pairs of each kernel cell, in the order of the weights; their sum is P.
    """

    rows: Tensor
    count: int
    sizes: tuple[int, ...]

    @cached_property
    def cells(self) -> tuple[Tensor, ...]:
        """The rows of each kernel cell."""
        return torch.split(self.rows, list(self.sizes))

    @cached_property
    def segments(self) -> Segments:
        """The pairs regrouped by row."""
        counts = torch.bincount(self.rows, minlength=self.count)
        starts = torch.zeros(self.count + 1, dtype=torch.int64, device=counts.device)
        torch.cumsum(counts, 0, out=starts[1:])
        return Segments(torch.argsort(self.rows, stable=True), starts)


@dataclass(frozen=True, eq=False)
class KernelMap:
    """Pairs (input row, output row), grouped by kernel cell; within a cell by ascending output row.

    Attributes:
        inputs: the input row of each pair.
        outputs: the output row of each pair.
        identity: kernel cell that maps every row to itself (the centre of an odd kernel at stride 1), or None.
    """

    inputs: Side
    outputs: Side
    identity: int | None = None

    @cached_property
    def starts(self) -> Tensor:
        """int64 [K + 1] on the CPU: the first pair of each cell, and P."""
        return torch.tensor((0, *accumulate(self.inputs.sizes)))

    @cached_property
    def transposed(self) -> KernelMap:
        """The same pairs with input and output exchanged."""
        kernels = native.library_on(self.inputs.rows.device)
        if kernels is None:
            order = _by_cell_and_row(self.inputs)
            rows, partners = self.inputs.rows[order], self.outputs.rows[order]
        else:
            rows, partners = kernels.exchange(self.inputs.rows, self.outputs.rows, self.starts, self.inputs.count)
        sizes = self.inputs.sizes
        return KernelMap(Side(partners, self.outputs.count, sizes), Side(rows, self.inputs.count, sizes), self.identity)


def build_kernel_map(inputs: CoordinateMap, outputs: Tensor, offsets: Tensor, *, centred: bool) -> KernelMap:
    """Pairs of a convolution: out[u] takes in[u + offset_k] with weight k, where that voxel exists.

    Args:
        inputs: the N_in input voxels.
        outputs: int32 [N_out, 4] distinct output voxels, contiguous.
        offsets: int64 [K, 3] kernel offsets in grid units, contiguous.
        centred: whether inputs and outputs are the same rows and the offsets point-symmetric about their middle one.

    Returns:
        The map.
    """
    coordinates = inputs.coordinates
    kernels = native.library_on(coordinates.device)
    if kernels is not None:
        in_rows, out_rows, sizes = kernels.pairs(coordinates, inputs.slots, outputs, offsets, centred)
    else:
        in_rows, out_rows, sizes = _search(inputs, outputs, offsets, centred)
    identity = len(offsets) // 2 if centred else None
    return KernelMap(Side(in_rows, len(coordinates), sizes), Side(out_rows, len(outputs), sizes), identity)


def identity_map(count: int, device: torch.device) -> KernelMap:
    """The map of a 1×1×1 kernel at stride 1: every row meets itself."""
    side = Side(torch.arange(count, dtype=torch.int32, device=device), count, (count,))
    return KernelMap(side, side, 0)


def _search(
    inputs: CoordinateMap, outputs: Tensor, offsets: Tensor, centred: bool
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """`(in_rows, out_rows, sizes)` by binary search in sorted keys."""
    reach = offsets.abs().amax(0).tolist()
    (in_keys, out_keys), steps = pack([inputs.coordinates, outputs], (reach[0], reach[1], reach[2]))
    sorted_keys = in_keys[inputs.order]
    shifts = (offsets * torch.tensor(steps, device=offsets.device)).sum(1).tolist()
    half = len(shifts) // 2 if centred else len(shifts)
    hits = [
        (inputs.order[found], rows) for rows, found in _find(sorted_keys, out_keys, inputs.stride[0], shifts[:half])
    ]
    if centred:  # the second half of the cells mirrors the first
        every = torch.arange(len(outputs), device=outputs.device)
        mirrored = [(rows[order], found[order]) for found, rows in hits for order in [torch.argsort(found)]]
        hits = [*hits, (every, every), *reversed(mirrored)]
    in_rows, out_rows = (torch.cat(parts).int() for parts in zip(*hits, strict=True))
    return in_rows, out_rows, tuple(len(rows) for rows, _ in hits)


def _find(sorted_keys: Tensor, queries: Tensor, spacing: int, shifts: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """For every shift, the queries whose shifted key exists: index into `queries` and into `sorted_keys` of each."""
    none = torch.zeros(0, dtype=torch.int64, device=queries.device)
    previous, position, found = None, none, none
    for shift in shifts:
        if not len(sorted_keys):
            yield none, none
            continue
        # No voxel lies between two that are one stride apart along x: the next position follows without a search.
        follows = previous is not None and shift - previous == spacing
        position = position + found if follows else torch.searchsorted(sorted_keys, queries + shift)
        found = sorted_keys[position.clamp(max=len(sorted_keys) - 1)] == queries + shift
        query = torch.nonzero(found).squeeze(1)
        yield query, position[query]
        previous = shift


def _by_cell_and_row(side: Side) -> Tensor:
    """The int64 [P] order of pairs by cell, then by the row on this side."""
    cells = torch.repeat_interleave(
        torch.arange(len(side.sizes), device=side.rows.device), torch.tensor(side.sizes, device=side.rows.device)
    )
    return torch.argsort(cells * side.count + side.rows)
