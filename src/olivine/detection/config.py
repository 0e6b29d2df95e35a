"""Settings of a run that trains a detector; the defaults are the published ones of SECOND for KITTI."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from olivine.backbones import BackboneConfig, VoxelNetConfig
from olivine.data.augment import CloudAugment
from olivine.data.voxelize import CartesianVoxels, VoxelConfig
from olivine.detection.kitti.rules import ClassRule, Overlaps, RuleConfig, class_rules
from olivine.detection.sampling import SamplingConfig
from olivine.detection.saved import EVAL_MAX_VOXELS
from olivine.detectors import DetectorConfig, SecondConfig
from olivine.engine.config import AdamWConfig, AnyScheduleConfig, OneCycleConfig, OptimizerConfig, TrainConfig
from olivine.engine.experiment import ScoredConfig

KITTI_VOXELS = CartesianVoxels(
    size_m=(0.05, 0.05, 0.1),
    bounds_m=(0, -40, -3, 70.4, 40, 1),
    features=("x", "y", "z", "intensity"),
    reduce="mean",
    max_points=5,
    max_voxels=16_000,
)
"""The published grid for KITTI."""


class DetectConfig(ScoredConfig):
    """Train a detector on a split with boxes, then score it on another."""

    kind: Literal["detect"] = "detect"
    """What it is a recipe of."""

    detector: DetectorConfig = SecondConfig()
    """The network behind the backbone, its classes and what it learns."""

    mode: Literal["finetune", "probe"] = "finetune"
    """Train everything, or only what stands behind the backbone, to see what its features are worth. Probing leaves
    the backbone's parameters as they are; its batch norms take the statistics of the labelled scans, since those of
    another LiDAR or grid would not fit, and those of a random backbone are none."""

    voxels: VoxelConfig = KITTI_VOXELS
    """The grid and the input features; the pretraining may have had voxels of another size."""

    eval_max_voxels: PositiveInt | None = EVAL_MAX_VOXELS
    """`voxels.max_voxels` where frames are scored; null keeps all."""

    augment: CloudAugment | None = CloudAugment(max_angle_rad=np.pi / 4, flip_axes="y", scale=0.05)
    """Augmentation of the scans, after objects are pasted; None for none."""

    sampling: SamplingConfig | None = SamplingConfig()
    """Which objects of other scans are pasted into each; None pastes none."""

    backbone: BackboneConfig = VoxelNetConfig()
    """The network that images can teach."""

    optimizer: OptimizerConfig = AdamWConfig(name="adamw", lr=3e-3, weight_decay=0.01, betas=(0.95, 0.99))
    """The optimizer; the decay is of every parameter, and the schedule sets the first beta."""

    schedule: AnyScheduleConfig = OneCycleConfig(name="one_cycle")
    """The learning rate's course."""

    train: TrainConfig = TrainConfig(epochs=80, batch_size=32, clip_norm=10.0)
    """The loop."""

    overlaps: Overlaps = "strict"
    """Which of KITTI's overlaps the run's one score, and what is monitored, are by: `strict` is the benchmark's;
    `loose` tells apart detectors that are still far from it. The results have the scores by both."""

    rules: dict[str, RuleConfig] = Field(default_factory=dict)
    """How each class is scored that is none of KITTI's (Car, Pedestrian, Cyclist, which have the benchmark's rules)."""

    pictures: NonNegativeInt = 4
    """Scored frames, spread evenly over the split, that are drawn with their boxes."""

    def scored_classes(self) -> tuple[ClassRule, ...]:
        """How the classes of the detector are scored, in its order.

        Raises:
            UserError: KITTI has no rule for one of them, and neither has `rules`; or `rules` names another.
        """
        return class_rules(self.detector.classes, self.rules)
