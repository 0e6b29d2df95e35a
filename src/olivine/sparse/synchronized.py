"""Batch norm over the rows of all processes that train together (synchronised), as published trainings have it.

Counts, means and sums of squares are gathered in one collective and combined exactly (Chan, Golub & LeVeque 1983,
eq. 2.1), and the two sums that the gradient needs in another: what each process computes is what one process would with
the whole batch. No host waits for a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable


class SynchronizedNorm1d(nn.BatchNorm1d):
    """Batch norm of [N, C] whose statistics in training are those of all processes; N may differ, and be 0."""

    def forward(self, input: Tensor) -> Tensor:
        """[N, C] → [N, C]. Fewer than two rows in all are normalised by the running statistics."""
        if self.training and _processes() > 1:
            return synchronized(input, None, self)
        if self.training and len(input) < 2:
            return nn.functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        return super().forward(input)


class SynchronizedNorm2d(nn.BatchNorm2d):
    """Batch norm of [N, C, H, W], likewise."""

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] → [N, C, H, W]."""
        if not self.training or _processes() == 1:
            return super().forward(input)
        images, channels, height, width = input.shape
        rows = synchronized(input.permute(0, 2, 3, 1).reshape(-1, channels), None, self)
        return rows.view(images, height, width, channels).permute(0, 3, 1, 2)


def synchronize_norms(module: nn.Module) -> None:
    """Make every batch norm of a module that has weights and running statistics a synchronised one, in place.

    Args:
        module: a network; its parameters, buffers and their names stay as they are.
    """
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and norm.affine and norm.track_running_stats:
            # The object itself changes, so that whoever holds it holds the synchronised norm.
            norm.__class__ = SynchronizedNorm1d if isinstance(norm, nn.BatchNorm1d) else SynchronizedNorm2d


def is_synchronized(norm: nn.Module) -> bool:
    """Whether a norm's next statistics will be those of several processes."""
    return isinstance(norm, SynchronizedNorm1d | SynchronizedNorm2d) and norm.training and _processes() > 1


def synchronized(rows: Tensor, weight: Tensor | None, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Tensor:
    """Normalise rows by the statistics of all processes, and move the running ones; every process must come here.

    Args:
        rows: [N, C] of this process.
        weight: [N] ≥ 0, how many rows each stands for; None for one each.
        norm: the normalisation, in training.

    Returns:
        [N, C], of the type of the rows, differentiable once in them and in the norm's parameters.
    """
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    assert norm.momentum is not None
    assert norm.num_batches_tracked is not None
    weights = wide.new_ones(len(wide)) if weight is None else weight.to(wide.dtype)
    out, new_mean, new_variance, count = _Synchronized.apply(  # type: ignore[no-untyped-call]
        wide, weights, norm.weight, norm.bias, mean, variance, norm.eps
    )
    with torch.no_grad():
        # One row has no variance, and moves nothing.
        several = count >= 2
        share = several.to(mean.dtype) * norm.momentum
        unbiased = new_variance * (count / (count - 1).clamp(min=1))
        mean.add_((new_mean - mean) * share)
        variance.add_((unbiased - variance) * share)
        norm.num_batches_tracked.add_(several.long())
    result: Tensor = out.to(rows.dtype)
    return result


class _Synchronized(torch.autograd.Function):
    """y = γ (x − μ) / √(σ² + ε) + β with μ and σ² over all processes (Ioffe & Szegedy 2015)."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        with torch.autocast(rows.device.type, enabled=False):
            count, own_mean, own_variance = _of_all(rows, weight)
        several = count >= 2
        mean, variance = torch.where(several, own_mean, mean), torch.where(several, own_variance, variance)
        deviation = torch.rsqrt(variance + eps)
        normed = (rows - mean) * deviation
        ctx.save_for_backward(normed, weight, gamma, deviation, several / count.clamp(min=1))
        ctx.mark_non_differentiable(own_mean, own_variance, count)
        return torch.addcmul(beta.to(rows.dtype), normed, gamma.to(rows.dtype)), own_mean, own_variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        normed, weight, gamma, deviation, share = ctx.saved_tensors
        of_beta, of_gamma = grad.sum(0), (grad * normed).sum(0)
        sums = torch.stack((of_beta, of_gamma)).contiguous()
        distributed.all_reduce(sums)
        # A row's gradient is summed over all that it stands for already.
        through = (sums[0] + normed * sums[1]) * (share * weight)[:, None]
        return (grad - through) * (gamma * deviation), None, of_gamma, of_beta, None, None, None


def _of_all(rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How many rows all processes have, and their mean and variance: scalar, [C] and [C]."""
    count = weight.sum()
    mean = weight @ rows / count.clamp(min=1)
    squares = weight @ (rows - mean).square()
    own = torch.cat((count[None], mean, squares)).double()
    gathered = [torch.empty_like(own) for _ in range(_processes())]
    distributed.all_gather(gathered, own)
    counts, means, sums = torch.split_with_sizes(torch.stack(gathered), (1, len(mean), len(mean)), dim=1)
    total = counts.sum()
    together = (counts * means).sum(0) / total.clamp(min=1)
    variance = (sums + counts * (means - together).square()).sum(0) / total.clamp(min=1)
    return total.to(rows.dtype), together.to(rows.dtype), variance.to(rows.dtype)


def _processes() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
