"""What a scored segmentation has to show: its score, its classes, and what was taken for what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from olivine.drawing.links import view_of
from olivine.drawing.report import Picture, Section
from olivine.segmentation.results import headline, rescored
from olivine.visualize.explored import explored


def segmentation_sections(folder: Path, results: dict[str, Any]) -> list[Section]:
    """The parts of a report.

    Args:
        folder: a run of `olivine segment`, or one of its evaluations.
        results: what it scored.
    """
    results = rescored(results)
    sections = [Section("Score", [headline(results)], note=True), _classes(results), _rules(results)]
    picture = folder / "confusion.png"
    if picture.exists():
        said = "Share of the points of each true class (rows) that was predicted as each class (columns), in percent."
        shown = [Picture(picture.read_bytes(), said, view_of([("color", "agreement")]))]
        sections.append(Section("What was taken for what", pictures=shown, wide=True, explored=explored(folder)))
    return sections


def _classes(results: dict[str, Any]) -> Section:
    rows = [["class", "IoU, %", "points", "predicted"]]
    rows += [
        [name.replace("_", " "), _percent(value), f"{results['points'][name]:,}", f"{results['predicted'][name]:,}"]
        for name, value in results["iou"].items()
    ]
    return Section("Class by class", ["–: no labelled points, and not in the mean."], rows)


def _rules(results: dict[str, Any]) -> Section:
    """The mean by each rule, and what else is counted."""
    rows = [["score", "%", "over classes"]]
    rows += [["mIoU", _percent(results["miou"]), str(len(results["miou_classes"]))]]
    rows += [
        [f"mIoU by {rule}", _percent(score["miou"]), str(score["classes"])]
        for rule, score in results["official"].items()
    ]
    rows += [["frequency-weighted IoU", _percent(results["frequency_weighted_iou"]), ""]]
    rows += [["accuracy", _percent(results["accuracy"]), ""]]
    return Section("By other rules", table=rows)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
