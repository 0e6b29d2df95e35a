"""What every training shares, whatever it trains: the keys of its recipe, its loader, its run folder and its loop.

Pretraining and the tasks say what is trained and on which samples; everything between a recipe and the last step is
here once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import PositiveInt

from olivine.backbones import BackboneConfig, MinkUNetConfig
from olivine.config import Config
from olivine.data.augment import CloudAugment
from olivine.data.datasets import DatasetConfig, SplitConfig
from olivine.data.frame import Dataset
from olivine.data.loader import Loader, PrepareFrame
from olivine.data.voxelize import CylindricalVoxels, VoxelConfig
from olivine.engine.config import AnyScheduleConfig, OptimizerConfig, ScheduleConfig, SGDConfig, TrainConfig
from olivine.engine.distribution import Distribution
from olivine.engine.loop import TrainResult, train
from olivine.engine.run import RunFolder
from olivine.engine.task import Task
from olivine.streams import seed_torch


class ExperimentConfig(Config):
    """The keys that every training has."""

    kind: str
    """What it is a recipe of."""

    name: str
    """Name of the run; its folder is `<out>/<name>`."""

    out: Path = Path("runs")
    """Folder of all runs."""

    data: DatasetConfig
    """The dataset to learn from."""

    train_split: SplitConfig = SplitConfig(split="train")
    """What of it is learned from; `every` keeps a share."""

    voxels: VoxelConfig = CylindricalVoxels()
    """The grid and the input features."""

    augment: CloudAugment | None = CloudAugment()
    """Augmentation of the clouds; None for none."""

    backbone: BackboneConfig = MinkUNetConfig()
    """The network."""

    optimizer: OptimizerConfig = SGDConfig()
    """The optimizer."""

    schedule: AnyScheduleConfig = ScheduleConfig()
    """The learning rate's course."""

    train: TrainConfig = TrainConfig()
    """The loop."""

    @contextmanager
    def initial_weights(self) -> Iterator[None]:
        """Draw initial weights inside: from the run's seed and nothing else, and without a trace."""
        with torch.random.fork_rng(devices=[]):
            seed_torch("initial weights", self.train.seed)
            yield

    def loader(
        self, dataset: Dataset, prepare: PrepareFrame, processes: Distribution, *, max_gap: int | None = None
    ) -> Loader:
        """This process's share of the training samples, in random order.

        Args:
            dataset: the frames.
            prepare: makes samples of them.
            processes: the processes.
            max_gap: as of `Loader`.
        """
        return Loader(
            dataset,
            prepare,
            batch_size=self.train.frames_per_part(processes.world),
            seed=self.train.seed,
            shuffle=True,
            workers=self.train.workers,
            rank=processes.rank,
            world=processes.world,
            max_gap=max_gap,
        )

    def open_run(
        self,
        processes: Distribution,
        inputs: Mapping[str, str],
        *,
        resume: bool,
        may_differ: Collection[str],
    ) -> RunFolder:
        """The run's folder, which now exists; nothing may be refused any more that could have been before.

        Args:
            processes: the processes.
            inputs: digests of what the run reads.
            resume: go on with an interrupted run.
            may_differ: dotted keys that may change when it is continued.

        Raises:
            UserError: as of `RunFolder.open`.
        """
        run = RunFolder.open(
            self.out,
            self.name,
            self,
            resume=resume,
            may_differ=may_differ,
            inputs=inputs if processes.main else None,
            main=processes.main,
        )
        processes.wait()
        return run

    def run_loop(
        self,
        task: Task,
        loader: Loader,
        run: RunFolder,
        processes: Distribution,
        *,
        resume: bool,
        evaluate: Callable[[], Mapping[str, float]] | None = None,
        score: str | None = None,
    ) -> TrainResult:
        """Train to the end; arguments as of `olivine.engine.loop.train`."""
        return train(
            task,
            loader,
            self.train,
            run,
            optimizer=self.optimizer,
            schedule=self.schedule,
            evaluate=evaluate,
            score=score,
            resume=resume,
            distribution=processes,
        )


class ScoredConfig(ExperimentConfig):
    """The keys that every training has which is scored."""

    weights: Path | None = None
    """Pretrained weights of the backbone: a pretraining run, or a weights file. Their heads are left out, every other
    entry must fit. None trains from scratch."""

    val_split: SplitConfig = SplitConfig(split="val")
    """What is scored."""

    monitor_split: SplitConfig | None = None
    """A split of `data` that is scored while training, every `train.evaluate_every` epochs, to keep the best
    checkpoint and to see the curve; None scores only the end. The results are those of the last weights either way."""

    allow_shared_scenes: bool = False
    """Score on scenes or frames that were also trained on: a test of memory, not a result, and marked as one."""

    eval_batch_size: PositiveInt = 1
    """Frames predicted at a time by each process. Does not change the scores."""

    def scoring_loader(self, dataset: Dataset, prepare: PrepareFrame, processes: Distribution) -> Loader:
        """This process's share of the frames that are scored, in order.

        Args:
            dataset: the frames.
            prepare: makes samples of them, without augmentation.
            processes: the processes.
        """
        return Loader(
            dataset,
            prepare,
            batch_size=self.eval_batch_size,
            seed=self.train.seed,
            shuffle=False,
            workers=self.train.workers,
            rank=processes.rank,
            world=processes.world,
        )
