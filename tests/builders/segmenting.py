"""Segmentation runs of a few steps on a tiny SemanticKITTI, and pretrained weights to begin them with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from builders.recipes import BACKBONE, GRID
from builders.semantickitti import build_semantickitti
from olivine.config import validate
from olivine.data.needs import Inputs
from olivine.segmentation.config import SegmentConfig
from olivine.weights.file import save_weights


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sequences of three labelled scans."""
    return build_semantickitti(tmp_path_factory.mktemp("kitti"), ("00", "01", "08", "09"), cameras=(), camseg=False)


def settings(root: Path, out: Path, **changes: Any) -> SegmentConfig:
    """Six steps on 00 and 01; the run is called `run`."""
    tree = {
        "name": "run",
        "out": str(out),
        "data": {"name": "semantickitti", "root": str(root)},
        "train_split": {"split": ["00", "01"]},
        "backbone": BACKBONE,
        "voxels": GRID,
        "optimizer": {"name": "sgd", "lr": 0.05, "head_lr": 0.5},
        "train": {"epochs": 2, "batch_size": 2, "workers": 0, "tensorboard": False, "log_every": 1},
    }
    return validate(SegmentConfig, {**tree, **changes}, "test")


def pretrained(folder: Path, config: SegmentConfig, **about: Any) -> Path:
    """Weights as pretraining leaves them: two heads of other sizes."""
    torch.manual_seed(3)
    backbone = config.backbone.build(Inputs(config.voxels))
    heads = {name: backbone.pretraining_head(64, unit=True) for name in ("point", "class")}
    return save_weights(folder, backbone, {"backbone": {**BACKBONE, "batch_norm_momentum": 0.05}, **about}, heads)
