"""Batch normalisation of rows, together with the residual and the ReLU that follow it.

One by one these cost as much memory traffic as the convolutions. In training they are one operation here; in evaluation
the normalisation is a scale and a shift, which the convolution before it applies (`kernels.Epilogue`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.module import _has_any_global_hook

from olivine import native


def batch_normalize(
    features: Tensor, norm: nn.BatchNorm1d, *, residual: Tensor | None = None, relu: bool = False
) -> Tensor:
    """relu(norm(features) + residual), with the running statistics of `norm` updated in training.

    A batch of fewer than two rows has no variance: it is normalised by the running statistics and leaves them alone.

    Args:
        features: [N, C].
        norm: the normalisation; its mode decides which statistics are used.
        residual: [N, C], or None for 0.
        relu: whether negative results become 0.

    Returns:
        [N, C].
    """
    parts = (features, norm.weight, norm.running_mean, norm.running_var, residual)
    kernels = native.library_for(*parts) if norm.training and _is_plain(norm) else None
    if kernels is not None and len(features) >= 2:
        _check(features, norm, residual)
        out: Tensor
        out, mean, variance = _BatchNorm.apply(  # type: ignore[no-untyped-call]
            features, norm.weight, norm.bias, residual, norm.eps, relu, kernels
        )
        _update(norm, mean, variance, len(features))
        return out
    if norm.training and len(features) < 2:
        out = nn.functional.batch_norm(
            features, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
        )
    else:
        out = norm(features)
    if residual is not None:
        out = out + residual
    return torch.relu(out) if relu else out


def _check(features: Tensor, norm: nn.BatchNorm1d, residual: Tensor | None) -> None:
    """Make sure that all sizes fit: the C++ kernels trust them."""
    if features.dim() != 2 or features.shape[1] != norm.num_features:
        raise ValueError(f"features {list(features.shape)} do not fit a norm of {norm.num_features} channels")
    if residual is not None and residual.shape != features.shape:
        raise ValueError(f"a residual {list(residual.shape)} does not fit features {list(features.shape)}")


def is_foldable(features: Tensor, norm: nn.BatchNorm1d) -> bool:
    """Whether a convolution of these features may apply a norm to its result.

    That is in evaluation, by running statistics, while neither a gradient nor a lower precision is asked for.
    """
    if torch.is_grad_enabled() or norm.training or torch.is_autocast_enabled(features.device.type):
        return False
    return _is_plain(norm) and features.dtype == norm.weight.dtype


def _is_plain(norm: nn.BatchNorm1d) -> bool:
    """Whether it is PyTorch's own, with all its parts, and nobody listens to it."""
    return type(norm) is nn.BatchNorm1d and norm.affine and norm.track_running_stats and not has_hooks(norm)


def has_hooks(module: nn.Module) -> bool:
    """Whether somebody listens to a module's calls, so that it has to be called."""
    own = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    return bool(own) or bool(_has_any_global_hook())  # type: ignore[no-untyped-call]


def _update(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Move the running statistics towards those of a batch, whose variance enters unbiased, as in PyTorch."""
    tracked, running_mean, running_var = norm.num_batches_tracked, norm.running_mean, norm.running_var
    if tracked is None or running_mean is None or running_var is None:
        raise RuntimeError("a normalisation without running statistics cannot update them")
    with torch.no_grad():
        tracked.add_(1)
        momentum = 1 / int(tracked) if norm.momentum is None else norm.momentum
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * (count / (count - 1)), momentum)


class _BatchNorm(torch.autograd.Function):
    """relu(weight · (x − mean) / √(var + eps) + bias + residual) by the statistics of the batch; float32 on the CPU."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual: Tensor | None,
        eps: float,
        relu: bool,
        kernels: native.Library,
    ) -> tuple[Tensor, Tensor, Tensor]:
        features, weight, bias = features.contiguous(), weight.contiguous(), bias.contiguous()
        residual = None if residual is None else residual.contiguous()
        out, mean, variance = kernels.normalize(features, weight, bias, eps, residual, relu)
        ctx.save_for_backward(features, weight, mean, variance, out if relu else None)
        ctx.eps, ctx.kernels = eps, kernels
        ctx.mark_non_differentiable(mean, variance)
        return out, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, mean, variance, out = ctx.saved_tensors
        grad = grad.contiguous()
        grad_features = torch.empty_like(features) if ctx.needs_input_grad[0] else None
        # Without a ReLU the residual's gradient is that of the result.
        grad_residual = grad if ctx.needs_input_grad[3] else None
        masked = torch.empty_like(grad) if ctx.needs_input_grad[3] and out is not None else None
        grad_weight, grad_bias = ctx.kernels.normalize_gradient(
            grad, out, features, weight, ctx.eps, mean, variance, grad_features, masked
        )
        return grad_features, grad_weight, grad_bias, grad_residual if masked is None else masked, None, None, None
