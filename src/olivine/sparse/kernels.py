"""The arithmetic of sparse layers on plain tensors: the seam between what a layer means and how it is computed.

Everything above this module speaks of layers and coordinates, everything here of rows, weights and a `KernelMap`. In
float32 on the CPU the C++ kernels of `olivine.native` do the work, on a GPU spconv where it is installed, and
everywhere else, and as their reference, PyTorch. Within a kernel cell no row occurs twice, and sums are made in an
order that depends on the sizes alone: the same bits on every run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from olivine import native
from olivine.sparse import spconv_adapter
from olivine.sparse.kernel_map import KernelMap

_SMALL = 2**20
"""Numbers in a temporary up to which one pass over all kernel cells is faster than one pass per cell."""


@dataclass(frozen=True)
class Epilogue:
    """What follows a convolution row by row: relu(norm(out + bias) + residual).

    Attributes:
        bias: [C_out], or None for 0.
        norm: a batch norm in evaluation, with running statistics, or None.
        residual: [N_out, C_out], or None for 0.
        relu: whether negative results become 0.
    """

    bias: Tensor | None = None
    norm: nn.BatchNorm1d | None = None
    residual: Tensor | None = None
    relu: bool = False

    def apply(self, out: Tensor) -> Tensor:
        """The result for the sums [N_out, C_out], in PyTorch."""
        if self.bias is not None:
            out = out + self.bias
        if self.norm is not None:
            norm = self.norm
            out = functional.batch_norm(
                out, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
            )
        if self.residual is not None:
            out = out + self.residual
        return torch.relu(out) if self.relu else out


def gather_matmul_scatter(
    features: Tensor, weight: Tensor, kernel_map: KernelMap, bias: Tensor | None = None
) -> Tensor:
    """Generalised sparse convolution: out[u] = Σ_k in[rows of cell k that meet u] @ weight[k] + bias.

    Args:
        features: [N_in, C_in].
        weight: [K, C_in, C_out], of the same type.
        kernel_map: the pairs.
        bias: [C_out], or None for 0.

    Returns:
        [N_out, C_out], differentiable once in `features`, `weight` and `bias`; of autocast's type where autocast is on,
        which as elsewhere in PyTorch leaves float64 alone.
    """
    device = features.device.type
    if torch.is_autocast_enabled(device) and features.dtype != torch.float64:
        low = torch.get_autocast_dtype(device)
        features, weight, bias = features.to(low), weight.to(low), None if bias is None else bias.to(low)
    if not torch.is_grad_enabled():
        return convolve(features, weight, kernel_map, Epilogue(bias))
    result: Tensor = _Convolution.apply(features, weight, bias, kernel_map)  # type: ignore[no-untyped-call]
    return result


class _Convolution(torch.autograd.Function):
    """Sparse convolution with its gradients."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, kernel_map: KernelMap) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.kernel_map = kernel_map
        return convolve(features, weight, kernel_map, Epilogue(bias))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_bias = grad.sum(0) if ctx.needs_input_grad[2] else None
        if spconv_adapter.available(grad.device, grad.dtype):
            return (*spconv_adapter.gradients(features, weight, grad, ctx.kernel_map), grad_bias, None)
        grad_features = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_features = convolve(grad, weight.transpose(1, 2), ctx.kernel_map.transposed)
        if ctx.needs_input_grad[1]:
            grad_weight = weight_gradient(features, grad, ctx.kernel_map)
        return grad_features, grad_weight, grad_bias, None


def convolve(features: Tensor, weight: Tensor, kernel_map: KernelMap, epilogue: Epilogue | None = None) -> Tensor:
    """The value of a convolution and of what follows it, without a gradient.

    Args:
        features: [N_in, C_in].
        weight: [K, C_in, C_out], of the same type.
        kernel_map: the pairs.
        epilogue: what follows; nothing if None.

    Returns:
        [N_out, C_out].
    """
    then = epilogue or Epilogue()
    _check(features, weight, kernel_map, then)
    norm = () if then.norm is None else (then.norm.weight, then.norm.running_mean, then.norm.running_var)
    kernels = native.library_for(features, weight, then.bias, then.residual, *norm)
    if kernels is not None:
        return _convolve_natively(kernels, features, weight, kernel_map, then)
    if spconv_adapter.available(features.device, features.dtype):
        return then.apply(spconv_adapter.convolve(features, weight, kernel_map))
    return then.apply(_convolve(features, weight, kernel_map))


def _check(features: Tensor, weight: Tensor, kernel_map: KernelMap, then: Epilogue) -> None:
    """Make sure that all sizes fit: the C++ kernels trust them."""
    cells, in_channels, out_channels = weight.shape
    if cells != len(kernel_map.inputs.sizes) or features.shape != (kernel_map.inputs.count, in_channels):
        raise ValueError(
            f"features {list(features.shape)} and weight {list(weight.shape)} do not fit a kernel map of "
            f"{len(kernel_map.inputs.sizes)} cells from {kernel_map.inputs.count} rows"
        )
    if then.norm is not None and then.norm.num_features != out_channels:
        raise ValueError(f"a norm of {then.norm.num_features} channels does not fit a convolution to {out_channels}")
    if then.bias is not None and then.bias.shape != (out_channels,):
        raise ValueError(f"a bias {list(then.bias.shape)} does not fit a convolution to {out_channels} channels")
    if then.residual is not None and then.residual.shape != (kernel_map.outputs.count, out_channels):
        raise ValueError(
            f"a residual {list(then.residual.shape)} does not fit {kernel_map.outputs.count} rows of {out_channels}"
        )


