"""Scoring a finished run, now or again: settings that may change, a folder for each, and what a score is of."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch

from olivine import __version__
from olivine.components import own_code
from olivine.config import dump
from olivine.data.frame import Dataset
from olivine.engine.distribution import Distribution
from olivine.engine.experiment import ExperimentConfig, ScoredConfig
from olivine.engine.lineage import describe_split, overlap
from olivine.engine.run import RunFolder
from olivine.errors import UserError
from olivine.files import write_text, writing
from olivine.weights.file import Weights, code_version, read_weights


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


def read_finished(folder: Path, task: str, command: str) -> Weights:
    """The weights of a finished run.

    Args:
        folder: the run's folder.
        task: what its weights say that they were trained for.
        command: what such runs are made by.

    Raises:
        UserError: this is no folder of such a run, or its weights cannot be read.
    """
    weights = read_weights(folder)
    if not Path(folder).is_dir() or weights.about.get("task") != task:
        raise UserError(f"{folder}: not the folder of a finished `olivine {command}` run")
    return weights


def provenance(about: Mapping[str, Any], dataset: Dataset, config: ScoredConfig) -> dict[str, Any]:
    """What every score is worth nothing without, for the `protocol` of its results.

    Args:
        about: what the trained weights say about themselves.
        dataset: the scored split.
        config: the run's configuration.

    Returns:
        `seed`, `train` and `scored` (see `olivine.engine.lineage.describe_split`), `beams` that scored scans were
        resampled to or None, `pretrained`, `steps`, what of the scored frames was seen before, and versions.
    """
    return {
        "seed": config.train.seed,
        "train": about["train"],
        "scored": describe_split(dataset, config.val_split),
        "beams": config.eval_beams,
        "pretrained": about["pretrained"],
        "steps": about["steps"],
        **overlap(about, dataset).as_dict(),
        "olivine": __version__,
        "code": code_version(),
        "own_code": own_code(config),
    }
