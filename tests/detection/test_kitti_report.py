"""KITTI's scores as parts of a report."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builders.kitti_scenes import objects
from olivine.detection.kitti import KittiScores, average_precision
from olivine.detection.kitti.report import draw_curves, sections
from olivine.drawing.precision_recall import precision_recall
from olivine.drawing.report import write_report

pytest.importorskip("matplotlib")


@pytest.fixture
def scores() -> KittiScores:
    truth = [objects(["Car", "Car"])] * 30
    found = [objects(["Car", "Car", "Cyclist"], score=[0.2 + frame / 100, 0.7, 0.9]) for frame in range(30)]
    return average_precision(truth, found, split="val")


def test_a_report_shows_tables_and_curves(scores: KittiScores, tmp_path: Path) -> None:
    page = write_report(tmp_path / "report.html", "Detection", sections(scores)).read_text(encoding="utf-8")
    assert scores.headline() in page
    assert page.count("<img ") == 2
    assert "<td>3d</td><td>0.70</td><td>100.00</td>" in page
    assert "–" in page


def test_curves_differ_where_scores_do(scores: KittiScores) -> None:
    pictures = [draw_curves(scores, metric, overlaps) for metric in ("3d", "bbox") for overlaps in ("strict", "loose")]
    assert len(set(pictures)) == 4
    width, height = Image.open(io.BytesIO(pictures[0])).size
    assert width > 2 * height > 400


def test_the_area_under_a_curve_is_what_is_drawn() -> None:
    """Of a step at recall 0.5 everything to the left is filled, up to its precision."""
    recall = np.arange(41) / 40
    drawn = [
        np.asarray(Image.open(io.BytesIO(precision_recall({"": {"curve": (recall, curve)}}, ""))).convert("L"), float)
        for curve in (np.zeros(41), np.where(recall <= 0.5, 0.8, 0.0), np.full(41, np.nan))
    ]
    step = np.abs(drawn[1] - drawn[2]) > 40
    flat = np.abs(drawn[0] - drawn[2]) > 40
    rows, columns = np.nonzero(step & ~flat)
    reach = np.ptp(np.nonzero(flat)[1])
    assert np.ptp(columns) == pytest.approx(reach / 2, rel=0.03)
    assert np.ptp(rows) > 100
