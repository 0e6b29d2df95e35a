"""The host and a device: copies that do not wait for each other, and waits that are meant.

A GPU works off a queue while the host goes on. Whatever asks the device for a number (a size, a condition, a value to
print) makes the host wait until the queue is empty, and then the queue runs dry while the host thinks. Waits that
cannot be avoided are marked by `waiting`, with the reason; inside `refused_waits` any other is an error on a GPU, and
`olivine.testing.elsewhere` finds them without one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

__all__ = ["counted", "fetched", "meeting_place", "numbers_on", "refused_waits", "sent", "threads", "waiting", "why"]

_meant: list[str] = []  # the reasons of the `waiting` blocks that are open
_NOTHING: AbstractContextManager[None] = nullcontext()


def waiting(reason: str, device: torch.device | None = None) -> AbstractContextManager[None]:
    """A block in which the host waits for the device, and means to.

    Args:
        reason: what it waits for, in a few words, e.g. "how many voxels a coarser grid has".
        device: where what is waited for lies, if it may be the CPU, on which nothing waits and nothing is noted.
    """
    return _NOTHING if device is not None and device.type == "cpu" else _waiting(reason)


@contextmanager
def _waiting(reason: str) -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode() if torch.cuda.is_initialized() else 0  # type: ignore[no-untyped-call]
    if before:
        torch.cuda.set_sync_debug_mode(0)
    _meant.append(reason)
    try:
        yield
    finally:
        _meant.pop()
        if before:
            torch.cuda.set_sync_debug_mode(before)


def why() -> str | None:
    """The reason of the innermost `waiting` block that is open; None outside of any."""
    return _meant[-1] if _meant else None


@contextmanager
def refused_waits(device: torch.device) -> Iterator[None]:
    """A block in which, on a GPU, PyTorch raises `RuntimeError` wherever the host waits outside of `waiting` blocks.

    Args:
        device: where the work is done; nothing happens unless it is a GPU.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """A block in which PyTorch computes on this many threads of the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device, on its way there while the host goes on; itself where it is there already.

    Args:
        tensor: of any shape and type, on the CPU, or on the device.
        device: where to.
    """
    if tensor.device.type != "cpu" or device.type in ("cpu", "mps", "meta"):  # which share their memory, or have none
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def numbers_on(
    device: torch.device, numbers: Sequence[object] | NDArray[Any], dtype: torch.dtype | None = None
) -> Tensor:
    """Numbers as a tensor on a device, as `sent`.

    Args:
        device: where to.
        numbers: the numbers, nested as for `torch.tensor`.
        dtype: their type, by default as of `torch.tensor`.
    """
    return sent(torch.tensor(numbers, dtype=dtype), device)


def fetched(tensor: Tensor, reason: str) -> Tensor:
    """A tensor on the CPU, for which the host waits; itself where it is there already.

    Args:
        tensor: of any shape and type.
        reason: as of `waiting`.
    """
    with waiting(reason, tensor.device):
        return tensor.cpu()


def meeting_place(device: torch.device) -> torch.device:
    """Where tensors lie by which processes tell each other a few numbers: the CPU, if their group can send from there.

    Args:
        device: where they compute, which the group can send from.
    """
    if distributed.is_available() and distributed.is_initialized():
        kinds = str(distributed.get_backend_config())
        return torch.device("cpu") if "cpu" in kinds else device
    return torch.device("cpu")


def counted(labels: Tensor, count: int) -> Tensor:
    """How often each of `count` labels occurs, as `torch.bincount`, which on a GPU makes the host wait.

    Args:
        labels: [N] integers in 0 … count − 1.
        count: how many labels there are.

    Returns:
        [count] int64.
    """
    if labels.device.type == "cpu":
        return torch.bincount(labels, minlength=count)
    # Sums of integers are the same in any order.
    ones = torch.ones_like(labels, dtype=torch.int64)
    return torch.zeros(count, dtype=torch.int64, device=labels.device).scatter_add_(0, labels.long(), ones)
