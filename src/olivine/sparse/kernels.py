"""The arithmetic of sparse layers on plain tensors, with its gradients: what layers are made of.

Everything above this module speaks of layers and coordinates, everything here of rows, weights and a `KernelMap`. The
engine of the tensors' device computes it (`olivine.sparse.engines`). Within a kernel cell no row occurs twice, and sums
are made in an order that depends on the sizes alone: the same bits on every run.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from olivine.sparse.engines import Epilogue, engine_on, transposed
from olivine.sparse.kernel_map import KernelMap

__all__ = ["Epilogue", "convolve", "gather_matmul_scatter", "gather_max", "gather_sum", "weight_gradient"]


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
        wanted = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        grad_features, grad_weight = engine_on(grad.device).gradients(features, weight, grad, ctx.kernel_map, wanted)
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
    return engine_on(features.device).convolve(features, weight, kernel_map, then)


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
    return engine_on(features.device).weight_gradient(features, grad, kernel_map)


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
        return engine_on(features.device).gather_sum(features, kernel_map)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return engine_on(grad.device).gather_sum(grad, transposed(ctx.kernel_map)), None


def gather_max(features: Tensor, kernel_map: KernelMap) -> Tensor:
    """Max pooling: out[u] = max in[rows that meet u], 0 where none does.

    Args:
        features: [N_in, C].
        kernel_map: the pairs.

    Returns:
        [N_out, C], differentiable once; the gradient goes to the first of equals, in the order of the cells.
    """
    result: Tensor = _Max.apply(features, kernel_map)  # type: ignore[no-untyped-call]
    return result


class _Max(torch.autograd.Function):
    """Max pooling, whose gradient goes where the largest came from."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, kernel_map: KernelMap) -> Tensor:
        out, winners = engine_on(features.device).gather_max(features, kernel_map)
        ctx.save_for_backward(winners)
        ctx.kernel_map = kernel_map
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (winners,) = ctx.saved_tensors
        return engine_on(grad.device).max_gradient(grad.contiguous(), winners, ctx.kernel_map), None
