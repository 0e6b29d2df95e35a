"""The training loop: the only one, for pretraining, fine-tuning and probing alike.

A loader gives batches, a task turns each into losses, and the loop does the rest: gradients, schedule, logging,
evaluation and checkpoints. A run that is killed at any moment and resumed ends in the same weights, to the bit, as
one that was never interrupted: the position in the run is the number of steps done, from which everything random and
the learning rate follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from signal import Signals
from typing import Any, Protocol

import torch
from torch import Tensor

from olivine.data.batch import Batch
from olivine.engine.ahead import on_device
from olivine.engine.checkpoint import Checkpoint
from olivine.engine.config import AdamWConfig, OneCycleConfig, ScheduleConfig, SGDConfig, TrainConfig
from olivine.engine.device import fixed_convolutions
from olivine.engine.distribution import Distribution
from olivine.engine.record import Recorder, Stopwatch
from olivine.engine.run import RunFolder
from olivine.engine.task import HasEpochs, HasLog, HasParameterGroups, HasTimings, Task
from olivine.engine.taught import VOXELS, Taught
from olivine.engine.unread import Unread
from olivine.errors import UserError
from olivine.host import waiting
from olivine.processes import Requests, Stopped
from olivine.streams import seed_torch


class BatchSource(Protocol):
    """What the loop needs of a loader.

    Attributes:
        steps: batches per epoch of this process.
    """

    steps: int

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from the `start`-th on, the same whenever they are asked for."""
        ...

    def everything(self, epoch: int) -> Iterator[Batch]:
        """Every frame of this process's share once, in file order."""
        ...


@dataclass(frozen=True)
class TrainResult:
    """How a training ended.

    Attributes:
        steps: optimizer steps of the whole run.
        losses: of the last step that this process logged, by name; empty where nothing was left to do.
        scores: of the last evaluation, by name; empty without one.
        best: the best score of the run, or None without a score.
    """

    steps: int
    losses: dict[str, float]
    scores: dict[str, float]
    best: float | None


@dataclass(frozen=True)
class _Plan:
    """How many steps, of how many parts."""

    steps_per_epoch: int
    total_steps: int

    @staticmethod
    def of(batches: int, config: TrainConfig) -> _Plan:
        # Batches that do not fill a whole step are left out, so that every step sees the stated batch size.
        per_epoch = batches // config.accumulate
        if per_epoch == 0:
            raise UserError(
                f"an epoch has {batches} batches, less than train.accumulate={config.accumulate} for one step; "
                "lower train.accumulate or use more data"
            )
        total = config.epochs * per_epoch
        return _Plan(per_epoch, min(total, config.max_steps or total))


def train(
    task: Task,
    loader: BatchSource,
    config: TrainConfig,
    run: RunFolder,
    *,
    optimizer: SGDConfig | AdamWConfig,
    schedule: ScheduleConfig | OneCycleConfig,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    score: str | None = None,
    resume: bool = False,
    distribution: Distribution | None = None,
) -> TrainResult:
    """Train a task; the task holds the final weights afterwards.

    Args:
        task: what is trained; moved to the device.
        loader: its batches, already this process's share.
        config: how long and how.
        run: where metrics and checkpoints go, a folder that all processes see.
        optimizer: the optimizer's settings.
        schedule: the learning rate's course.
        evaluate: called every `config.evaluate_every` epochs and at the end, on every process.
        score: which of the evaluation's scores chooses `checkpoints/best.pt`; higher is better.
        resume: go on from `checkpoints/last.pt` where there is one.
        distribution: the processes, where they were already started; otherwise they are here.

    Returns:
        The last losses and scores.

    Raises:
        TrainingDiverged: a loss became NaN or infinite; on a GPU this is noticed at the next line of metrics.
        Stopped: a signal asked the run to end (see `olivine.processes`); its checkpoint is written.
        UserError: the settings do not fit the data or the task, there is nothing to learn from, another program trains
            in the folder, or the disk is full.
    """
    loop = _Loop(
        task=task,
        loader=loader,
        config=config,
        run=run,
        schedule=schedule,
        evaluate=evaluate,
        score=score,
        processes=distribution or Distribution.start(config.precision),
        plan=_Plan.of(loader.steps, config),
        optimizer=optimizer.build(_parameter_groups(task, optimizer)),
    )
    with run.alone() if loop.processes.main else nullcontext(), fixed_convolutions():
        if resume and run.checkpoint_path("last").exists():
            loop.restore(Checkpoint.load(run.checkpoint_path("last")))
        elif loop.processes.main:
            run.truncate_metrics(0)
        return loop.run_to_end()


