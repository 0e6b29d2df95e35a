"""What a score of detections is worth nothing without: metric, recall points, split, protocol (`results.json`)."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import numpy as np

from olivine.components import own_code
from olivine.data.frame import Dataset
from olivine.detection.config import DetectConfig
from olivine.detection.kitti import KittiScores
from olivine.detection.kitti.rules import OVERLAPS, Overlaps
from olivine.engine.kinds import Score
from olivine.engine.lineage import describe_split, overlap
from olivine.weights.file import code_version

METRICS: dict[Overlaps, str] = {"strict": "AP 3d R40 moderate", "loose": "AP 3d R40 moderate, loose overlaps"}
"""The metric of a run's one score: average precision of boxes in space at 40 recall points, by overlaps."""


def results_of(scores: KittiScores, config: DetectConfig, *, about: dict[str, Any], dataset: Dataset) -> dict[str, Any]:
    """The content of `results.json`.

    Args:
        scores: of the scored split.
        config: the run's configuration.
        about: what the trained weights say about themselves (`train`, `pretrained`, `steps`, …).
        dataset: the scored split.

    Returns:
        `score` (`metric`, `value`, `unit`; the value is the mean over the classes that occur, None where none does),
        all of KITTI's scores under `kitti` (see `KittiScores.as_json`), and the `protocol`.
    """
    return {
        "name": config.name,
        "score": Score(METRICS[config.overlaps], scores.mean(overlaps=config.overlaps)).as_dict(),
        "classes": _moderate(scores, config.overlaps),
        "kitti": scores.as_json(),
        "protocol": {
            "task": "detection",
            "mode": "finetune",
            "metric": METRICS[config.overlaps],
            "recall_points": 40,
            "seed": config.train.seed,
            "train": about["train"],
            "scored": describe_split(dataset, config.val_split),
            "pretrained": about["pretrained"],
            "steps": about["steps"],
            **overlap(about, dataset).as_dict(),
            "olivine": metadata.version("olivine"),
            "code": code_version(),
            "own_code": own_code(config),
        },
    }


def _moderate(scores: KittiScores, overlaps: Overlaps) -> dict[str, float | None]:
    """The score of each class; None where the split has no object of it that counts."""
    values = scores.ap("3d")[:, 1, OVERLAPS.index(overlaps)].tolist()
    return {name: value if np.isfinite(value) else None for name, value in zip(scores.classes, values, strict=True)}


def monitored(scores: KittiScores, overlaps: Overlaps = "strict") -> dict[str, float]:
    """What is logged of a split that is scored while training, by name, in percent; 0 where nothing was to be found."""
    named = {f"ap_3d_r40_moderate/{name}": value or 0.0 for name, value in _moderate(scores, overlaps).items()}
    return {"ap_3d_r40_moderate": scores.mean(overlaps=overlaps) or 0.0, **named}


def headline(results: dict[str, Any]) -> str:
    """The score in one line, with what it must not be read without.

    Args:
        results: as `results_of` gives them.
    """
    where = f"; {results['folder']}" if "folder" in results else ""
    value = results["score"]["value"]
    if value is None:
        return f"no objects to score{where}"
    protocol = results["protocol"]
    classes = ", ".join(f"{name} {_percent(value)}" for name, value in results["classes"].items())
    marks = [f"split {_named(protocol['scored'])}, {protocol['scored']['frames']} frames"]
    shared = len(protocol["shared_frames"]) or len(protocol["shared_scenes"])
    if shared:
        marks.append(f"a test of memory: trained on {shared} of the scored frames")
    seen = len(protocol["pretraining_scenes_scored"])
    if seen:
        marks.append(f"pretraining saw {seen} of the scored scenes without labels")
    return f"{results['score']['metric']} {value:.2f} % ({classes}; {'; '.join(marks)}){where}"


def _named(scored: dict[str, Any]) -> str:
    return scored["split"] if isinstance(scored["split"], str) else "by list"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
