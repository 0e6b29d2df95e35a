"""The device that a setting means on this machine, for commands that run networks without training them."""

from __future__ import annotations

from typing import Literal

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
