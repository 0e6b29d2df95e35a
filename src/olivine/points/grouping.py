"""Gathering what belongs to points around centres."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


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
    if rows.numel() and not -1 <= int(rows.min()) <= int(rows.max()) < len(values):
        raise ValueError(f"rows of {len(values)} values are -1…{len(values) - 1}, got {rows.min()}…{rows.max()}")
    return _group_by_torch(values, rows)


def _group_by_torch(values: Tensor, rows: Tensor) -> Tensor:
    # An embedding's gradient is summed by ascending place of the rows, that of an index in any order.
    blank = torch.cat([values, values.new_zeros(1, values.shape[1])])
    return functional.embedding(torch.where(rows < 0, len(values), rows), blank)
