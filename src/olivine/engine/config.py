"""Settings of a training run: the optimizer, the learning-rate schedule and the loop itself.

The defaults are the published pretraining settings of OLIVINE with MinkUNet (arXiv 2405.14271): batch 16 in total,
SGD, cosine per epoch to 0.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from olivine.config import Config
from olivine.errors import UserError


class _Optimizer(Config):
    """What every optimizer is told."""

    lr: PositiveFloat
    """Learning rate at the start of the schedule."""
    head_lr: PositiveFloat | None = None
    """Learning rate of a freshly initialised head, for tasks that have one; None uses `lr`."""
    weight_decay: NonNegativeFloat = 1e-4
    """Weight decay."""

    @abstractmethod
    def build(self, groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
        """The torch optimizer of parameter groups (`{"params": [...], "lr": ...}`, `lr` defaulting to ours)."""


class SGDConfig(_Optimizer):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    """Chooses this optimizer."""
    lr: PositiveFloat = 0.5
    """Learning rate at the start of the schedule."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum."""
    dampening: float = Field(0.1, ge=0, le=1)
    """Dampening of the momentum."""

    def build(self, groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
        """`torch.optim.SGD` of the parameter groups."""
        return torch.optim.SGD(
            groups, lr=self.lr, momentum=self.momentum, dampening=self.dampening, weight_decay=self.weight_decay
        )


class AdamWConfig(_Optimizer):
    """Adam with decoupled weight decay."""

    name: Literal["adamw"]
    """Chooses this optimizer."""
    lr: PositiveFloat = 1e-3
    """Learning rate at the start of the schedule."""
    weight_decay: NonNegativeFloat = 1e-2
    """Weight decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""

    def build(self, groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
        """`torch.optim.AdamW` of the parameter groups."""
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay)


OptimizerConfig = Annotated[SGDConfig | AdamWConfig, Field(discriminator="name")]


class ScheduleConfig(Config):
    """How the learning rate moves over a run."""

    name: Literal["cosine_epoch", "cosine_step", "constant"] = "cosine_epoch"
    """Cosine from 1 to 0 that moves once an epoch (published), or with every step (short runs), or no change."""
    warmup: float = Field(0.0, ge=0, lt=1)
    """Fraction of the run over which the rate also rises linearly from 0."""

    def factor(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        """What the learning rate is multiplied by in the step after `step` steps are done.

        Args:
            step: optimizer steps done, 0 … total_steps - 1.
            total_steps: optimizer steps of the whole run.
            steps_per_epoch: optimizer steps of one epoch.

        Returns:
            A factor in 0…1.
        """
        warmup_steps = round(self.warmup * total_steps)
        rise = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
        fraction = {
            "cosine_epoch": (step // steps_per_epoch) / math.ceil(total_steps / steps_per_epoch),
            "cosine_step": step / total_steps,
            "constant": 0.0,
        }[self.name]
        return rise * (1 + math.cos(math.pi * fraction)) / 2

    def momentum(self, step: int, total_steps: int) -> float | None:  # noqa: ARG002
        """The optimizer's momentum in that step, or None where it stays as it is."""
        return None


class OneCycleConfig(Config):
    """One cycle of rate and momentum (Smith & Topin, arXiv 1708.07120), with the cosines of the published detectors."""

    name: Literal["one_cycle"]
    """Chooses this schedule."""
    rise: float = Field(0.4, gt=0, lt=1)
    """Fraction of the run over which the rate rises to the optimizer's `lr` and the momentum falls."""
    start: float = Field(0.1, gt=0, le=1)
    """The rate in the first step, as a factor of `lr`."""
    end: float = Field(1e-5, ge=0, le=1)
    """The rate that the last step comes near to, likewise."""
    momenta: tuple[float, float] = (0.95, 0.85)
    """Momentum (of Adam its first beta) at the ends and at the peak."""

    def factor(self, step: int, total_steps: int, steps_per_epoch: int) -> float:  # noqa: ARG002
        """What the learning rate is multiplied by in the step after `step` steps are done; as of `ScheduleConfig`."""
        rising, part = self._phase(step, total_steps)
        return _between(self.start, 1.0, part) if rising else _between(1.0, self.end, part)

    def momentum(self, step: int, total_steps: int) -> float:
        """The optimizer's momentum in that step."""
        rising, part = self._phase(step, total_steps)
        ends, peak = self.momenta
        return _between(ends, peak, part) if rising else _between(peak, ends, part)

    def _phase(self, step: int, total_steps: int) -> tuple[bool, float]:
        """Whether the rate rises, and how much of this phase is over."""
        peak = int(self.rise * total_steps)
        return (True, step / peak) if step < peak else (False, (step - peak) / (total_steps - peak))


AnyScheduleConfig = Annotated[ScheduleConfig | OneCycleConfig, Field(discriminator="name")]


def _between(one: float, other: float, part: float) -> float:
    """From one value to the other along half a cosine."""
    return other + (one - other) / 2 * (1 + math.cos(math.pi * part))


class TrainConfig(Config):
    """The loop: how long, how much at once, how often it saves, logs and evaluates."""

    epochs: PositiveInt = 50
    """Passes over the training set."""
    max_steps: PositiveInt | None = None
    """Stop after this many optimizer steps where that is sooner; the schedule spans the shortened run."""
    batch_size: PositiveInt = 16
    """Frames per optimizer step, over all processes and accumulated parts."""
    accumulate: PositiveInt = 1
    """Parts that a process splits its share of the batch into, one after another, to save memory."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward pass; weights stay in fp32. fp16 needs a GPU."""
    clip_norm: PositiveFloat | None = None
    """Largest norm of the gradient; None does not clip."""
    seed: NonNegativeInt = 0
    """Seeds everything random in the run."""
    workers: NonNegativeInt = 2
    """Loading processes per training process; 0 loads in the training process. Does not change the result."""
    save_every: PositiveInt = 500
    """Steps between checkpoints; the end of the run is always saved."""
    keep_every: PositiveInt | None = None
    """Epochs between checkpoints that are kept for good; None keeps only the last and the best."""
    evaluate_every: PositiveInt = 1
    """Epochs between evaluations, for tasks that have one; the end of the run is always evaluated."""
    log_every: PositiveInt = 10
    """Steps between lines of `metrics.jsonl`."""
    sync_batch_norm: bool = False
    """Normalise over the frames of all processes together instead of each process's own; see `docs/guide/gpus.md`."""
    tensorboard: bool = True
    """Also write TensorBoard events."""

    def frames_per_part(self, world: int) -> int:
        """Frames that one process loads at a time: `batch_size / (world · accumulate)`.

        Args:
            world: number of processes.

        Raises:
            UserError: the batch cannot be shared out evenly.
        """
        parts = world * self.accumulate
        if self.batch_size % parts:
            raise UserError(
                f"train.batch_size={self.batch_size} cannot be split into {world} processes × "
                f"train.accumulate={self.accumulate}; make it a multiple of {parts}"
            )
        return self.batch_size // parts