def _convolve_natively(
    kernels: native.Library, features: Tensor, weight: Tensor, kernel_map: KernelMap, then: Epilogue
) -> Tensor:
    scale, shift, mean, variance, eps = None, then.bias, None, None, 0.0
    if then.norm is not None:
        norm = then.norm
        scale, shift, mean, variance, eps = norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps
        if then.bias is not None and mean is not None:
            mean = mean - then.bias
    return kernels.convolve(
        features.contiguous(),
        weight.contiguous(),
        kernel_map.inputs.rows,
        kernel_map.outputs.rows,
        kernel_map.starts,
        kernel_map.outputs.count,
        identity=kernel_map.identity,
        scale=_contiguous(scale),
        shift=_contiguous(shift),
        mean=_contiguous(mean),
        variance=_contiguous(variance),
        eps=eps,
        residual=_contiguous(then.residual),
        relu=then.relu,
    )


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


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


def weight_gradient(features: Tensor, grad: Tensor, kernel_map: KernelMap) -> Tensor:
    """Gradient of a convolution in its weight.

    Args:
        features: [N_in, C_in] the layer's input.
        grad: [N_out, C_out] gradient of the layer's output.
        kernel_map: the pairs.

    Returns:
        [K, C_in, C_out].
    """
    if len(features) != kernel_map.inputs.count or len(grad) != kernel_map.outputs.count:
        raise ValueError(
            f"{len(features)} and {len(grad)} rows do not fit a kernel map from {kernel_map.inputs.count} to "
            f"{kernel_map.outputs.count}"
        )
    kernels = native.library_for(features, grad)
    if kernels is not None:
        return kernels.weight_gradient(
            features.contiguous(), grad.contiguous(), kernel_map.inputs.rows, kernel_map.outputs.rows, kernel_map.starts
        )
    result = features.new_empty(len(kernel_map.inputs.sizes), features.shape[1], grad.shape[1])
    exchanged = KernelMap(kernel_map.outputs, kernel_map.inputs, kernel_map.identity)
    inputs, outputs = _rows_by_cell(features, kernel_map), _rows_by_cell(grad, exchanged)
    for rows, grads, matrix in zip(inputs, outputs, result.unbind(), strict=True):
        torch.mm(rows.t(), grads, out=matrix)
    return result


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


def gather_sum(features: Tensor, kernel_map: KernelMap) -> Tensor:
    """Sum pooling: out[u] = Σ in[rows that meet u].

    Args:
        features: [N_in, C].
        kernel_map: the pairs.

    Returns:
        [N_out, C], differentiable once.
    """
    result: Tensor = _Sum.apply(features, kernel_map)  # type: ignore[no-untyped-call]
    return result


class _Sum(torch.autograd.Function):
    """Sum pooling, whose gradient is the sum along the transposed map."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, kernel_map: KernelMap) -> Tensor:
        ctx.kernel_map = kernel_map
        return _sum(features, kernel_map)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _sum(grad, ctx.kernel_map.transposed), None


def _sum(features: Tensor, kernel_map: KernelMap) -> Tensor:
    out = features.new_zeros(kernel_map.outputs.count, features.shape[1])
    for in_rows, out_rows in zip(kernel_map.inputs.cells, kernel_map.outputs.cells, strict=True):
        out.index_add_(0, out_rows, features.index_select(0, in_rows))
    return out


def gather_max(features: Tensor, kernel_map: KernelMap) -> Tensor:
    """Max pooling: out[u] = max in[rows that meet u], 0 where none does.

    Args:
        features: [N_in, C].
        kernel_map: the pairs.

    Returns:
        [N_out, C], differentiable; the gradient goes to the first of equals, in the order of the cells.
    """
    best = features.new_full((kernel_map.outputs.count, features.shape[1]), -torch.inf)
    # Row N_in stands for "nothing seen" and holds zeros.
    winner = torch.full(best.shape, kernel_map.inputs.count, dtype=torch.int64, device=best.device)
    values = features.detach()
    for in_rows, out_rows in zip(kernel_map.inputs.cells, kernel_map.outputs.cells, strict=True):
        seen, before = values[in_rows], best[out_rows]
        # A NaN wins over everything, so that it is not lost on the way.
        wins = (winner[out_rows] == kernel_map.inputs.count) | (seen > before) | (seen.isnan() & ~before.isnan())
        best[out_rows] = torch.where(wins, seen, before)
        winner[out_rows] = torch.where(wins, in_rows[:, None], winner[out_rows])
    padded = torch.cat([features, features.new_zeros(1, features.shape[1])])
    return padded.gather(0, winner)
