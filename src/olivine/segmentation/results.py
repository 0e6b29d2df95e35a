"""What a score is worth nothing without: which frames, which weights, which code (`results.json`)."""

from __future__ import annotations

import hashlib
from importlib import metadata
from typing import Any

from olivine.components import own_code
from olivine.data.frame import Dataset
from olivine.data.labels import ClassSet
from olivine.data.splits import SplitConfig
from olivine.engine.weights import Weights, code_version
from olivine.segmentation.config import SegmentConfig
from olivine.segmentation.iou import ConfusionMatrix

LISTED = 1000
"""A subset of at most this many frames is listed by token; of a larger one the scenes say which frames they are."""


def describe_split(dataset: Dataset, split: SplitConfig) -> dict[str, Any]:
    """Name the frames of a split: `dataset`, the split's settings, `frames`, `scenes`, and `tokens` of a small one."""
    scenes = dict.fromkeys(dataset.scene(index) for index in range(len(dataset)))
    listed = len(dataset) <= LISTED
    return {
        "dataset": dataset.name,
        **split.model_dump(mode="json"),
        "frames": len(dataset),
        "scenes": list(scenes),
        "tokens": [dataset.token(index) for index in range(len(dataset))] if listed else None,
    }


def describe_weights(weights: Weights) -> dict[str, Any]:
    """Name pretrained weights: `path`, `sha256` of the file, and what it says `about` itself."""
    digest = hashlib.sha256(weights.path.read_bytes()).hexdigest()
    return {"path": str(weights.path), "sha256": digest, "about": weights.about}


def results_of(
    matrix: ConfusionMatrix,
    classes: ClassSet,
    config: SegmentConfig,
    *,
    about: dict[str, Any],
    scored: dict[str, Any],
) -> dict[str, Any]:
    """The content of `results.json`.

    Args:
        matrix: the counts over the scored split.
        classes: its classes.
        config: the run's configuration.
        about: what the trained weights say about themselves (`train`, `pretrained`, `steps`, …).
        scored: the scored split, by `describe_split`.

    Returns:
        The scores in percent (see `SegmentationScores.as_dict`), the `confusion` matrix and the `protocol`.
    """
    return {
        "name": config.name,
        **matrix.scores(classes.names, reference_compatible=config.reference_compatible).as_dict(),
        "coverage": matrix.coverage(),
        "confusion": {
            "rows_true": list(classes.names),
            "columns_predicted": ["none", *classes.names],
            "counts": matrix.counts.tolist(),
        },
        "protocol": {
            "task": "segmentation, per point",
            "mode": config.mode,
            "seed": config.train.seed,
            "train": about["train"],
            "scored": scored,
            "pretrained": about["pretrained"],
            "steps": about["steps"],
            "shared_scenes": sorted(set(about["train"]["scenes"]) & set(scored["scenes"])),
            "olivine": metadata.version("olivine"),
            "code": code_version(),
            "own_code": own_code(config),
        },
    }
