"""A task, a loader and runs small enough to train in milliseconds.

As a program it trains scenarios (a JSON list of keyword arguments of `tiny_run`, plus `die`), each in a process of
its own that may be told to kill itself: `python training.py '[{"out": "...", "die": "forward:3"}]'`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from olivine.config import Config, validate
from olivine.data.batch import Batch, Cloud
from olivine.engine.config import AnyScheduleConfig, OptimizerConfig, ScheduleConfig, SGDConfig, TrainConfig
from olivine.engine.distribution import Distribution
from olivine.engine.loop import TrainResult, train
from olivine.engine.run import RunFolder
from olivine.weights.file import save_weights

POINTS = 8
FRAMES = 24


class TinyConfig(Config):
    """A run's configuration in small."""

    optimizer: OptimizerConfig = SGDConfig(lr=0.05)
    schedule: AnyScheduleConfig = ScheduleConfig(name="cosine_step", warmup=0.2)
    train: TrainConfig = TrainConfig(epochs=3, batch_size=4, save_every=5, log_every=1, tensorboard=False)
    noisy: bool = True


class TinyLoader:
    """Frames keyed by (seed, epoch, frame); the world's processes take turns, part by part."""

    def __init__(self, batch_size: int, rank: int = 0, world: int = 1, seed: int = 0) -> None:
        self.steps = FRAMES // (batch_size * world)
        self._batch_size, self._rank, self._world, self._seed = batch_size, rank, world, seed

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for step in range(start, self.steps):
            first = (step * self._world + self._rank) * self._batch_size
            yield self._batch(epoch, range(first, first + self._batch_size))

    def everything(self, epoch: int) -> Iterator[Batch]:
        for first in range(self._rank * self._batch_size, FRAMES, self._world * self._batch_size):
            yield self._batch(epoch, range(first, min(first + self._batch_size, FRAMES)))

    def _batch(self, epoch: int, frames: range) -> Batch:
        drawn = [np.random.default_rng((self._seed, epoch, frame)).normal(size=(POINTS, 3)) for frame in frames]
        points = torch.from_numpy(np.concatenate(drawn)).float()
        coordinates = torch.zeros(len(points), 4, dtype=torch.int32)
        cloud = Cloud(
            coordinates=coordinates,
            features=points,
            points_m=points,
            point_voxel=torch.arange(len(points)),
            point_offsets=torch.arange(len(frames) + 1) * POINTS,
            augmented_from_lidar=torch.eye(3).repeat(len(frames), 1, 1),
            voxel_labels=(points.sum(1) > 0).long(),
        )
        return Batch(tuple(map(str, frames)), torch.tensor(frames), cloud, seed=1000 * epoch + frames[0])


class TinyTask(nn.Module):
    """A small classifier. Noisy, it has everything that is hard to resume: dropout, batch norm, state, own draws."""

    def __init__(self, noisy: bool) -> None:
        super().__init__()
        torch.manual_seed(7)
        extra = [nn.BatchNorm1d(16), nn.Dropout(0.2)] if noisy else []
        self.backbone = nn.Sequential(nn.Linear(3, 16), *extra, nn.ReLU(), nn.Linear(16, 2))
        self.noisy = noisy
        self.register_buffer("center", torch.zeros(3))
        self.progress: list[tuple[int, int]] = []

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        features = batch.cloud.features
        if self.noisy:
            self.center.lerp_(features.mean(0), 0.1)
            features = features - self.center + 0.1 * torch.randn(features.shape, generator=batch.generator())
        loss = nn.functional.cross_entropy(self.backbone(features), batch.cloud.voxel_labels)
        return {"loss": loss, "twice": 2 * loss.detach()}

    def set_progress(self, step: int, total_steps: int) -> None:
        self.progress.append((step, total_steps))


def tiny_run(
    out: str | Path,
    config: dict[str, Any] | None = None,
    *,
    name: str = "tiny",
    resume: bool = False,
    task: TinyTask | None = None,
    **train_options: Any,
) -> tuple[RunFolder, TrainResult]:
    """Train a tiny task and save its weights."""
    settings = validate(TinyConfig, config or {}, "tiny")
    processes = Distribution.start(settings.train.precision)
    run = RunFolder.open(Path(out), name, settings, resume=resume, main=processes.main)
    processes.wait()
    task = task or TinyTask(settings.noisy)
    loader = TinyLoader(settings.train.frames_per_part(processes.world), processes.rank, processes.world)
    result = train(
        task,
        loader,
        settings.train,
        run,
        optimizer=settings.optimizer,
        schedule=settings.schedule,
        resume=resume,
        distribution=processes,
        **train_options,
    )
    if processes.main:
        save_weights(run.path, task.backbone, {"backbone": {"name": "tiny"}})
    return run, result


def _die(moment: str) -> None:
    """Arrange for SIGKILL in the n-th forward pass, or between the writing of the n-th checkpoint and its renaming."""
    place, count = moment.split(":")
    left = [int(count)]

    def countdown() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if place == "forward":
        forward = TinyTask.forward
        TinyTask.forward = lambda task, batch: (countdown(), forward(task, batch))[1]
    else:
        replace = Path.replace

        def dying_replace(path: Path, target: Path) -> Path:
            if target.name == "last.pt":
                countdown()
            return replace(path, target)

        Path.replace = dying_replace


def _main() -> None:
    import torch._dynamo

    torch.set_num_threads(1)
    codes = []
    for scenario in json.loads(sys.argv[1]):
        child = os.fork()
        if child == 0:
            moment = scenario.pop("die", None)
            if moment is not None:
                _die(moment)
            tiny_run(**scenario)
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    sys.stdout.write(json.dumps(codes) + "\n")


if __name__ == "__main__":
    if "WORLD_SIZE" in os.environ:
        for options in json.loads(sys.argv[1]):
            trained = TinyTask(options["config"]["noisy"])
            tiny_run(**options, task=trained)
            buffers = {name: buffer.tolist() for name, buffer in trained.named_buffers()}
            sys.stdout.write(json.dumps({"world": torch.distributed.get_world_size(), "buffers": buffers}) + "\n")
        torch.distributed.barrier()
        sys.stdout.flush()
        # Gloo's threads outlive the process group; one that still tidies up while the interpreter shuts down aborts it.
        os._exit(0)
    else:
        _main()
