"""A random network with a head for classes, as a run folder has it: what predicting takes, without training."""

from __future__ import annotations

from pathlib import Path

from olivine.backbones import Head, MinkUNetConfig
from olivine.data.labels import load_class_set
from olivine.data.voxelize import CartesianVoxels
from olivine.weights.file import describe_heads, save_weights


def segmenter(folder: Path, stem: tuple[int, ...] = (3,)) -> Path:
    """Weights that score the classes of nuScenes, of a random network."""
    config = MinkUNetConfig(name="minkunet14a", width=0.125, stem=stem)
    names = load_class_set("nuscenes").names
    backbone = config.of_channels(1)
    heads = {"classes": Head(backbone.channels, len(names))}
    about = {
        "task": "segmentation",
        "backbone": config.model_dump(mode="json"),
        "in_channels": 1,
        "voxels": CartesianVoxels(size_m=(2.0, 2.0, 1.0)).model_dump(mode="json"),
        "intensity_max": 255.0,
        "classes": "nuscenes",
        "heads": describe_heads(heads, names),
    }
    save_weights(folder, backbone, about, heads)
    return folder
