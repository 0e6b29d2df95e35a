"""Recipes small enough to run in a second, on the folders that `build_nuscenes` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from builders.nuscenes import build_nuscenes

SCENES = ("scene-0061", "scene-0103")
TRAIN, VAL = SCENES
BACKBONE = {"name": "minkunet14a", "width": 0.125}
GRID = {"name": "cartesian", "size_m": [4.0, 4.0, 2.0]}


def tiny_data(root: Path, **options: Any) -> Path:
    """Two scenes of two keyframes, with labels, masks and images; returns `root`."""
    return build_nuscenes(root, SCENES, 2, **{"points": 150, "boxes": 0, **options})


def _shared(root: Path) -> dict[str, Any]:
    return {
        "out": str(root.parent / "runs"),
        "data": {"name": "nuscenes", "root": str(root), "version": "v1.0-mini", "boxes": False},
        "train_split": {"split": [TRAIN]},
        "voxels": GRID,
        "backbone": BACKBONE,
        "train": {"epochs": 2, "batch_size": 2, "workers": 0, "log_every": 1, "tensorboard": False},
    }


def tiny_pretraining(root: Path, **changes: Any) -> dict[str, Any]:
    """A pretraining recipe of two steps with a random teacher; the run is called `pretrained`."""
    method = {"name": "olivine", "teacher": {"name": "random"}, "feature_dim": 8, "pairs": 64}
    own = {
        "name": "pretrained",
        "images": {"size": [32, 16], "min_pairs": 4},
        "method": {**method, "vmf": {"warmup_fraction": 0.5}},
        "optimizer": {"name": "sgd", "lr": 0.1},
    }
    return {**_shared(root), **own, **changes}


def tiny_segmentation(root: Path, **changes: Any) -> dict[str, Any]:
    """A fine-tuning recipe of two steps, scored on the other scene; the run is called `segmented`."""
    own = {
        "name": "segmented",
        "mode": "finetune",
        "val_split": {"split": [VAL]},
        "optimizer": {"name": "sgd", "lr": 0.05},
    }
    return {**_shared(root), **own, **changes}


def write_recipe(path: Path, tree: dict[str, Any]) -> str:
    """Write a recipe; returns its path as the command line takes it."""
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return str(path)
