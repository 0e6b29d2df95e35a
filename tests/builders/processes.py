"""Two gloo processes that run a function and leave what they have in a folder, or a program as `torchrun` starts it."""

import os
import subprocess
import sys
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


def torchrun(*words: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a program, `-m module` or a file with its words, in two processes of one thread; both have to succeed."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done
