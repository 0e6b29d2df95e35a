"""Segmentation as comparisons and `olivine evaluate` see it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from olivine.engine.kinds import ScoredKind
from olivine.engine.statistics import mean_of_known
from olivine.segmentation.config import SegmentConfig
from olivine.segmentation.iou import OFFICIAL
from olivine.segmentation.results import headline, rescored
from olivine.segmentation.scoring import evaluate_run
from olivine.segmentation.segment import MAY_DIFFER, check_segmentation, segment


class Segmentation(ScoredKind[SegmentConfig]):
    """Fine-tuning and probing of segmentation."""

    config = SegmentConfig
    may_differ = MAY_DIFFER
    made_by = "segmentation"

    def perform(self, config: SegmentConfig) -> None:
        """Train, then score."""
        segment(config, resume=True)

    def check(self, config: SegmentConfig) -> None:
        """Refuse what `segment` would."""
        check_segmentation(config)

    def evaluate(self, folder: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
        """Score a run again."""
        return evaluate_run(folder, overrides)

    def headline(self, results: dict[str, Any]) -> str:
        """The mIoU, with its classes and marks."""
        return headline(results)

    def read(self, folder: Path) -> dict[str, Any]:
        """The results; those of an earlier version are scored by today's rule."""
        return rescored(super().read(folder))

    def scored_over(self, results: dict[str, Any]) -> dict[str, Any]:
        """The classes of the mean, and which frames and labels."""
        scored = results["protocol"]["scored"]
        frames = [scored.get(key) for key in ("dataset", "frames", "scenes", "tokens")]
        frames.append(results["protocol"].get("beams"))
        rule = ["reference-compatible"] if results["reference_compatible"] else []
        return {"classes": [*results["miou_classes"], *rule], "frames or labels": [results["points"], *frames]}

    def protocol(self, results: dict[str, Any]) -> dict[str, Any]:
        """The classes of the mean, its rule, and which frames have labels."""
        return {key: results.get(key) for key in ("miou_classes", "reference_compatible", "coverage")}

    def summary(self, results: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
        """Accuracy by run, the mean by other rules, and the IoU by class."""
        known = [result for result in results if result is not None]
        classes = list(known[0]["iou"]) if known else []
        values = {name: mean_of_known([result["iou"][name] for result in known]) for name in classes}
        return {
            "official": {
                rule: mean_of_known([result["official"][rule]["miou"] for result in known])
                for rule in OFFICIAL
                if known
            },
            "accuracy": [None if result is None else result["accuracy"] for result in results],
            "by_class": {"metric": "IoU", "unit": "%", "values": values},
        }
