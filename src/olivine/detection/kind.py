"""Detection as comparisons and `olivine evaluate` see it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from olivine.detection.config import DetectConfig
from olivine.detection.detect import MAY_DIFFER, check_detection, detect
from olivine.detection.kitti.rules import OVERLAPS
from olivine.detection.results import METRICS, headline
from olivine.detection.scoring import evaluate_run
from olivine.engine.kinds import ScoredKind
from olivine.engine.statistics import mean_of_known


class Detection(ScoredKind[DetectConfig]):
    """Training of detectors."""

    config = DetectConfig
    may_differ = MAY_DIFFER
    made_by = "detection"

    def perform(self, config: DetectConfig) -> None:
        """Train, then score."""
        detect(config, resume=True)

    def check(self, config: DetectConfig) -> None:
        """Refuse what `detect` would."""
        check_detection(config)

    def evaluate(self, folder: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
        """Score a run again."""
        return evaluate_run(folder, overrides)

    def headline(self, results: dict[str, Any]) -> str:
        """The average precision, with its classes and marks."""
        return headline(results)

    def scored_over(self, results: dict[str, Any]) -> dict[str, Any]:
        """The classes of the mean, and which frames and objects."""
        scored = results["protocol"]["scored"]
        frames = [scored.get(key) for key in ("dataset", "frames", "scenes", "tokens")]
        frames.append(results["protocol"].get("beams"))
        return {
            "classes": [name for name, value in results["classes"].items() if value is not None],
            "frames or labels": [results["kitti"]["protocol"]["objects"], *frames],
        }

    def protocol(self, results: dict[str, Any]) -> dict[str, Any]:
        """What KITTI's scores were counted on and how."""
        counted = results["kitti"]["protocol"]
        return {key: counted[key] for key in ("overlap_above", "difficulties", "objects", "at_most", "recall_points")}

    def summary(self, results: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
        """The average precision by class, and by class and difficulty."""
        known = [result for result in results if result is not None]
        classes = list(known[0]["classes"]) if known else []
        values = {name: mean_of_known([result["classes"][name] for result in known]) for name in classes}
        metric = known[0]["score"]["metric"] if known else METRICS["strict"]
        return {"by_class": {"metric": metric, "unit": "%", "values": values}, "further": _by_difficulty(known)}


def _by_difficulty(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means of boxes in space and from above, by class and difficulty; none without results."""
    tables = []
    for overlaps, metric in product(OVERLAPS, ("3d", "bev")):
        found = [result["kitti"][overlaps][metric]["R40"] for result in results]
        values = {
            f"{name}, {level}": mean_of_known([one[name][level] for one in found])
            for name, levels in (found[0] if found else {}).items()
            for level in levels
        }
        said = "" if overlaps == "strict" else f", {overlaps} overlaps"
        tables.append({"metric": f"AP {metric} R40{said}", "unit": "%", "values": values})
    return tables if results else []
