"""The report of a scored run, of whatever task: what it scored, on what, and what it made of some frames."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from olivine.drawing.report import Section, write_report
from olivine.errors import MissingExtraError, UserError
from olivine.visualize.detections import detection_sections
from olivine.visualize.segmented import segmentation_sections

SECTIONS: dict[str, Callable[[Path, dict[str, Any]], list[Section]]] = {
    "segmentation, per point": segmentation_sections,
    "detection": detection_sections,
}
"""What there is to show of a folder and its results, by the `task` of their protocol."""


def report_run(folder: Path) -> Path:
    """Write `report.html` of a scored run.

    Args:
        folder: a run of `olivine segment` or `olivine detect`, or one of its evaluations.

    Returns:
        The report.

    Raises:
        MissingExtraError: matplotlib is not installed.
        UserError: this is no scored run, or a file of it or of its data cannot be read.
    """
    results = _results(folder)
    task = _task(results)
    if task not in SECTIONS:
        raise UserError(f"{folder}: not the folder of a scored run; there is nothing to report")
    protocol = Section("Protocol", listing=json.dumps(results["protocol"], indent=2, ensure_ascii=False), folded=True)
    return write_report(folder / "report.html", results["name"], [*SECTIONS[task](folder, results), protocol])


def report_if_scored(folder: Path) -> str | None:
    """Write the report of a folder, if it is one of a scored run.

    Returns:
        What came of it, in a line; None for another folder.

    Raises:
        UserError: a file of the run or of its data cannot be read.
    """
    try:
        if _task(_results(folder)) not in SECTIONS:
            return None
    except UserError:
        return None
    try:
        return f"report: {report_run(folder)}"
    except MissingExtraError as error:
        return f"no report: {error}"


def _results(folder: Path) -> dict[str, Any]:
    """The results in a folder."""
    path = folder / "results.json"
    path = path if path.exists() else folder / "evaluation.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not the folder of a scored run ({error})") from error


def _task(results: dict[str, Any]) -> str:
    protocol = results.get("protocol")
    return str(protocol.get("task")) if isinstance(protocol, dict) else ""
