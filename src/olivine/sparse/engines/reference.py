"""Sparse convolution in PyTorch: on every device, in every type, and what other engines are held against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.weak import WeakIdKeyDictionary

from olivine.host import fetched, numbers_on, waiting
from olivine.sparse.coordinates import CoordinateMap, Triple, floor_to_stride, pack, unique_rows
from olivine.sparse.engines.base import Engine, Epilogue
from olivine.sparse.kernel_map import KernelMap, Side

_SMALL = 2**20
"""Numbers in a temporary up to which one pass over all kernel cells is faster than one pass per cell."""


class Reference(Engine):
    """PyTorch's own operations."""

    def has_duplicates(self, voxels: CoordinateMap) -> bool:
        """Whether two rows are equal."""
        rows = voxels.coordinates[voxels.order]
        with waiting("whether voxels are distinct", rows.device):
            return bool((rows[1:] == rows[:-1]).all(dim=1).any())

    def coarsen(self, coordinates: Tensor, stride: Triple) -> Tensor:
        """Distinct voxels of a coarser grid."""
        return floor_to_stride(coordinates, stride)

    def reach(self, coordinates: Tensor, axes: Sequence[tuple[int, int, int, int, int]]) -> Tensor:
        """Cells that see a voxel. A kernel is a box: going axis by axis keeps the candidates few."""
        rows = coordinates
        for column, (size, step, pad, spread, cells) in zip((1, 2, 3), axes, strict=True):
            taps = torch.arange(size, device=rows.device) * spread
            scaled = rows[:, column, None].long() + pad - taps
            hits = (scaled >= 0) & (scaled < cells * step) & (scaled % step == 0)
            with waiting("how many cells voxels reach", rows.device):
                row, tap = hits.nonzero().unbind(1)
            reached = rows[row].long()
            reached[:, column] = scaled[row, tap] // step
            rows = unique_rows(reached)
        return rows

    def build(self, inputs: CoordinateMap, outputs: Tensor, offsets: Tensor, *, centred: bool) -> KernelMap:
        """Pairs of a convolution, by binary search in sorted keys."""
        in_rows, out_rows, sizes = _search(inputs, outputs, offsets, centred)
        identity = len(offsets) // 2 if centred else None
        return KernelMap(Side(in_rows, len(inputs.coordinates), sizes), Side(out_rows, len(outputs), sizes), identity)

    def exchange(self, kernel_map: KernelMap) -> KernelMap:
        """The same pairs with input and output exchanged."""
        inputs, outputs = kernel_map.inputs, kernel_map.outputs
        order = _by_cell_and_row(inputs)
        return KernelMap(
            Side(outputs.rows[order], outputs.count, inputs.sizes),
            Side(inputs.rows[order], inputs.count, inputs.sizes),
            kernel_map.identity,
        )

    def convolve(self, features: Tensor, weight: Tensor, kernel_map: KernelMap, then: Epilogue) -> Tensor:
        """A convolution and what follows it."""
        return then.apply(_convolve(features, weight, kernel_map))

    def weight_gradient(self, features: Tensor, grad: Tensor, kernel_map: KernelMap) -> Tensor:
        """Gradient of a convolution in its weight."""
        result = features.new_empty(len(kernel_map.inputs.sizes), features.shape[1], grad.shape[1])
        exchanged = KernelMap(kernel_map.outputs, kernel_map.inputs, kernel_map.identity)
        inputs, outputs = _rows_by_cell(features, kernel_map), _rows_by_cell(grad, exchanged)
        for rows, grads, matrix in zip(inputs, outputs, result.unbind(), strict=True):
            torch.mm(rows.t(), grads, out=matrix)
        return result

    def gather_sum(self, features: Tensor, kernel_map: KernelMap) -> Tensor:
        """Sums of rows that meet."""
        out = features.new_zeros(kernel_map.outputs.count, features.shape[1])
        for in_rows, out_rows in zip(kernel_map.inputs.cells, kernel_map.outputs.cells, strict=True):
            out.index_add_(0, out_rows, features.index_select(0, in_rows))
        return out

    def gather_max(self, features: Tensor, kernel_map: KernelMap) -> tuple[Tensor, Tensor]:
        """Largest of rows that meet."""
        none = kernel_map.inputs.count
        best = features.new_zeros(kernel_map.outputs.count, features.shape[1])
        winners = torch.full(best.shape, none, dtype=torch.int32, device=best.device)
        for in_rows, out_rows in zip(kernel_map.inputs.cells, kernel_map.outputs.cells, strict=True):
            seen, before, winner = features[in_rows], best[out_rows], winners[out_rows]
            # A NaN wins over everything, so that it is not lost on the way.
            wins = (winner == none) | (seen > before) | (seen.isnan() & ~before.isnan())
            best[out_rows] = torch.where(wins, seen, before)
            winners[out_rows] = torch.where(wins, in_rows[:, None], winner)
        return best, winners

    def max_gradient(self, grad: Tensor, winners: Tensor, kernel_map: KernelMap) -> Tensor:
        """Gradient of the largest in its rows; within a cell no row occurs twice, so that no order is left open."""
        out = grad.new_zeros(kernel_map.inputs.count, grad.shape[1])
        for in_rows, out_rows in zip(kernel_map.inputs.cells, kernel_map.outputs.cells, strict=True):
            out.index_add_(0, in_rows, grad[out_rows].masked_fill(winners[out_rows] != in_rows[:, None], 0))
        return out

    def batch_norm(self, features: Tensor, norm: nn.BatchNorm1d, residual: Tensor | None, *, relu: bool) -> Tensor:
        """relu(norm(features) + residual)."""
        out: Tensor = norm(features)
        if residual is not None:
            out = out + residual
        return torch.relu(out) if relu else out


