"""Runs modules as `python -m` does, each in a process of its own, forked from one that has imported torch already.

    with Forker(folder) as forker:
        done = forker.run("pytest", "test_mine.py")

The other end of the pipe is this file as a program.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch


class Done(NamedTuple):
    """How a module ended: the exit status, and what it wrote to both standard streams."""

    status: int
    output: str


class Forker:
    """A process that forks others, which start in `folder` and find modules there first."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Forker:
        """Ready."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._process.communicate()

    def run(self, module: str, *words: str) -> Done:
        """Run `python -m module words…` and wait for its end."""
        with tempfile.NamedTemporaryFile() as output:
            self._process.stdin.write(json.dumps([output.name, module, *words]) + "\n")
            self._process.stdin.flush()
            status = int(self._process.stdout.readline())
            return Done(status, Path(output.name).read_text(encoding="utf-8"))


def _run(output: str, module: str, *words: str) -> None:
    stream = os.open(output, os.O_WRONLY)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os.closerange(3, 100)
    sys.argv = [module, *words]
    sys.path[0] = str(Path.cwd())
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        sys.stdout.flush()


_IMPORTED = (
    *("torch._dynamo", "scipy.spatial", "matplotlib.pyplot", "PIL.Image", "pytest", "hypothesis", "accelerate"),
    *(
        "olivine.cli",
        "olivine.pretraining",
        "olivine.segmentation",
        "olivine.detection",
        "olivine.visualize",
        "olivine.toys",
    ),
)
"""What the commands would import, once for all."""


def _serve() -> None:
    for module in _IMPORTED:
        importlib.import_module(module)
    torch.set_num_threads(1)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(*json.loads(line))
            sys.exit()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
