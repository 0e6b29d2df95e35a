"""Whole trainings of a method on toy batches, through the loop, that may be interrupted and resumed."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from olivine.config import Config
from olivine.data.batch import Batch, Cloud, SecondView
from olivine.detection.task import DetectionTask
from olivine.engine.config import AdamWConfig, ScheduleConfig, TrainConfig
from olivine.engine.loop import BatchSource, TrainResult, train
from olivine.engine.run import RunFolder
from olivine.methods import Method
from olivine.toys import toy_batch

FRAMES = 6
VOXELS = 40
EPOCHS = 3
STEPS = EPOCHS * FRAMES // 2


class InterruptedRunError(Exception):
    """What ends a run before its time."""


class ToyLoader:
    """Six frames, two a step, each the same in every epoch but for its features; both processes' shares by rank."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self._rank, self._world = rank, world
        self.steps = FRAMES // 2 // world

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The training batches of an epoch."""
        for step in range(start, self.steps):
            yield toy_frames(epoch, [2 * (step * self._world + self._rank) + frame for frame in range(2)])

    def everything(self, epoch: int) -> Iterator[Batch]:
        """Every frame of this process's share."""
        own = list(range(self._rank, FRAMES, self._world))
        for first in range(0, len(own), 2):
            yield toy_frames(epoch, own[first : first + 2])


def toy_frames(epoch: int, frames: list[int]) -> Batch:
    """A batch of the given frames; the voxels of each are the same in every epoch, and in whatever batch it is."""
    singles = [_frame(epoch, frame, place) for place, frame in enumerate(frames)]
    cloud = _joined([first for first, _ in singles])
    second = SecondView(
        cloud=_joined([second for _, second in singles]),
        second_from_first=torch.eye(4, dtype=torch.float64).repeat(len(frames), 1, 1),
        match=None,
    )
    seed = 1000 * epoch + frames[0]
    return Batch(tuple(map(str, frames)), torch.tensor(frames), cloud, seed, second=second)


def _frame(epoch: int, frame: int, place: int) -> tuple[Cloud, Cloud]:
    """Two views of one frame, which have the same voxels, the second in another order and with other features."""
    cloud = toy_batch(frames=1, voxels=VOXELS, seed=frame).cloud
    generator = torch.Generator().manual_seed(1000 * epoch + frame)
    order = torch.randperm(VOXELS, generator=generator)
    coordinates = cloud.coordinates.clone()
    coordinates[:, 0] = place
    noise = 0.1 * torch.rand(2, VOXELS, 1, generator=generator)
    first = replace(cloud, coordinates=coordinates, features=cloud.features + noise[0])
    return first, replace(cloud, coordinates=coordinates[order], features=cloud.features[order] + noise[1])


def _joined(clouds: list[Cloud]) -> Cloud:
    """One cloud of several frames."""
    return replace(
        clouds[0],
        coordinates=torch.cat([cloud.coordinates for cloud in clouds]),
        features=torch.cat([cloud.features for cloud in clouds]),
        points_m=torch.cat([cloud.points_m for cloud in clouds]),
        point_voxel=torch.arange(VOXELS * len(clouds)),
        point_offsets=torch.arange(len(clouds) + 1) * VOXELS,
        augmented_from_lidar=torch.eye(3).repeat(len(clouds), 1, 1),
    )


def resumes_to_the_bit(make: Callable[[int], Method], folder: Path, die: int) -> None:
    """Assert that a run killed in its `die`-th pass and resumed ends like one that was not: state and records.

    Saved after steps 2, 4, 6 and 8 of epochs of 3 steps: in the middle of an epoch, and at the end of one.

    Args:
        make: a fresh method from a seed.
        folder: of the runs.
        die: the forward pass, counted from 1.
    """
    whole, resumed = make(0), make(0 if die < 3 else 1)  # before step 2 nothing was saved
    run, _ = toy_run(whole, folder, "whole")
    with pytest.raises(InterruptedRunError):
        toy_run(make(0), folder, "killed", die=die)
    again, _ = toy_run(resumed, folder, "killed", resume=True)
    expected, state = whole.state_dict(), resumed.state_dict()
    assert expected.keys() == state.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    lines = [[(line["step"], line["losses"]) for line in each.metrics()] for each in (run, again)]
    assert len(lines[0]) == STEPS
    assert lines[0] == lines[1]


def toy_run(
    method: Method | DetectionTask,
    out: Path,
    name: str,
    *,
    die: int | None = None,
    resume: bool = False,
    loader: BatchSource | None = None,
) -> tuple[RunFolder, TrainResult]:
    """Train a method or a detector, saving after every second step.

    Args:
        method: what is trained, freshly made.
        out: folder of the runs.
        name: the run's.
        die: the forward pass, counted from 1, in which the run is interrupted.
        resume: go on with an interrupted run.
        loader: its batches; by default those of `ToyLoader`.

    Raises:
        InterruptedRunError: as asked for.
    """
    run = RunFolder.open(out, name, Config(), resume=resume)
    if die is not None:
        passes = iter(range(1, die + 1))

        def count(module: nn.Module, inputs: Any) -> None:  # noqa: ARG001
            if next(passes) == die:
                raise InterruptedRunError

        method.register_forward_pre_hook(count)
    result = train(
        method,
        loader or ToyLoader(),
        TrainConfig(epochs=EPOCHS, batch_size=2, save_every=2, log_every=1, tensorboard=False),
        run,
        optimizer=AdamWConfig(name="adamw", lr=0.01),
        schedule=ScheduleConfig(name="cosine_step"),
        resume=resume,
    )
    return run, result
