"""What there is to explore: a tiny nuScenes folder, a segmenter on it and a pretraining, none of them trained."""

from __future__ import annotations

from pathlib import Path

from builders.nuscenes import build_nuscenes
from builders.segmenter import segmenter
from olivine.backbones import Head, MinkUNetConfig
from olivine.config import dump, load_recipe
from olivine.data.voxelize import CartesianVoxels
from olivine.pretraining.run import PretrainConfig
from olivine.segmentation.config import SegmentConfig
from olivine.weights.file import describe_heads, save_weights

VOXELS = CartesianVoxels(size_m=(2.0, 2.0, 1.0))


def build_explored(root: Path) -> Path:
    """`datasets/street`, `runs/segmenter` and `runs/pretraining` below `root`, which is returned."""
    build_nuscenes(root / "datasets" / "street", ("scene-0061", "scene-0103"), keyframes=2)
    data = ["data.root=datasets/street", "data.version=v1.0-mini", "out=runs"]
    run = segmenter(root / "runs" / "segmenter")
    scored = load_recipe(
        SegmentConfig,
        "finetune_nuscenes",
        [*data, "name=segmenter", "weights=runs/pretraining", "val_split.split=[scene-0103]"],
    )
    (run / "config.yaml").write_text(dump(scored))
    pretraining(root / "runs" / "pretraining")
    learned = load_recipe(
        PretrainConfig, "olivine_nuscenes", [*data, "name=pretraining", "train_split.split=[scene-0061]"]
    )
    (root / "runs" / "pretraining" / "config.yaml").write_text(dump(learned))
    return root


def pretraining(folder: Path) -> Path:
    """Weights of a random network with the two heads of a pretraining."""
    config = MinkUNetConfig(name="minkunet14a", width=0.125, stem=(3,))
    backbone = config.of_channels(1)
    heads = {name: Head(backbone.channels, 16, unit=True) for name in ("point", "class")}
    about = {
        "task": "pretraining",
        "backbone": config.model_dump(mode="json"),
        "in_channels": 1,
        "voxels": VOXELS.model_dump(mode="json"),
        "intensity_max": 255.0,
        "heads": describe_heads(heads),
    }
    save_weights(folder, backbone, about, heads)
    return folder
