"""The arithmetic of sparse layers on plain tensors: the seam where faster kernels go.

Everything above this module speaks of layers and coordinates, everything here of rows, weights and a `KernelMap`. A
faster implementation replaces these functions and nothing else. Within a kernel cell no row occurs twice, so every
sum is made in the order of the cells: the same bits on every run.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from olivine.sparse.kernel_map import KernelMap


def gather_matmul_scatter(features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Generalised sparse convolution: out[u] = Σ_k in[rows of cell k that meet u] @ weight[k].

    Args:
        features: [N_in, C_in].
        weight: [K, C_in, C_out], of the same type.
        kernel_map: the pairs.

    Returns:
        [N_out, C_out], differentiable once in `features` and `weight`.
    """
    device = features.device.type
    if torch.is_autocast_enabled(device):
        low = torch.get_autocast_dtype(device)
        features, weight = features.to(low), weight.to(low)
    result: Tensor = _Convolution.apply(features, weight, kernel_map)  # type: ignore[no-untyped-call]
    return result


class _Convolution(torch.autograd.Function):
    """Sparse convolution with its two gradients."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.kernel_map = kernel_map
        return convolve(features, weight, kernel_map)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_features = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_features = convolve(grad, weight.transpose(1, 2), ctx.kernel_map.transposed)
        if ctx.needs_input_grad[1]:
            grad_weight = weight_gradient(features, grad, ctx.kernel_map)
        return grad_features, grad_weight, None


def convolve(features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """The value of `gather_matmul_scatter`, without a gradient."""
    out = features.new_zeros(kernel_map.out_count, weight.shape[2])
    for cell, (in_rows, out_rows) in enumerate(kernel_map.cells):
        if cell == kernel_map.identity:
            out.addmm_(features, weight[cell])
        elif len(in_rows):
            out.index_add_(0, out_rows, features.index_select(0, in_rows) @ weight[cell])
    return out


def weight_gradient(features: Tensor, grad: Tensor, kernel_map: KernelMap) -> Tensor:
    """Gradient of a convolution in its weight.

    Args:
        features: [N_in, C_in] the layer's input.
        grad: [N_out, C_out] gradient of the layer's output.
        kernel_map: the pairs.

    Returns:
        [K, C_in, C_out].
    """
    result = features.new_zeros(len(kernel_map.sizes), features.shape[1], grad.shape[1])
    for cell, (in_rows, out_rows) in enumerate(kernel_map.cells):
        if cell == kernel_map.identity:
            torch.mm(features.t(), grad, out=result[cell])
        elif len(in_rows):
            torch.mm(features.index_select(0, in_rows).t(), grad.index_select(0, out_rows), out=result[cell])
    return result
