"""Two gloo processes that run a function and leave what they have in a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing


def run_two(function: Callable[[int, str], None], folder: Path) -> Path:
    """Run `function(rank, folder)` in two fresh processes; returns the folder."""
    multiprocessing.spawn(function, (str(folder),), nprocs=2)
    return folder


def of_both(folder: Path, name: str) -> list[dict[str, Any]]:
    """What both processes saved as `<name><rank>.pt`."""
    return [torch.load(folder / f"{name}{rank}.pt", weights_only=True) for rank in range(2)]
