"""What a labelling run is told: which images, which labeller, where to.

A new labeller of the package is one file with its configuration class and one line here; one of your own is a class
that inherits `OwnLabellerConfig`, named by its import path.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from olivine.components import Open
from olivine.config import Config
from olivine.data.datasets import DatasetConfig, SplitConfig
from olivine.data.splits import WholeByDefault
from olivine.engine.device import Device
from olivine.labels.base import OwnLabellerConfig
from olivine.labels.labellers.closed_set import ClosedSetConfig
from olivine.labels.labellers.grounded_sam import GroundedSamConfig
from olivine.labels.labellers.sam_segments import SamSegmentsConfig
from olivine.labels.labellers.superpixels import SlicConfig

__all__ = ["LabelConfig", "LabellerConfig", "RayConfig"]

LabellerConfig = Annotated[
    GroundedSamConfig | ClosedSetConfig | SlicConfig | SamSegmentsConfig | OwnLabellerConfig, Open()
]
"""Any labeller; `config.build(device)` gives a `Labeller`."""


_WITHOUT_CLASSES = ("folder",)
"""Datasets that have no classes of their own."""


class RayConfig(Config):
    """What the workers of a run on a Ray cluster are given; nothing of it decides the masks."""

    workers: PositiveInt | None = None
    """Processes that each hold a labeller; unset is as many as the cluster has room for when the run starts."""

    cpus: PositiveInt = 1
    """CPU cores set aside for each of them."""

    gpus: float = Field(default=1.0, gt=0, le=1)
    """Share of a GPU set aside for each of them where `device` is `cuda`, or `auto` in a cluster that has GPUs."""


class LabelConfig(Config):
    """Masks for every camera image of a split of a dataset."""

    kind: Literal["label"] = "label"
    """What it is a recipe of."""

    data: DatasetConfig
    """The dataset whose images are labelled; `masks` stays unset."""

    split: WholeByDefault = SplitConfig(split="all")
    """Which of its frames; all of them by default."""

    out: Path
    """Folder of the masks and their manifest, to be given to training as `data.masks`. New, or of an earlier run with
    the same settings, which is then continued."""

    labeller: LabellerConfig
    """What makes the masks."""

    batch_size: PositiveInt = 4
    """Images given to the labeller at a time. Decides speed and memory, not the masks."""

    workers: PositiveInt = 4
    """Threads that read images ahead and write masks."""

    device: Device = "auto"
    """Where networks run; `auto` is a GPU where there is one."""

    ray: RayConfig = RayConfig()
    """Read where the command is given `--ray`."""

    @model_validator(mode="before")
    @classmethod
    def _classes_of_the_data(cls, tree: Any) -> Any:
        """Let classes of one's own say what to look for, and let no other classes stand in where data has none."""
        if not isinstance(tree, dict) or _key(tree.get("labeller"), "name") != "grounded_sam":
            return tree
        data, labeller = tree.get("data"), tree["labeller"]
        if not isinstance(labeller, dict) or labeller.get("prompts") is not None:
            return tree
        classes = _key(data, "classes")
        if classes is not None:
            return {**tree, "labeller": {**labeller, "prompts": str(classes)}}
        if _key(data, "name") in _WITHOUT_CLASSES:
            raise ValueError("say what to look for: data.classes=my_classes.yaml, or labeller.prompts=...")
        return tree

    @field_validator("data")
    @classmethod
    def _without_masks(cls, data: DatasetConfig) -> DatasetConfig:
        if getattr(data, "masks", None) is not None:  # not every dataset has any
            raise ValueError("masks are what this run makes; set out to their folder and leave data.masks away")
        return data


def _key(value: Any, key: str) -> Any:
    """A key of a part of a recipe, whether that is read already or not."""
    return value.get(key) if isinstance(value, dict) else getattr(value, key, None)
