"""Runs `olivine` commands one after another, each in a process of its own that may be told to kill itself.

    python commands.py '[{"words": ["pretrain", "recipe.yaml"], "die": 5}]'

prints their exit codes as a JSON list (-9 for a killed one). All are forked from one interpreter, since importing
torch takes seconds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # what the first optimizer would import, once for all

from olivine.cli import main


def _die_in_step(number: int) -> None:
    """Arrange for SIGKILL in the n-th optimizer step of this process, with gradients computed and nothing applied."""
    step, left = torch.optim.SGD.step, [number]

    def dying_step(optimizer: torch.optim.SGD, *arguments: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(optimizer, *arguments)

    torch.optim.SGD.step = dying_step


def _die_at(file: str) -> None:
    """Arrange for SIGKILL when `file` is complete under its temporary name."""
    replace = Path.replace

    def dying_replace(path: Path, target: Path) -> Path:
        if target.name == file:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(path, target)

    Path.replace = dying_replace


def _run(words: list[str], die: int | str | None) -> int:
    child = os.fork()
    if child == 0:
        if isinstance(die, int):
            _die_in_step(die)
        elif die is not None:
            _die_at(die)
        os._exit(main(words))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    codes = [_run(command["words"], command.get("die")) for command in json.loads(sys.argv[1])]
    sys.stdout.write(f"\n{json.dumps(codes)}\n")
