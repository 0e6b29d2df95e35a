"""Kernel maps: which input voxel meets which output voxel under which weight.

A map depends on coordinates only, so that it is built once per resolution and kernel, and shared by every layer, by
its transpose and by the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from olivine.sparse.coordinates import pack


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
        rows: int64 [P] row of each pair.
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
    """Pairs (input row, output row), grouped by kernel cell.

    Attributes:
        inputs: the input row of each pair.
        outputs: the output row of each pair.
        identity: kernel cell that maps every row to itself in order (the centre of an odd kernel at stride 1), or None.
    """

    inputs: Side
    outputs: Side
    identity: int | None = None

    @property
    def transposed(self) -> KernelMap:
        """The same pairs with input and output exchanged; what was derived from a side stays with it."""
        return KernelMap(self.outputs, self.inputs, self.identity)


def build_kernel_map(inputs: Tensor, outputs: Tensor, order: Tensor, spacing: int, offsets: Tensor) -> KernelMap:
    """Pairs of a convolution: out[u] takes in[u + offset_k] with weight k, where that voxel exists.

    Args:
        inputs: int32 [N_in, 4] distinct input voxels.
        outputs: int32 [N_out, 4] distinct output voxels; the same object as `inputs` where they are one map.
        order: int64 [N_in] permutation that puts `inputs` into raster order.
        spacing: stride of the inputs along x.
        offsets: int64 [K, 3] kernel offsets in grid units.

    Returns:
        The map.
    """
    reach = offsets.abs().amax(0).tolist()
    (in_keys, out_keys), steps = pack([inputs, outputs], (reach[0], reach[1], reach[2]))
    sorted_keys = in_keys[order]
    shifts = (offsets * torch.tensor(steps, device=offsets.device)).sum(1).tolist()
    if inputs is outputs and bool((offsets == -offsets.flip(0)).all()):
        return _symmetric(sorted_keys, order, spacing, shifts)
    queries, positions, sizes = _find(sorted_keys, out_keys, spacing, shifts)
    return KernelMap(Side(order[positions], len(inputs), sizes), Side(queries, len(outputs), sizes))


def _symmetric(sorted_keys: Tensor, order: Tensor, spacing: int, shifts: list[int]) -> KernelMap:
    """The map of a centred kernel onto its own voxels: the second half of the cells mirrors the first."""
    count, half = len(order), len(shifts) // 2
    queries, positions, sizes = _find(sorted_keys, sorted_keys, spacing, shifts[:half])
    nears, fars = torch.split(order[queries], list(sizes)), torch.split(order[positions], list(sizes))
    every = torch.arange(count, device=order.device)
    in_rows = torch.cat([*fars, every, *reversed(nears)])
    out_rows = torch.cat([*nears, every, *reversed(fars)])
    sizes = (*sizes, count, *reversed(sizes))
    return KernelMap(Side(in_rows, count, sizes), Side(out_rows, count, sizes), half)


def _find(
    sorted_keys: Tensor, queries: Tensor, spacing: int, shifts: list[int]
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """For every shift, the queries whose shifted key exists.

    Returns:
        `(query, position, sizes)`: index into `queries` and into `sorted_keys` of each hit, grouped by shift, and the
        number of hits of each shift.
    """
    none = torch.zeros(0, dtype=torch.int64, device=queries.device)
    if not len(sorted_keys):
        return none, none, (0,) * len(shifts)
    hits = [(none, none)]
    previous, position, found = None, none, none
    for shift in shifts:
        # No voxel lies between two that are one stride apart along x: the next position follows without a search.
        follows = previous is not None and shift - previous == spacing
        position = position + found if follows else torch.searchsorted(sorted_keys, queries + shift)
        found = sorted_keys[position.clamp(max=len(sorted_keys) - 1)] == queries + shift
        query = torch.nonzero(found).squeeze(1)
        hits.append((query, position[query]))
        previous = shift
    query, position = (torch.cat(parts) for parts in zip(*hits, strict=True))
    return query, position, tuple(len(part) for part, _ in hits[1:])
