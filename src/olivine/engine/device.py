"""The device that a setting means on this machine, for commands that run networks without training them.

And what a training asks of cuDNN, which convolves images on GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from olivine.errors import UserError

Device = Literal["auto", "cpu", "cuda"]
"""`auto` is a GPU where there is one."""


def chosen_device(device: Device) -> torch.device:
    """The device that a setting means on this machine.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UserError("device: cuda is asked for, but torch finds no usable GPU; set device=cpu or device=auto")
    return torch.device("cuda" if available and device != "cpu" else "cpu")


@contextmanager
def fixed_convolutions() -> Iterator[None]:
    """A block in which cuDNN takes algorithms whose sums have a fixed order, and chooses them without measuring.

    Left to itself it may add up the gradients of 2-D convolutions as threads arrive. The switches are of the whole
    process, and are put back behind the block.
    """
    switches: Any = torch.backends.cudnn
    before = switches.deterministic, switches.benchmark
    switches.deterministic, switches.benchmark = True, False
    try:
        yield
    finally:
        switches.deterministic, switches.benchmark = before
