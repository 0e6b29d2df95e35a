"""Checkpoints: everything needed to go on as if the run had never stopped.

A checkpoint holds tensors, numbers and strings only, and is read with `weights_only=True`, so opening one that came
from elsewhere runs no code. Random state is not in it: every random choice is drawn from a generator keyed by the
seed and the step.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from olivine.errors import OlivineWarning, TrainingDiverged, UserError
from olivine.files import write_bytes
from olivine.host import waiting

_FORMAT = 1
_MARK = b"olivine checkpoint\n"
"""A checkpoint opens with this and the SHA-256 of what follows: torch's reader lets most flipped bits pass."""

_DAMAGE = (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, pickle.UnpicklingError)
"""What torch's reader raises on a file that ends early or is none of its own."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after a whole optimizer step.

    Attributes:
        step: optimizer steps done; the epoch, the place in it and the schedule follow from it.
        model: the task's `state_dict`.
        optimizer: the optimizer's `state_dict`.
        scaler: the gradient scaler's `state_dict` (fp16), otherwise None.
        best: best score so far, or None.
        metrics_bytes: length of `metrics.jsonl` at that step.
        empty: steps in a row that had nothing to learn from, by what (see `olivine.engine.taught`).
    """

    step: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any] | None
    best: float | None
    metrics_bytes: int
    empty: dict[str, int] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the checkpoint, at once or not at all.

        Raises:
            UserError: the disk is full or the folder cannot be written; a previous checkpoint at `path` is untouched.
            TrainingDiverged: a number of the model is not finite; likewise.
        """
        with waiting("a checkpoint"):
            content = {name: _to_cpu(value) for name, value in vars(self).items()}
        spoiled = next((name for name, value in content["model"].items() if not _is_finite(value)), None)
        if spoiled is not None:
            raise TrainingDiverged(
                f"{spoiled} is not finite after step {self.step}, and nothing is kept of it; "
                "lower optimizer.lr, set train.clip_norm or add schedule.warmup"
            )
        # Serialised in memory: torch's own writer turns a full disk into errors that do not name it.
        buffer = io.BytesIO()
        torch.save({"format": _FORMAT, **content}, buffer)
        written = buffer.getvalue()
        write_bytes(path, _MARK + hashlib.sha256(written).digest() + written)

    @staticmethod
    def load(path: Path) -> Checkpoint:
        """Read a checkpoint, its tensors on the CPU.

        Raises:
            UserError: the file is missing, damaged, or not a checkpoint of this version.
        """
        try:
            written, digested = _unwrapped(path)
            content = torch.load(io.BytesIO(written), map_location="cpu", weights_only=True)
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such checkpoint") from error
        except _DAMAGE as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"{path}: cannot read this checkpoint ({reason})") from error
        if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
            raise UserError(f"{path}: not a checkpoint of this version of olivine")
        if not digested:
            warnings.warn(
                f"{path}: has no digest, as those of earlier versions; damage to it would not be noticed",
                OlivineWarning,
                stacklevel=2,
            )
        return Checkpoint(**content)


def _unwrapped(path: Path) -> tuple[bytes, bool]:
    """What torch wrote, and whether there was a digest to compare it with; there is none in files of old."""
    raw = path.read_bytes()
    if not raw.startswith(_MARK):
        return raw, False
    start = len(_MARK) + hashlib.sha256().digest_size
    if raw[len(_MARK) : start] != hashlib.sha256(raw[start:]).digest():
        raise UserError(f"{path}: cannot read this checkpoint (its content is not what its digest says)")
    return raw[start:], True


def _is_finite(value: Any) -> bool:
    return not (isinstance(value, Tensor) and value.is_floating_point()) or bool(torch.isfinite(value).all())


def _to_cpu(value: Any) -> Any:
    """The same nesting of dicts, lists and tuples with every tensor detached, on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: _to_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_cpu(item) for item in value)
    return value
