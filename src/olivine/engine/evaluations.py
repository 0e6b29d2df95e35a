"""Scoring a finished run again: which settings may change, and a folder of its own for every evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import torch

from olivine.config import dump
from olivine.engine.distribution import Distribution
from olivine.engine.experiment import ExperimentConfig
from olivine.engine.run import RunFolder
from olivine.errors import UserError
from olivine.files import write_text, writing


def check_scoring(overrides: Sequence[str], allowed: Sequence[str]) -> None:
    """Refuse settings that made the weights.

    Args:
        overrides: `key=value` settings over those of the run.
        allowed: dotted keys that may change, with all below them.

    Raises:
        UserError: another key is set.
    """
    for override in overrides:
        key = override.partition("=")[0]
        if not any(key == known or key.startswith(f"{known}.") for known in allowed):
            raise UserError(f"{key}: not a setting of scoring, which are {', '.join(allowed)}; the run is what it is")


def new_evaluation(run: RunFolder, config: ExperimentConfig, processes: Distribution) -> Path:
    """Make the folder of an evaluation, `evaluations/<n>` of the next number; never one that another has begun.

    Args:
        run: the run.
        config: its configuration as it is scored, written to `config.yaml` there.
        processes: the processes, which all learn the folder.
    """
    parent, number = run.path / "evaluations", 0
    if processes.main:
        taken = [int(entry.name) for entry in parent.glob("*") if entry.name.isdecimal()]
        for number in count(max(taken, default=0) + 1):
            with writing(parent / str(number)), contextlib.suppress(FileExistsError):
                (parent / str(number)).mkdir(parents=True)
                break
        write_text(parent / str(number) / "config.yaml", dump(config))
    # The others give 0, so the sum is the first one's number.
    total = processes.accelerator.reduce(torch.tensor(number, device=processes.device), reduction="sum")
    return parent / str(int(total))
