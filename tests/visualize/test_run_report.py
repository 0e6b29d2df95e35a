"""Every scored run of a comparison has its report, whatever was scored; that of the comparison shows what was found."""

from __future__ import annotations

import html
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.kitti_detection import tiny_detection, tiny_kitti
from builders.pages import Page
from builders.recipes import tiny_data, tiny_segmentation, write_recipe
from olivine.cli import main
from olivine.compare import CompareConfig, Comparison, compare
from olivine.compare.reports import write_run_report
from olivine.config import validate
from olivine.data.frame import Boxes
from olivine.data.kitti_labels import read_objects
from olivine.errors import UserError
from olivine.explorer.subject.opening import open_subject
from olivine.explorer.view import View
from olivine.visualize import detections
from olivine.visualize.comparison import comparison_sections
from olivine.visualize.explored import explored
from olivine.visualize.run_report import report_if_scored, report_run

SHORT = {"epochs": 1, "max_steps": 1, "batch_size": 3, "workers": 0, "tensorboard": False}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Two arms, both from scratch, of a detector that keeps twenty boxes however unsure it is."""
    folder = tmp_path_factory.mktemp("comparison")
    tree = tiny_detection(tiny_kitti(folder / "data"), kind="detect", train=SHORT, sampling=None, pictures=1)
    tree["detector"]["selection"] = {"score_threshold": 0.0, "keep": 20}
    recipe = write_recipe(folder / "detector.yaml", tree)
    settings = {
        "name": "two",
        "out": str(folder),
        "seeds": [0],
        "arms": {"one": None, "other": None},
        "protocols": {"few": {"recipe": recipe}},
    }
    return compare(validate(CompareConfig, settings, "test"))


def test_each_run_of_a_comparison_of_detectors_has_its_report(finished: Comparison) -> None:
    for arm in ("one", "other"):
        page = Page(finished.path / f"{arm}-few-seed0" / "report.html")
        assert "Precision over recall" in page.text
        assert "Frame 000008: 0 found, 11 labelled" in page.text
        assert '"task": "detection"' in page.text
        assert len(page.pictures) == 4  # two metrics' curves; the frame's image, and the frame from above
        leads_to(finished.path / f"{arm}-few-seed0" / "report.html", "000008")


def leads_to(report: Path, token: str) -> None:
    """The command and the address below the report's pictures of a frame show that frame."""
    text = html.unescape(report.read_text())
    words = [shlex.split(line) for line in re.findall("<code>(olivine explore [^<]*)</code>", text)]
    assert len(words) == 2
    for _, _, *things, option, view in words:
        assert option == "--view"
        dataset = open_subject([Path(thing) for thing in things]).dataset
        assert dataset.token(View.of(view).frame) == token
        assert f'href="http://127.0.0.1:8090/?{view}"' in text


def test_the_report_of_the_comparison_has_tables_by_class_and_what_each_arm_found(
    finished: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[dict[str, Boxes]] = []
    box_pictures = detections.box_pictures
    monkeypatch.setattr(detections, "SHOWN_SCORE", 0.0)
    monkeypatch.setattr(detections, "box_pictures", lambda *given: drawn.append(given[1]) or box_pictures(*given))
    sections = {section.title: section for section in comparison_sections(finished.path)}
    results = json.loads((finished.path / "one-few-seed0" / "results.json").read_text())
    for title, metric in (("AP 3d R40: few", "3d"), ("AP bev R40: few", "bev")):
        head, first, *rest = sections[title].table
        assert head == [f"AP {metric} R40, %", "one", "other"]
        assert first[:2] == ["Car, easy", f"{results['kitti']['strict'][metric]['R40']['Car']['easy']:.1f}"]
        assert len(rest) == 8
    assert "AP 3d R40, loose overlaps: few" in sections
    (boxes,) = drawn
    assert list(boxes) == ["labelled", "one", "other"]
    assert len(boxes["labelled"].names) == 11
    for arm in ("one", "other"):
        found = read_objects(finished.path / f"{arm}-few-seed0" / "predictions" / "000008.txt", scored=True)
        assert boxes[arm].names == found.names
        np.testing.assert_allclose(boxes[arm].boxes[:, 3:6], found.size_hwl_m[:, ::-1])
    frames = sections["Frames: few, first seed"]
    assert len(frames.pictures) == 4  # an image of each, and all from above
    assert [path.name for path in frames.explored] == ["one-few-seed0", "other-few-seed0"]
    assert {View.of(picture.view) for picture in frames.pictures} == {View(frame=0, beside=("all",))}


def test_a_report_that_cannot_be_made_is_said_and_stops_nothing(
    finished: Comparison, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    source = finished.path / "one-few-seed0"
    (run / "results.json").write_bytes((source / "results.json").read_bytes())
    (run / "config.yaml").write_bytes((source / "config.yaml").read_bytes())
    with caplog.at_level("INFO", "olivine"):
        write_run_report(run)
    assert "no report of run: " in caplog.text
    assert "000008.txt" in caplog.text


def test_a_segmentation_is_reported_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tiny_data(tmp_path / "data")
    recipe = write_recipe(tmp_path / "r.yaml", tiny_segmentation(data))
    assert main(["segment", recipe, "train.max_steps=1"]) == 0
    run = tmp_path / "runs" / "segmented"
    assert f"report: {run / 'report.html'}" in capsys.readouterr().err
    results: dict[str, Any] = json.loads((run / "results.json").read_text())
    page = Page(run / "report.html")
    assert f"mIoU {results['miou']:.2f} %" in page.text
    for name, value in results["iou"].items():
        assert f"{name.replace('_', ' ')}{'–' if value is None else f'{value:.2f}'}" in page.text
    assert page.pictures == [(run / "confusion.png").read_bytes()]
    assert main(["evaluate", str(run)]) == 0
    assert (run / "evaluations" / "1" / "report.html").exists()
    for folder in (run, run / "evaluations" / "1"):
        assert f"olivine explore {run} --view color=agreement" in (folder / "report.html").read_text()
    config = run / "evaluations" / "1" / "config.yaml"
    assert explored(config.parent) == (run,)
    config.write_text(config.read_text().replace("val_split:", "val_split: {split: other}\nother:"))
    assert explored(config.parent) == ()  # other frames, counted otherwise


def test_what_is_no_scored_run_has_no_report(tmp_path: Path) -> None:
    assert report_if_scored(tmp_path) is None
    with pytest.raises(UserError, match="not the folder of a scored run"):
        report_run(tmp_path)
    (tmp_path / "results.json").write_text('{"name": "x", "protocol": {"task": "counting"}}')
    assert report_if_scored(tmp_path) is None
    with pytest.raises(UserError, match="there is nothing to report"):
        report_run(tmp_path)
