"""What every start of a program needs: the tensors' device, and how many blocks there are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

ROWS = 256
"""Rows of a block of the programs that do the same for every row."""


def on_device_of(tensor: Tensor) -> AbstractContextManager[object]:
    """A block whose programs start on a tensor's device; on the CPU, where they are interpreted, there is but one."""
    if tensor.device.type != "cuda":
        return nullcontext()
    device: AbstractContextManager[object] = torch.cuda.device(tensor.device)
    return device


def on_device(numbers: Sequence[object], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers as a tensor on a device, on their way while the host goes on."""
    tensor = torch.tensor(numbers, dtype=dtype)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def blocks(count: int, size: int) -> int:
    """⌈count / size⌉."""
    return -(-count // size)


def power_of_two(value: int) -> int:
    """The smallest power of two that is at least `value`, which is at least 1."""
    return 1 << (value - 1).bit_length()