def _convolve(features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    size = max(weight.shape[1], weight.shape[2])
    # embedding_bag sums segments fast on a CPU in float32 alone.
    if _is_small(kernel_map, size) and features.dtype == torch.float32 and features.device.type == "cpu":
        return _convolve_at_once(features, weight, kernel_map)
    out = features.new_zeros(kernel_map.outputs.count, weight.shape[2])
    parts = zip(_rows_by_cell(features, kernel_map), weight.unbind(), kernel_map.outputs.cells, strict=True)
    for cell, (rows, matrix, out_rows) in enumerate(parts):
        if cell == kernel_map.identity:
            out.addmm_(rows, matrix)
        else:
            out.index_add_(0, out_rows, rows @ matrix)
    return out


def _convolve_at_once(features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """`_convolve` with one segmented sum for all cells: fewer calls, which dominate at small sizes."""
    sizes = list(kernel_map.inputs.sizes)
    products = features.new_empty(sum(sizes), weight.shape[2])
    parts = zip(_rows_by_cell(features, kernel_map), weight.unbind(), torch.split(products, sizes), strict=True)
    for rows, matrix, product in parts:
        torch.mm(rows, matrix, out=product)
    segments = kernel_map.outputs.segments
    return functional.embedding_bag(segments.order, products, segments.starts, mode="sum", include_last_offset=True)


def _is_small(kernel_map: KernelMap, channels: int) -> bool:
    """Whether a temporary with a row per pair is small."""
    return len(kernel_map.inputs.rows) * channels <= _SMALL


def _rows_by_cell(features: Tensor, kernel_map: KernelMap) -> Iterable[Tensor]:
    """The input rows of the pairs, cell by cell: gathered in one call where that is small, else when asked for."""
    if _is_small(kernel_map, features.shape[1]):
        return torch.split(features.index_select(0, kernel_map.inputs.rows), list(kernel_map.inputs.sizes))
    return (
        features if cell == kernel_map.identity else features.index_select(0, in_rows)
        for cell, in_rows in enumerate(kernel_map.inputs.cells)
    )


def _search(
    inputs: CoordinateMap, outputs: Tensor, offsets: Tensor, centred: bool
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """`(in_rows, out_rows, sizes)` by binary search in sorted keys."""
    known = _on_host(offsets)
    reach = known.abs().amax(0).tolist()
    (in_keys, out_keys), steps = pack([inputs.coordinates, outputs], (reach[0], reach[1], reach[2]))
    sorted_keys = in_keys[inputs.order]
    shifts = (known * torch.tensor(steps)).sum(1).tolist()
    if outputs.device.type != "cpu":
        return _search_at_once(inputs, sorted_keys, out_keys, shifts)
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


def _search_at_once(
    inputs: CoordinateMap, sorted_keys: Tensor, queries: Tensor, shifts: list[int]
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """`_search` for all cells together, so that the host waits once."""
    if not len(sorted_keys) or not len(queries):
        none = queries.new_zeros(0, dtype=torch.int32)
        return none, none, (0,) * len(shifts)
    wanted = queries + numbers_on(queries.device, shifts, torch.int64)[:, None]
    place = torch.searchsorted(sorted_keys, wanted).clamp_(max=len(sorted_keys) - 1)
    found = sorted_keys[place] == wanted
    with waiting("how many pairs each cell of a kernel has", queries.device):
        sizes = found.sum(1).tolist()
    # As `torch.nonzero_static`, which PyTorch has for GPUs since 2.7 only.
    hits = found.logical_not().view(-1).byte().argsort(stable=True)[: sum(sizes)]
    cell, row = hits // len(queries), hits % len(queries)
    return inputs.order[place[cell, row]].int(), row.int(), tuple(sizes)


_ON_HOST: MutableMapping[Tensor, Tensor] = WeakIdKeyDictionary()
"""Offsets of kernels on the CPU, for as long as they live elsewhere."""


def _on_host(offsets: Tensor) -> Tensor:
    if offsets.device.type == "cpu":
        return offsets
    if offsets not in _ON_HOST:
        _ON_HOST[offsets] = fetched(offsets, "the cells of a kernel, once a process")
    return _ON_HOST[offsets]


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
    device = side.rows.device
    cells = torch.repeat_interleave(
        torch.arange(len(side.sizes), device=device), numbers_on(device, side.sizes), output_size=len(side.rows)
    )
    return torch.argsort(cells * side.count + side.rows)
