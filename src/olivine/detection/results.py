"""What a score of detections is worth nothing without: metric, recall points, split, protocol (`results.json`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from olivine.data.frame import Dataset
from olivine.detection.config import DetectConfig
from olivine.detection.kitti import KittiScores
from olivine.detection.kitti.rules import OVERLAPS, Overlaps
from olivine.engine.evaluations import provenance
from olivine.engine.kinds import Score
from olivine.errors import UserError

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
            "mode": config.mode,
            "metric": METRICS[config.overlaps],
            "recall_points": 40,
            **provenance(about, dataset, config),
        },
    }


def _moderate(scores: KittiScores, overlaps: Overlaps) -> dict[str, float | None]:
    """The score of each class; None where the split has no object of it that counts."""
    values = scores.ap("3d")[:, 1, OVERLAPS.index(overlaps)].tolist()
    return {name: value if np.isfinite(value) else None for name, value in zip(scores.classes, values, strict=True)}


def monitored(scores: KittiScores, overlaps: Overlaps = "strict") -> dict[str, float]:
    """What is logged of a split that is scored while training, by name, in percent; classes without objects are not.

    Raises:
        UserError: the split has no object that counts, so that no checkpoint would be the best.
    """
    mean = scores.mean(overlaps=overlaps)
    if mean is None:
        raise UserError("monitor_split: no object there counts as moderate, so nothing can be scored; choose another")
    found = {f"ap_3d_r40_moderate/{name}": value for name, value in _moderate(scores, overlaps).items()}
    return {"ap_3d_r40_moderate": mean, **{name: value for name, value in found.items() if value is not None}}


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
    if protocol.get("beams") is not None:
        marks.append(f"scans resampled to {protocol['beams']} beams")
    shared = len(protocol["shared_frames"]) or len(protocol["shared_scenes"])
    if shared:
        marks.append(f"a test of memory: trained on {shared} of the scored frames")
    seen = len(protocol["pretraining_scenes_scored"])
    if seen:
        marks.append(f"pretraining saw {seen} of the scored scenes without labels")
    return f"{results['score']['metric']} {value:.2f} %{_at_most(results)} ({classes}; {'; '.join(marks)}){where}"


def _at_most(results: dict[str, Any]) -> str:
    """What the score can reach, where that is below 100 for want of objects."""
    limits = results["kitti"]["protocol"]["at_most"]["R40"]
    scored = [limits[name]["moderate"] for name, value in results["classes"].items() if value is not None]
    most = sum(scored) / len(scored)
    return f" of at most {most:.2f} %" if most < 100 else ""


def _named(scored: dict[str, Any]) -> str:
    return scored["split"] if isinstance(scored["split"], str) else "by list"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