def check_training(task: Task, loader: BatchSource, config: TrainConfig, *, optimizer: SGDConfig | AdamWConfig) -> None:
    """Refuse what `train` would refuse, before anything is written.

    Raises:
        UserError: an epoch has no whole step, or the optimizer's settings do not fit the task.
    """
    _Plan.of(loader.steps, config)
    _parameter_groups(task, optimizer)


def _parameter_groups(task: Task, optimizer: SGDConfig | AdamWConfig) -> list[dict[str, Any]]:
    """The task's own groups, or one of everything that needs a gradient."""
    if isinstance(task, HasParameterGroups):
        return task.parameter_groups(optimizer)
    if optimizer.head_lr is not None:
        raise UserError(f"optimizer.head_lr={optimizer.head_lr} is set, but {type(task).__name__} has no separate head")
    return [{"params": [parameter for parameter in task.parameters() if parameter.requires_grad]}]


@dataclass
class _Loop:
    """One run: `step` optimizer steps are done, `recorded` of them logged; `model` is the task, made ready to share."""

    task: Task
    loader: BatchSource
    config: TrainConfig
    run: RunFolder
    schedule: ScheduleConfig | OneCycleConfig
    evaluate: Callable[[], Mapping[str, float]] | None
    score: str | None
    processes: Distribution
    plan: _Plan
    optimizer: Any
    model: Any = field(init=False)
    recorder: Recorder | None = field(init=False, default=None)
    watch: Stopwatch = field(init=False, default_factory=Stopwatch)
    step: int = field(init=False, default=0)
    recorded: int = field(init=False, default=0)
    taught: Taught = field(init=False, default_factory=Taught)
    unread: Unread = field(init=False)
    requests: Requests = field(init=False, default_factory=Requests)
    best: float | None = field(init=False, default=None)
    losses: dict[str, float] = field(init=False, default_factory=dict)
    scores: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.model, self.optimizer = self.processes.accelerator.prepare(self.task, self.optimizer)
        for group in self.optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        self.unread = Unread(self.processes, self.taught, self.plan.total_steps)

    def run_to_end(self) -> TrainResult:
        """All remaining steps."""
        if self.processes.main:
            self.recorder = Recorder(self.run, self.step, self.plan.total_steps, tensorboard=self.config.tensorboard)
        try:
            with self.requests:
                while self.step < self.plan.total_steps:
                    self._epoch()
        finally:
            if self.recorder is not None:
                self.recorder.close()
            self.processes.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        return TrainResult(self.plan.total_steps, self.losses, self.scores, self.best)

    def _epoch(self) -> None:
        """The rest of the epoch that `step` lies in."""
        config, plan = self.config, self.plan
        epoch, done = divmod(self.step, plan.steps_per_epoch)
        self.task.train()
        if done == 0 and isinstance(self.task, HasEpochs):
            with self.watch.stage("epoch"):
                self.task.start_epoch(epoch, self._everything(epoch))
        batches = on_device(self.loader.batches(epoch, done * config.accumulate), self.processes.device)
        for _ in range(done, min(plan.steps_per_epoch, plan.total_steps - epoch * plan.steps_per_epoch)):
            losses = self._update(batches)
            self.step += 1
            if self.recorder is not None:
                self.recorder.done(self.step, self.config.batch_size)
            finished = self.step == plan.total_steps
            if self._is_logged(self.step):
                self._record(losses)
            if finished or self.step % plan.steps_per_epoch == 0:
                self._end_epoch(epoch + 1)
            self._answer(save=finished or self.step % config.save_every == 0)

    def _answer(self, *, save: bool) -> None:
        """Save where it is time to, or where a signal asked for it; end where one asked for that."""
        end, asked = self.requests.answer(self.processes.total(self.requests.noted))
        if save or asked:
            self.unread.read(self.step)
            self._save("last")
        if asked and self.processes.main:
            self.run.log(f"checkpoint after step {self.step}, as a signal asked")
        if end is not None and self.step < self.plan.total_steps:
            raise Stopped(end, f"stopped by {Signals(end).name} after step {self.step}; go on with --resume")

    def _everything(self, epoch: int) -> Callable[[], Iterator[Batch]]:
        return lambda: on_device(self.loader.everything(epoch), self.processes.device)

    def _is_logged(self, step: int) -> bool:
        """Whether the losses of the step that makes so many are written down."""
        return step == self.plan.total_steps or step % self.config.log_every == 0

    def _update(self, batches: Iterator[Batch]) -> dict[str, Tensor]:
        """One optimizer step; returns its losses, the mean over its parts."""
        parts = self.config.accumulate
        self.task.set_progress(self.step, self.plan.total_steps)
        self._set_learning_rate()
        if isinstance(self.task, HasLog):
            self.task.logged = self._is_logged(self.step + 1)
        losses: dict[str, Tensor] = {}
        for part in range(parts):
            with self.watch.stage("load"):
                batch = next(batches)
            self._seed(part)
            with self.processes.local_gradients(self.model) if part < parts - 1 else nullcontext():
                with self.watch.stage("forward"):
                    values = self.model(batch)
                values[VOXELS] = torch.tensor(float(len(batch.cloud.coordinates)))
                with self.watch.stage("backward"):
                    self.processes.accelerator.backward(values["loss"] / parts)
            if isinstance(self.task, HasTimings):
                self.watch.add(self.task.timings)
            for name, value in values.items():
                losses[name] = losses.get(name, 0) + value.detach() / parts
        with self.watch.stage("optimizer"):
            counts = Taught.take(losses)
            self.unread.add(self.step, losses, counts)
            if self.config.clip_norm is not None:
                self.processes.accelerator.clip_grad_norm_(self.task.parameters(), self.config.clip_norm)
            scaled = self.processes.accelerator.scaler is not None
            with waiting("whether a gradient overflowed, under fp16") if scaled else nullcontext():
                self.optimizer.step()
            self.optimizer.zero_grad()
        return losses

    def _set_learning_rate(self) -> None:
        factor = self.schedule.factor(self.step, self.plan.total_steps, self.plan.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        momentum = self.schedule.momentum(self.step, self.plan.total_steps)
        if momentum is not None:
            for group in self.optimizer.param_groups:
                group.update({"betas": (momentum, group["betas"][1])} if "betas" in group else {"momentum": momentum})

    def _seed(self, part: int) -> None:
        """Key torch's own generator too: layers such as dropout draw from it, and a resumed run must draw the same."""
        seed_torch("step", self.config.seed, self.step, part, self.processes.rank)

    def _record(self, losses: Mapping[str, Tensor]) -> None:
        self.unread.read(self.step)
        self.losses = self.processes.mean(losses)
        seconds = self.watch.read(self.step - self.recorded)
        self.recorded = self.step
        if self.recorder is not None:
            lr = self.optimizer.param_groups[0]["lr"]
            self.recorder.losses(self.step, self.step / self.plan.steps_per_epoch, self.losses, lr, seconds)

    def _end_epoch(self, epochs_done: int) -> None:
        """Evaluate and keep, where it is time to; a run may end within its last epoch."""
        finished = self.step == self.plan.total_steps
        self.unread.read(self.step)
        self.processes.share_buffers(self.processes.accelerator.unwrap_model(self.model))
        if self.evaluate is not None and (finished or epochs_done % self.config.evaluate_every == 0):
            self.scores = dict(self.evaluate())
            if self.recorder is not None:
                self.recorder.scores(self.step, self.step / self.plan.steps_per_epoch, self.scores)
            self._keep_best()
        whole = self.step % self.plan.steps_per_epoch == 0
        if whole and self.config.keep_every is not None and epochs_done % self.config.keep_every == 0:
            self._save(f"epoch-{epochs_done}")

    def _keep_best(self) -> None:
        if self.score is None:
            return
        if self.score not in self.scores:
            raise UserError(f"no score named {self.score!r}; the evaluation gives {', '.join(self.scores)}")
        if self.best is None or self.scores[self.score] > self.best:
            self.best = self.scores[self.score]
            self._save("best")

    def _save(self, name: str) -> None:
        if self.processes.main:
            scaler = self.processes.accelerator.scaler
            Checkpoint(
                step=self.step,
                model=self.task.state_dict(),
                optimizer=self.optimizer.state_dict(),
                scaler=None if scaler is None else scaler.state_dict(),
                best=self.best,
                metrics_bytes=self.run.metrics_bytes(),
                empty=self.taught.empty,
            ).save(self.run.checkpoint_path(name))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was taken, on every process."""
        try:
            self.task.load_state_dict(checkpoint.model)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()[:200]
            raise UserError(
                f"{self.run.checkpoint_path('last')}: of another network ({reason}); another version of the code wrote "
                "it, so start a run of another name"
            ) from error
        self.optimizer.load_state_dict(checkpoint.optimizer)
        if checkpoint.scaler is not None:
            self.processes.accelerator.scaler.load_state_dict(checkpoint.scaler)
        self.step = self.recorded = checkpoint.step
        self.best = checkpoint.best
        self.taught.empty = dict(checkpoint.empty)
        if self.processes.main:
            self.run.truncate_metrics(checkpoint.metrics_bytes)
            self.run.log(f"resumed after step {checkpoint.step}")
