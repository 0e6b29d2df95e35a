"""Kernel maps: which input voxel meets which output voxel under which weight.

A map depends on coordinates only, so that it is built once per resolution and kernel, and shared by every layer, by
its transpose and by the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from olivine.sparse.coordinates import Triple, pack


@dataclass(frozen=True)
class Segments:
    """The pairs of a kernel map regrouped by output row.

    Attributes:
        order: int64 [P] pairs, those of output row 0 first; within a row by kernel cell.
        starts: int64 [N_out + 1] row u owns `order[starts[u]:starts[u + 1]]`.
    """

    order: Tensor
    starts: Tensor


@dataclass(frozen=True)
class KernelMap:
    """Pairs (input row, output row), grouped by kernel cell. Within a cell no row occurs twice on either side.

    Attributes:
        in_rows: int64 [P] input row of each pair.
        out_rows: int64 [P] output row of each pair.
        sizes: [K] number of pairs of each kernel cell, in the order of the weights; their sum is P.
        in_count: number of input rows.
        out_count: number of output rows.
        identity: kernel cell that maps every row to itself in order (the centre of an odd kernel at stride 1), or None.
    """

    in_rows: Tensor
    out_rows: Tensor
    sizes: tuple[int, ...]
    in_count: int
    out_count: int
    identity: int | None

    @cached_property
    def transposed(self) -> KernelMap:
        """The same pairs with input and output exchanged."""
        flipped = KernelMap(self.out_rows, self.in_rows, self.sizes, self.out_count, self.in_count, self.identity)
        flipped.__dict__["transposed"] = self
        return flipped

    @cached_property
    def cells(self) -> list[tuple[Tensor, Tensor]]:
        """Per kernel cell, its (input rows, output rows)."""
        return list(zip(self.split(self.in_rows), self.split(self.out_rows), strict=True))

    def split(self, pairs: Tensor) -> tuple[Tensor, ...]:
        """Views of a [P, …] tensor of pairs, one per kernel cell."""
        return torch.split(pairs, list(self.sizes))

    @cached_property
    def segments(self) -> Segments:
        """The pairs regrouped by output row."""
        counts = torch.bincount(self.out_rows, minlength=self.out_count)
        starts = torch.zeros(self.out_count + 1, dtype=torch.int64, device=counts.device)
        torch.cumsum(counts, 0, out=starts[1:])
        return Segments(torch.argsort(self.out_rows, stable=True), starts)


def build_kernel_map(inputs: Tensor, outputs: Tensor, order: Tensor, offsets: Tensor) -> KernelMap:
    """Pairs of a convolution: out[u] takes in[u + offset_k] with weight k, where that voxel exists.

    Args:
        inputs: int32 [N_in, 4] distinct input voxels.
        outputs: int32 [N_out, 4] distinct output voxels; the same object as `inputs` where they are one map.
        order: int64 [N_in] permutation that sorts `inputs`.
        offsets: int64 [K, 3] kernel offsets in grid units.

    Returns:
        The map.
    """
    reach = offsets.abs().amax(0).tolist()
    (in_keys, out_keys), steps = pack([inputs, outputs], (reach[0], reach[1], reach[2]))
    sorted_keys = in_keys[order]
    shifts = _shifts(offsets, steps)
    if inputs is outputs and bool((offsets == -offsets.flip(0)).all()):
        return _symmetric(sorted_keys, order, shifts)
    cells, positions, sizes = _find(sorted_keys, out_keys, shifts)
    return KernelMap(order[positions], cells, sizes, len(inputs), len(outputs), None)


def _shifts(offsets: Tensor, steps: Triple) -> Tensor:
    """How far each kernel offset [K, 3] moves a key, int64 [K]."""
    return offsets[:, 0] * steps[0] + offsets[:, 1] * steps[1] + offsets[:, 2] * steps[2]


def _symmetric(sorted_keys: Tensor, order: Tensor, shifts: Tensor) -> KernelMap:
    """The map of a centred kernel onto its own voxels: the second half of the cells mirrors the first."""
    count, half = len(order), len(shifts) // 2
    queries, positions, sizes = _find(sorted_keys, sorted_keys, shifts[:half])
    near, far = order[queries], order[positions]
    every = torch.arange(count, device=order.device)
    nears, fars = torch.split(near, list(sizes)), torch.split(far, list(sizes))
    in_cells = [*fars, every, *reversed(nears)]
    out_cells = [*nears, every, *reversed(fars)]
    all_sizes = (*sizes, count, *reversed(sizes))
    return KernelMap(torch.cat(in_cells), torch.cat(out_cells), all_sizes, count, count, half)


def _find(sorted_keys: Tensor, queries: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """For every shift, the queries whose shifted key exists.

    Returns:
        `(query, position, sizes)`: index into `queries` and into `sorted_keys` of each hit, grouped by shift, and the
        number of hits of each shift.
    """
    if not len(sorted_keys) or not len(queries) or not len(shifts):
        none = torch.zeros(0, dtype=torch.int64, device=queries.device)
        return none, none, (0,) * len(shifts)
    hits = []
    for shift in shifts.tolist():
        wanted = queries + shift
        position = torch.searchsorted(sorted_keys, wanted).clamp_(max=len(sorted_keys) - 1)
        (query,) = torch.nonzero(sorted_keys[position] == wanted, as_tuple=True)
        hits.append((query, position[query]))
    query, position = (torch.cat(parts) for parts in zip(*hits, strict=True))
    return query, position, tuple(len(part) for part, _ in hits)
