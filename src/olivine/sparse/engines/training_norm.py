"""Batch normalisation in training as one operation, forward and backward, whoever computes it."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Normalizer(Protocol):
    """What computes it."""

    def normalize(
        self, features: Tensor, weight: Tensor, bias: Tensor, eps: float, residual: Tensor | None, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The result [N, C], and mean and biased variance [C]; all are contiguous."""

    def normalize_gradient(
        self,
        grad: Tensor,
        out: Tensor | None,
        features: Tensor,
        weight: Tensor,
        eps: float,
        mean: Tensor,
        variance: Tensor,
        grad_features: Tensor | None,
        grad_residual: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Gradients of weight and bias [C]; fills those of features and residual [N, C] where they are wanted.

        `out` is the result where it ended in a ReLU, else None.
        """


def normalize_in_training(
    features: Tensor, norm: nn.BatchNorm1d, residual: Tensor | None, relu: bool, by: Normalizer
) -> tuple[Tensor, Tensor, Tensor]:
    """relu(weight · (x − mean) / √(var + eps) + bias + residual) by the statistics of the batch.

    Args:
        features: [N, C], N ≥ 2.
        norm: an affine normalisation; running statistics are left alone.
        residual: [N, C], or None for 0.
        relu: whether negative results become 0.
        by: what computes it.

    Returns:
        `(out, mean, variance)`: [N, C], differentiable once, [C] and [C]; the variance is the biased one.

    Raises:
        ValueError: sizes do not fit.
    """
    if features.dim() != 2 or features.shape[1] != norm.num_features:
        raise ValueError(f"features {list(features.shape)} do not fit a norm of {norm.num_features} channels")
    if residual is not None and residual.shape != features.shape:
        raise ValueError(f"a residual {list(residual.shape)} does not fit features {list(features.shape)}")
    made: tuple[Tensor, Tensor, Tensor] = _BatchNorm.apply(  # type: ignore[no-untyped-call]
        features, norm.weight, norm.bias, residual, norm.eps, relu, by
    )
    return made


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual: Tensor | None,
        eps: float,
        relu: bool,
        by: Normalizer,
    ) -> tuple[Tensor, Tensor, Tensor]:
        features, weight, bias = features.contiguous(), weight.contiguous(), bias.contiguous()
        residual = None if residual is None else residual.contiguous()
        out, mean, variance = by.normalize(features, weight, bias, eps, residual, relu)
        ctx.save_for_backward(features, weight, mean, variance, out if relu else None)
        ctx.eps, ctx.by = eps, by
        ctx.mark_non_differentiable(mean, variance)
        ctx.set_materialize_grads(False)  # else zeros are made for these two
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
        grad_weight, grad_bias = ctx.by.normalize_gradient(
            grad, out, features, weight, ctx.eps, mean, variance, grad_features, masked
        )
        return grad_features, grad_weight, grad_bias, grad_residual if masked is None else masked, None, None, None
