"""Gathering what belongs to points around centres."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from olivine import native
from olivine.native import Library


def group(values: Tensor, rows: Tensor) -> Tensor:
    """The values of chosen points. Gradients pass to `values`, and repeat to the bit.

    Args:
        values: [N, C] of a floating type.
        rows: [M, S] int64 rows of `values`, or -1 for none, as `ball_query` returns them.

    Returns:
        [M, S, C] the values of each row, zeros where it is -1.

    Raises:
        ValueError: arguments of another shape or type, or rows out of range.
    """
    if values.ndim != 2 or not values.is_floating_point() or rows.ndim != 2 or rows.dtype != torch.int64:
        raise ValueError(
            f"values are [N, C] numbers and rows [M, S] int64, got {values.dtype} {list(values.shape)} and "
            f"{rows.dtype} {list(rows.shape)}"
        )
    # A GPU refuses them itself, later; the host would wait for it here.
    if rows.device.type == "cpu" and rows.numel() and not -1 <= int(rows.min()) <= int(rows.max()) < len(values):
        raise ValueError(f"rows of {len(values)} values are -1…{len(values) - 1}, got {rows.min()}…{rows.max()}")
    kernels = native.library_on(values.device)
    if kernels and values.dtype in (torch.float32, torch.float64):
        grouped: Tensor = _Group.apply(values.contiguous(), rows.contiguous(), kernels)  # type: ignore[no-untyped-call]
        return grouped
    return _group_by_torch(values, rows)


class _Group(torch.autograd.Function):
    """`group` by the kernels."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rows: Tensor, kernels: Library) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.count, ctx.kernels = len(values), kernels
        return kernels.gather(values, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (rows,) = ctx.saved_tensors
        gradient: Tensor = ctx.kernels.scatter(grad.contiguous(), rows, ctx.count)
        return gradient, None, None


def _group_by_torch(values: Tensor, rows: Tensor) -> Tensor:
    """The reference: the gradient of an embedding is summed in the order of its rows, as the kernels sum theirs."""
    blank = torch.cat([values, values.new_zeros(1, values.shape[1])])
    return functional.embedding(torch.where(rows < 0, len(values), rows), blank)
