"""What a prediction is told beside its model, its source and its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from olivine.config import Config
from olivine.data.splits import SplitConfig, WholeByDefault
from olivine.engine.device import Device
from olivine.scans import ScanColumns

Format = Literal["label", "lidarseg", "pcd", "ply", "las", "kitti", "jsonl"]
"""What is written of each frame; see `olivine.prediction.formats`."""


class PredictConfig(Config):
    """The settings of `olivine predict`; everything has a default that fits most sources."""

    format: Format | None = None
    """What is written of each frame; unset is what the source's own tools read, else `pcd` or `jsonl`."""

    data: dict[str, Any] = Field(default_factory=dict)
    """Settings of the dataset over those that it is recognised with, e.g. `data.version=v1.0-mini`."""

    split: WholeByDefault = SplitConfig(split="all")
    """Which frames of a dataset; all of them by default. `split.every` thins out scans too."""

    columns: ScanColumns = ScanColumns()
    """What the columns of bare scans are, where their files do not say it."""

    intensity_max: PositiveFloat | None = None
    """Top of the range of intensities of bare scans and logs; unset measures it over a few of them, and takes that of
    the training data where values are not clear. Datasets say their own."""

    recipe: Path | None = None
    """Recipe of `olivine convert` by which a log is read; unset is the one that the log proposes, with every scan."""

    log: dict[str, Any] = Field(default_factory=dict)
    """Settings of a log over that recipe, e.g. `log.keyframe_hz=2`. A folder of scans is read as a log where any are
    given."""

    confidences: bool = False
    """Beside `label` and `lidarseg`, which have no room for it, write the confidence of every point too: float32 in a
    file of the same name that ends in `.confidence`."""

    camera: str | None = None
    """The camera of KITTI's boxes; unset is the first one of each frame."""

    pictures: NonNegativeInt = 0
    """Frames that are drawn into `pictures`, spread evenly over the source."""

    batch_size: PositiveInt | None = None
    """Frames in the network at a time; unset is 1 on a CPU, where more gain nothing, and 4 on a GPU (not measured on
    one). Decides speed and memory, not what is predicted."""

    workers: PositiveInt = 2
    """Threads that read and voxelise frames ahead of the network and write behind it."""

    device: Device = "auto"
    """Where the network runs; `auto` is a GPU where there is one."""

    def frames_at_a_time(self, device: torch.device) -> int:
        """`batch_size`, or what it is by default on a device."""
        return self.batch_size or (1 if device.type == "cpu" else 4)
