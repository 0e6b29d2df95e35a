"""Batch norm of rows that stand for several, and the largest of groups of rows. Gradients repeat to the bit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from olivine.host import waiting
from olivine.sparse.synchronized import is_synchronized, synchronized


def weighted_batch_norm(rows: Tensor, weight: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Batch norm in training, as if every row stood there as often as its weight says; running statistics follow.

    Fewer than two rows in all have no variance: they are normalised by the running statistics and leave them alone.

    Args:
        rows: [Q, C].
        weight: [Q] ≥ 0, whole numbers.
        norm: the normalisation.

    Returns:
        [Q, C], of float32 at least.
    """
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    if is_synchronized(norm):
        return synchronized(rows, weight, norm)
    weight = weight.to(rows.dtype)
    count = weight.sum()
    running_mean, running_variance = running_statistics(norm)
    with waiting("how many rows balls hold", rows.device):
        few = bool(count < 2)
    if few:
        return (rows - running_mean) * torch.rsqrt(running_variance + norm.eps) * norm.weight + norm.bias
    out: Tensor
    out, mean, variance = _WeightedNorm.apply(rows, weight / count, norm.weight, norm.bias, norm.eps)  # type: ignore[no-untyped-call]
    assert norm.momentum is not None
    assert norm.num_batches_tracked is not None
    with torch.no_grad():
        running_mean.lerp_(mean.to(running_mean.dtype), norm.momentum)
        unbiased = variance * (count / (count - 1))
        running_variance.lerp_(unbiased.to(running_variance.dtype), norm.momentum)
        norm.num_batches_tracked += 1
    return out


def running_statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """[C] mean and [C] variance that a norm goes by in evaluation."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


def largest_of_each(rows: Tensor, owner: Tensor, count: int) -> Tensor:
    """The largest value of every channel among the rows of each owner.

    Args:
        rows: [Q, C].
        owner: [Q] int64 to whom each row belongs, 0…count - 1.
        count: of owners.

    Returns:
        [count, C]; -∞ for owners without rows. Equal rows share the gradient.
    """
    out: Tensor = _Largest.apply(rows, owner, count)  # type: ignore[no-untyped-call]
    return out


class _WeightedNorm(torch.autograd.Function):
    """y = γ (x − μ) / √(σ² + ε) + β with μ = Σ wx, σ² = Σ w (x − μ)², weights that sum to 1 (Ioffe & Szegedy 2015)."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(rows.device.type, enabled=False):
            mean = weight @ rows
            centred = rows - mean
            variance = weight @ centred.square()
        deviation = torch.rsqrt(variance + eps)
        ctx.save_for_backward(centred, weight, gamma, deviation)
        ctx.mark_non_differentiable(mean, variance)
        return torch.addcmul(beta.to(rows.dtype), centred, gamma * deviation), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None]:
        centred, weight, gamma, deviation = ctx.saved_tensors
        # A row's gradient is summed over all that it stands for already; the sums below have it once.
        of_beta = grad.sum(0)
        of_gamma = (grad * centred).sum(0) * deviation
        scale = gamma * deviation
        of_rows = torch.addcmul(-scale * of_beta, centred, -scale * of_gamma * deviation).mul_(weight[:, None])
        return of_rows.addcmul_(grad, scale), None, of_gamma, of_beta, None


class _Largest(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, owner: Tensor, count: int) -> Tensor:
        index = owner[:, None].expand(-1, rows.shape[1])
        largest = rows.new_full((count, rows.shape[1]), -torch.inf)
        largest.scatter_reduce_(0, index, rows, "amax")
        ctx.save_for_backward(rows, owner, largest)
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        rows, owner, largest = ctx.saved_tensors
        index = owner[:, None].expand(-1, rows.shape[1])
        chosen = rows == largest.index_select(0, owner)
        # Counted in whole numbers, whose sum is the same in any order.
        sharing = torch.zeros_like(grad, dtype=torch.int32).scatter_add_(0, index, chosen.int()).clamp_(min=1)
        return (grad / sharing).index_select(0, owner).mul_(chosen), None, None
