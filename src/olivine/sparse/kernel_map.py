"""Kernel maps: which input voxel meets which output voxel under which weight.

A map depends on coordinates only, so that it is built once per resolution and kernel, and shared by every layer, by
its transpose and by the backward pass. The engines build it (`olivine.sparse.engines`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from olivine.host import counted


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
        counts = counted(self.rows, self.count)
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


def identity_map(count: int, device: torch.device) -> KernelMap:
    """The map of a 1×1×1 kernel at stride 1: every row meets itself."""
    side = Side(torch.arange(count, dtype=torch.int32, device=device), count, (count,))
    return KernelMap(side, side, 0)
