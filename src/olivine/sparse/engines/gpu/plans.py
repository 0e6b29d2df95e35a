"""What the programs need to know of a kernel map: made when first asked for and kept as long as the map lives.

A kernel map lists its pairs cell by cell, which is what the gradient in the weight reads. A convolution goes by output
rows instead: a table says for every cell and output row which input row they meet. Rows that have the same cells are
put next to each other, so that a tile of them looks at few cells that only some of its rows have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from olivine.gpu.launch import ROWS, blocks, on_device, on_device_of
from olivine.host import waiting
from olivine.sparse.engines.gpu.programs import maps as programs
from olivine.sparse.kernel_map import KernelMap, Side


@dataclass(frozen=True)
class Tiles:
    """Which kernel cells each tile of rows has.

    Attributes:
        cells: int32 [T, K] ascending; only the first `counts` are meant.
        counts: int32 [T].
    """

    cells: Tensor
    counts: Tensor


@dataclass(frozen=True)
class Chunks:
    """The pairs of every cell cut into chunks of one length.

    Attributes:
        length: pairs of a chunk; the last of a cell has fewer.
        count: number of chunks.
        starts: int32 [K + 1] the first chunk of each cell, and how many there are.
    """

    length: int
    count: int
    starts: Tensor


@dataclass(eq=False)
class Plan:
    """A kernel map as the programs read it.

    Attributes:
        table: int32 [K, N_out] input row of each cell and output row, −1 where there is none.
        starts: int32 [K + 1] the first pair of each cell, and P.
        sizes: [K] number of pairs of each cell.
    """

    table: Tensor
    starts: Tensor
    sizes: tuple[int, ...]
    _order: Tensor | None = None
    _tiles: dict[int, Tiles] = field(default_factory=dict)
    _chunks: dict[int, Chunks] = field(default_factory=dict)

    @property
    def order(self) -> Tensor:
        """int64 [N_out] the output rows, those that have the same cells next to each other."""
        if self._order is None:
            signs = torch.empty(self.table.shape[1], dtype=torch.int64, device=self.table.device)
            if len(signs):
                with on_device_of(signs):
                    grid = (blocks(len(signs), ROWS),)
                    bits = on_device(_bits(self.sizes), torch.int32, self.table.device)
                    programs.signatures[grid](signs, self.table, bits, len(signs), CELLS=len(self.sizes), BLOCK=ROWS)
            self._order = torch.sort(signs, stable=True)[1]
        return self._order

    @cached_property
    def ordered(self) -> Tensor:
        """int32 [K, N_out] the columns of the table in that order."""
        return self.table.index_select(1, self.order)

    def tiles(self, rows: int) -> Tiles:
        """The cells of tiles of this many rows, a power of two."""
        if rows not in self._tiles:
            cells, count = self.table.shape
            tiles = blocks(count, rows)
            made = self.table.new_empty(tiles, cells), self.table.new_empty(tiles)
            if tiles:
                with on_device_of(self.table):
                    programs.cells_of_tiles[(tiles,)](*made, self.ordered, count, CELLS=cells, BLOCK=rows)
            self._tiles[rows] = Tiles(*made)
        return self._tiles[rows]

    def chunks(self, length: int) -> Chunks:
        """The pairs in chunks of this length."""
        if length not in self._chunks:
            firsts = (0, *accumulate(blocks(size, length) for size in self.sizes))
            self._chunks[length] = Chunks(length, firsts[-1], on_device(firsts, torch.int32, self.table.device))
        return self._chunks[length]


_PLANS: WeakKeyDictionary[KernelMap, Plan] = WeakKeyDictionary()


def plan_of(kernel_map: KernelMap) -> Plan:
    """The plan of a map, made once."""
    found = _PLANS.get(kernel_map)
    if found is None:
        found = _PLANS[kernel_map] = _plan_of_pairs(kernel_map)
    return found


def map_of_table(table: Tensor, inputs: int, identity: int | None) -> KernelMap:
    """The pairs of a table.

    Args:
        table: int32 [K, N_out] input row of each cell and output row, −1 where there is none.
        inputs: number of input rows.
        identity: the cell that maps every row to itself, or None.

    Returns:
        The map, whose plan is made of the same table. How many pairs each cell has is read back from the device.
    """
    ends = (table >= 0).view(-1).cumsum(0, dtype=torch.int32)
    last = ends.view(table.shape)[:, -1] if table.shape[1] else ends.new_zeros(len(table))
    starts = torch.nn.functional.pad(last, (1, 0))
    with waiting("how many pairs each cell of a kernel has", table.device):
        numbers = starts.tolist()
    sizes = tuple(after - before for before, after in pairwise(numbers))
    return _compacted(table, ends, Plan(table, starts, sizes), inputs, identity)


def exchanged(kernel_map: KernelMap) -> KernelMap:
    """The same pairs with input and output exchanged. Nothing is read back from the device."""
    plan = plan_of(kernel_map)
    if kernel_map.identity is not None and plan.sizes == plan.sizes[::-1]:
        return _mirrored(kernel_map, plan)
    inputs, outputs = kernel_map.outputs, kernel_map.inputs
    table = _spread(inputs.rows, outputs.rows, plan.starts, outputs.count)
    ends = (table >= 0).view(-1).cumsum(0, dtype=torch.int32)
    return _compacted(table, ends, Plan(table, plan.starts, plan.sizes), inputs.count, kernel_map.identity)


def _mirrored(kernel_map: KernelMap, plan: Plan) -> KernelMap:
    """`exchanged` where the cells are symmetric about one that maps every row to itself.

    The pairs of a cell, exchanged, are those of the cell opposite, and rows that have the same cells still do.
    """
    sides = [
        Side(torch.cat(side.cells[::-1]), side.count, side.sizes[::-1])
        for side in (kernel_map.inputs, kernel_map.outputs)
    ]
    result = KernelMap(sides[0], sides[1], kernel_map.identity)
    _PLANS[result] = Plan(plan.table.flip(0), plan.starts, plan.sizes, plan.order)
    return result


def _compacted(table: Tensor, ends: Tensor, plan: Plan, inputs: int, identity: int | None) -> KernelMap:
    """The map of a table, with its plan; `ends` counts the pairs up to each entry."""
    cells, count = table.shape
    # Tensors of their own, which begin at multiples of 16 bytes: Triton compiles a program anew for one that does not.
    in_rows, out_rows = (table.new_empty(sum(plan.sizes)) for _ in range(2))
    if len(in_rows):
        with on_device_of(table):
            programs.compact[(blocks(count, ROWS), cells)](in_rows, out_rows, table, ends, count, BLOCK=ROWS)
    result = KernelMap(Side(in_rows, inputs, plan.sizes), Side(out_rows, count, plan.sizes), identity)
    _PLANS[result] = plan
    return result


def _bits(sizes: tuple[int, ...]) -> list[int]:
    """Which bit stands for each cell when rows are sorted: the rarer the cell, the higher.

    Sorting splits the rows by the highest bit first. Split by what few rows have, most rows stay together for the next
    bit, and what many rows have is split last, within what is alike already. Of more cells than 62 the commonest, which
    decide last, share the lowest bit.
    """
    order = sorted(range(len(sizes)), key=lambda cell: -sizes[cell])
    places = {cell: place for place, cell in enumerate(order)}
    return [max(0, places[cell] - max(0, len(sizes) - 62)) for cell in range(len(sizes))]


def _plan_of_pairs(kernel_map: KernelMap) -> Plan:
    inputs, outputs = kernel_map.inputs, kernel_map.outputs
    starts = on_device((0, *accumulate(inputs.sizes)), torch.int32, inputs.rows.device)
    return Plan(_spread(inputs.rows, outputs.rows, starts, outputs.count), starts, inputs.sizes)


def _spread(in_rows: Tensor, out_rows: Tensor, starts: Tensor, count: int) -> Tensor:
    """The table [K, count] of pairs, of which `starts` says where each cell's begin."""
    cells = len(starts) - 1
    table = torch.full((cells, count), -1, dtype=torch.int32, device=in_rows.device)
    if len(in_rows):
        with on_device_of(table):
            grid = (blocks(len(in_rows), ROWS),)
            programs.spread[grid](table, in_rows, out_rows, starts, count, len(in_rows), CELLS=cells, BLOCK=ROWS)
    return table
