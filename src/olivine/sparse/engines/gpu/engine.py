"""The engine of a GPU: kernel maps, convolutions and norms by the programs of this package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from olivine.gpu.launch import blocks, on_device_of, power_of_two
from olivine.host import waiting
from olivine.sparse.coordinates import CoordinateMap, Triple
from olivine.sparse.engines.base import Epilogue
from olivine.sparse.engines.gpu import choices, plans, tuning, voxels
from olivine.sparse.engines.gpu.choices import Choice
from olivine.sparse.engines.gpu.norms import DeviceNorm
from olivine.sparse.engines.gpu.programs import products
from olivine.sparse.engines.reference import Reference
from olivine.sparse.engines.training_norm import normalize_in_training
from olivine.sparse.hooks import is_plain
from olivine.sparse.kernel_map import KernelMap

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_SUM_ROWS, _SUM_WIDE, _SUM_NUMBERS = 32, 64, 1024


class Triton(Reference):
    """The programs of this package; float64, voxels too far apart for a key and kernels of a cell go PyTorch's way."""

    def has_duplicates(self, voxels_: CoordinateMap) -> bool:
        """Whether two rows are equal."""
        index = voxels.index_of(voxels_)
        if index is None:
            return super().has_duplicates(voxels_)
        with waiting("whether voxels are distinct", index.keys.device):
            return bool((index.keys.diff() == 0).any())

    def coarsen(self, coordinates: Tensor, stride: Triple) -> Tensor:
        """Distinct voxels of a coarser grid."""
        coarse = voxels.coarsen(coordinates, stride)
        return super().coarsen(coordinates, stride) if coarse is None else coarse

    def reach(self, coordinates: Tensor, axes: Sequence[tuple[int, int, int, int, int]]) -> Tensor:
        """Cells that see a voxel."""
        reached = voxels.reach(coordinates, axes)
        return super().reach(coordinates, axes) if reached is None else reached

    def build(self, inputs: CoordinateMap, outputs: Tensor, offsets: Tensor, *, centred: bool) -> KernelMap:
        """Pairs of a convolution, by binary search in sorted keys, all cells at once."""
        index = voxels.index_of(inputs)
        if index is None:
            return super().build(inputs, outputs, offsets, centred=centred)
        table = voxels.neighbours(index, outputs.contiguous(), offsets.contiguous())
        return plans.map_of_table(table, len(inputs.coordinates), len(offsets) // 2 if centred else None)

    def exchange(self, kernel_map: KernelMap) -> KernelMap:
        """The same pairs with input and output exchanged."""
        return plans.exchanged(kernel_map)

    def convolve(self, features: Tensor, weight: Tensor, kernel_map: KernelMap, then: Epilogue) -> Tensor:
        """A convolution and what follows it, in one pass."""
        if not _fits(features, weight):
            return super().convolve(features, weight, kernel_map, then)
        if _is_matrix(kernel_map):
            return then.apply(features @ weight[0])
        if then.norm is not None and None in (then.norm.running_mean, then.norm.running_var, then.norm.weight):
            return then.apply(self.convolve(features, weight, kernel_map, Epilogue()))
        out = features.new_empty(kernel_map.outputs.count, weight.shape[2])
        if out.numel():
            with on_device_of(features):
                _convolve(out, features.contiguous(), weight, kernel_map, then)
        return out

    def weight_gradient(self, features: Tensor, grad: Tensor, kernel_map: KernelMap) -> Tensor:
        """Gradient of a convolution in its weight."""
        if not _fits(features, grad):
            return super().weight_gradient(features, grad, kernel_map)
        if _is_matrix(kernel_map):
            return (features.t() @ grad)[None]
        with on_device_of(features):
            return _weight_gradient(features.contiguous(), grad.contiguous(), kernel_map)

    def gather_sum(self, features: Tensor, kernel_map: KernelMap) -> Tensor:
        """Sums of rows that meet."""
        if not _fits(features):
            return super().gather_sum(features, kernel_map)
        return _pooled(products.gather_sum, kernel_map, features)

    def gather_max(self, features: Tensor, kernel_map: KernelMap) -> tuple[Tensor, Tensor]:
        """Largest of rows that meet, and which rows those are."""
        if not _fits(features):
            return super().gather_max(features, kernel_map)
        none = kernel_map.inputs.count
        winners = torch.empty((kernel_map.outputs.count, features.shape[1]), dtype=torch.int32, device=features.device)
        return _pooled(products.gather_max, kernel_map, features, winners, none), winners

    def max_gradient(self, grad: Tensor, winners: Tensor, kernel_map: KernelMap) -> Tensor:
        """Gradient of the largest in its rows, in the order of the cells of the transposed map."""
        if not _fits(grad):
            return super().max_gradient(grad, winners, kernel_map)
        return _pooled(products.max_gradient, self.transposed(kernel_map), grad, winners)

    def batch_norm(self, features: Tensor, norm: nn.BatchNorm1d, residual: Tensor | None, *, relu: bool) -> Tensor:
        """relu(norm(features) + residual); in training one operation, forward and backward."""
        parts = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        wide = all(part is not None and part.dtype == torch.float32 for part in parts)
        rest = () if residual is None else (residual,)
        if not (norm.training and is_plain(norm) and wide and norm.momentum is not None and _fits(features, *rest)):
            return super().batch_norm(features, norm, residual, relu=relu)
        return normalize_in_training(features, norm, residual, relu, DeviceNorm(norm))[0]


def _fits(*tensors: Tensor) -> bool:
    """Whether the programs take these: of one type that they are written for."""
    return tensors[0].dtype in _DTYPES and len({tensor.dtype for tensor in tensors}) == 1


def _pooled(program: Any, kernel_map: KernelMap, rows: Tensor, *others: Tensor | int) -> Tensor:
    """What a program of pooling makes of rows [N_in, C] and of other tensors, [N_out, C]; numbers come last."""
    rows = rows.contiguous()
    out = rows.new_empty(kernel_map.outputs.count, rows.shape[1])
    if out.numel():
        plan, tensors = plans.plan_of(kernel_map), [other for other in others if isinstance(other, Tensor)]
        grid = (blocks(len(out), _SUM_ROWS), blocks(out.shape[1], _SUM_WIDE))
        blocked = {"CELLS": len(plan.sizes), "ROWS": _SUM_ROWS, "WIDE": _SUM_WIDE}
        given = *tensors, plan.table, *out.shape, *others[len(tensors) :]
        with on_device_of(rows):
            program[grid](out, rows, *given, **blocked)
    return out


def _is_matrix(kernel_map: KernelMap) -> bool:
    """Whether the convolution is a plain product of two matrices."""
    return len(kernel_map.inputs.sizes) == 1 and kernel_map.identity == 0


def _convolve(out: Tensor, features: Tensor, weight: Tensor, kernel_map: KernelMap, then: Epilogue) -> None:
    (cells, c_in, c_out), count, pairs = weight.shape, len(out), sum(kernel_map.inputs.sizes)
    precision = choices.precision_of(features.dtype)
    plan, norm = plans.plan_of(kernel_map), then.norm
    parts = (None,) * 4 if norm is None else (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    residual = then.residual if then.residual is None else then.residual.contiguous()
    followed = then.bias, *parts, residual, 0.0 if norm is None else norm.eps

    def launch(tile: Choice) -> None:
        tiles = plan.tiles(tile.rows)
        given = plan.ordered, plan.order, tiles.cells, tiles.counts, count, c_in, c_out, *weight.stride()
        products.convolve[(len(tiles.counts), blocks(c_out, tile.channels))](
            out,
            features,
            weight,
            *given,
            *followed,
            CELLS=cells,
            ROWS=tile.rows,
            OUT=tile.channels,
            IN=tile.inner,
            TOGETHER=tile.together,
            EVEN_IN=c_in % tile.inner == 0,
            EVEN_OUT=c_out % tile.channels == 0,
            RELU=then.relu,
            **_common(tile, precision, features),
        )

    model = choices.convolution(count, pairs, cells, c_in, c_out, precision)
    offered = choices.offered(model, c_out, 2.0 * pairs * c_in * c_out)
    kind = tuning.size_class(count, pairs), cells, c_in, c_out, features.dtype, precision
    launch(tuning.chosen(tuning.key_of("convolve", model, *kind), offered, launch, features.device))


def _common(tile: Choice, precision: str, features: Tensor) -> dict[str, Any]:
    """What every start of a product is told."""
    return {
        "PRECISION": "tf32" if precision == "tf32" else "ieee",
        "WIDEN": not features.is_cuda,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }


def _weight_gradient(features: Tensor, grad: Tensor, kernel_map: KernelMap) -> Tensor:
    c_in, c_out, cells = features.shape[1], grad.shape[1], len(kernel_map.inputs.sizes)
    result = features.new_empty(cells, c_in, c_out)
    if not result.numel():
        return result
    precision, plan = choices.precision_of(features.dtype), plans.plan_of(kernel_map)
    model, pairs = choices.weight_gradient(c_in, c_out, precision), sum(plan.sizes)
    across = blocks(c_in, model.inner), blocks(c_out, model.channels)
    chunks = plan.chunks(choices.chunk_length(pairs, across[0] * across[1]))
    partial = features.new_empty((chunks.count, c_in, c_out), dtype=torch.float32)
    given = kernel_map.inputs.rows, kernel_map.outputs.rows, plan.starts, chunks.starts, c_in, c_out, chunks.length

    def launch(tile: Choice) -> None:
        products.weight_gradient[(chunks.count, across[0], across[1])](
            partial,
            features,
            grad,
            *given,
            CELLS=cells,
            SPAN=power_of_two(cells),
            IN=tile.inner,
            OUT=tile.channels,
            PAIRS=tile.rows,
            **_common(tile, precision, features),
        )

    if chunks.count:
        kind = pairs.bit_length(), cells, c_in, c_out, features.dtype, precision
        offered = choices.offered_gradients(model, 2.0 * pairs * c_in * c_out)
        launch(tuning.chosen(tuning.key_of("weight_gradient", model, *kind), offered, launch, features.device))
    grid = (blocks(c_in * c_out, _SUM_NUMBERS), cells)
    products.sum_chunks[grid](result, partial, chunks.starts, c_in * c_out, BLOCK=_SUM_NUMBERS)
    return result
