"""What every training shares, whatever it trains: the keys of its recipe, its loader, its run folder and its loop.

Pretraining and the tasks say what is trained and on which samples; everything between a recipe and the last step is
here once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import PositiveInt
from torch import nn

from olivine.backbones import BackboneConfig, MinkUNetConfig
from olivine.config import Config
from olivine.data.augment import CloudAugment
from olivine.data.datasets import DatasetConfig, SplitConfig
from olivine.data.frame import Dataset
from olivine.data.loader import Loader, PrepareFrame
from olivine.data.needs import Needs
from olivine.data.resample import Resample
from olivine.data.thinning import trained_without, with_rings
from olivine.data.voxelize import CylindricalVoxels, VoxelConfig
from olivine.engine.config import AnyScheduleConfig, OptimizerConfig, ScheduleConfig, SGDConfig, TrainConfig
from olivine.engine.distribution import Distribution
from olivine.engine.loop import TrainResult, train
from olivine.engine.run import RunFolder
from olivine.engine.task import Task
from olivine.errors import UserError
from olivine.sparse.synchronized import synchronize_norms
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

    def check_augment(self, dataset: Dataset, needs: Needs | None = None) -> None:
        """Refuse augmentation of clouds that would do nothing, or that the data do not allow.

        Args:
            dataset: what is learned from, whose first frame is read where beams are to be dropped.
            needs: what samples must hold beside voxels.

        Raises:
            UserError: intensities are to be dropped and the network sees none; or beams, and nothing tells them.
        """
        if self.augment is None:
            return
        if self.augment.intensity_dropout and not self._reads_intensity(needs):
            raise UserError(
                f"augment.intensity_dropout={self.augment.intensity_dropout:g}: this network sees no intensity "
                f"(voxels.features={list(self.voxels.features)}), so there is nothing to drop; set it to 0"
            )
        if self.augment.beams is not None and len(dataset):
            with_rings(dataset[0])

    def describe_augment(self, needs: Needs | None = None) -> dict[str, Any]:
        """What weights say of how their training's scans varied.

        Args:
            needs: what samples must hold beside voxels.

        Returns:
            `augment`, as in the recipe, and `trained_without` (see `olivine.data.thinning.trained_without`).
        """
        dropout = 0.0 if self.augment is None else self.augment.intensity_dropout
        return {
            "augment": None if self.augment is None else self.augment.model_dump(mode="json"),
            "trained_without": trained_without(dropout, reads_intensity=self._reads_intensity(needs)),
        }

    def _reads_intensity(self, needs: Needs | None) -> bool:
        return "intensity" in self.voxels.features or (needs is not None and needs.intensities)

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
            pin=processes.device.type == "cuda",
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
        if self.train.sync_batch_norm:
            assert isinstance(task, nn.Module)
            synchronize_norms(task)
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

    eval_beams: PositiveInt | None = None
    """Resample the scans that are scored to so many beams, to see what a network is worth on such a sensor: 32 keeps
    every second beam of 64. None scores them as they are."""

    def scoring_loader(self, dataset: Dataset, prepare: PrepareFrame, processes: Distribution) -> Loader:
        """This process's share of the frames that are scored, in order.

        Args:
            dataset: the frames.
            prepare: makes samples of them, without augmentation.
            processes: the processes.
        """
        return Loader(
            dataset,
            prepare if self.eval_beams is None else Resample(prepare, self.eval_beams),
            batch_size=self.eval_batch_size,
            seed=self.train.seed,
            shuffle=False,
            workers=self.train.workers,
            rank=processes.rank,
            world=processes.world,
            pin=processes.device.type == "cuda",
        )
