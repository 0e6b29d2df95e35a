"""The report: one HTML file that says everything and needs nothing beside it."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from builders.recipes import tiny_data, tiny_pretraining, tiny_segmentation, write_recipe
from olivine.compare import CompareConfig, Comparison, compare
from olivine.config import validate
from olivine.visualize import report as report_module
from olivine.visualize.figures import curves
from olivine.visualize.report import Picture, Section, comparison_sections, read_metrics, write_report


class Page(HTMLParser):
    """What is in a page: its text, its links to other files, its pictures; and whether every tag is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text, self.links, self.pictures = "", [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)
        for name, value in attrs:
            if name == "src" and value and value.startswith("data:image/png;base64,"):
                self.pictures.append(base64.b64decode(value.partition(",")[2], validate=True))
            elif name in ("src", "href"):
                self.links.append(value)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("comparison")
    data = tiny_data(folder / "data")
    method = write_recipe(folder / "method.yaml", tiny_pretraining(data))
    segmentation = {"recipe": write_recipe(folder / "segmentation.yaml", tiny_segmentation(data))}
    tree = {
        "name": "both",
        "out": str(folder),
        "seeds": [7, 10],
        "arms": {"scratch": None, "olivine": {"recipe": method}},
        "protocols": {"finetune": segmentation, "probe": {**segmentation, "overrides": ["mode=probe"]}},
    }
    return compare(validate(CompareConfig, tree, "test"))


def test_the_report_of_a_comparison_is_complete(finished: Comparison, tmp_path: Path) -> None:
    sections = comparison_sections(finished.path)
    assert [section.title for section in sections] == [
        "Result",
        "Pretraining",
        "Class by class",
        "Downstream training",
    ]
    page = Page(write_report(tmp_path / "report.html", "A comparison", sections))
    for scores in finished.miou.values():
        for values in scores.values():
            assert f"{sum(values) / 2:.1f}  ({values[0]:.1f}, {values[1]:.1f})" in page.text
    assert len(page.pictures) == 3 + 2 + 2
    for picture in page.pictures:
        Image.open(io.BytesIO(picture)).verify()


def test_curves_and_bars_are_of_the_runs_they_name(finished: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {}
    monkeypatch.setattr(report_module, "curves", lambda series, title, unit: drawn.update({title: series}) or b"")
    monkeypatch.setattr(report_module, "bars", lambda names, values, title, unit: drawn.update({title: values}) or b"")
    comparison_sections(finished.path)
    pretraining = read_metrics(finished.path / "pretrain-olivine")
    for term in ("loss_ppkt", "loss_sup", "loss_vmf"):
        steps, losses = drawn[f"olivine: {term}"][term]
        assert steps == [line["step"] for line in pretraining] == [1, 2]
        assert losses == [line["losses"][term] for line in pretraining]
    first = read_metrics(finished.path / "scratch-probe-seed7")
    assert drawn["probe: training loss"]["scratch"] == ([1, 2], [line["losses"]["loss"] for line in first])
    runs = [finished.path / f"olivine-finetune-seed{seed}" for seed in (7, 10)]
    iou = [json.loads((run / "results.json").read_text())["iou"] for run in runs]
    for shown, name in zip(drawn["finetune"]["olivine"], iou[0], strict=True):
        known = [seed[name] for seed in iou if seed[name] is not None]
        assert math.isnan(shown) if not known else shown == pytest.approx(sum(known) / len(known))


def test_a_report_refers_to_nothing_outside_itself(tmp_path: Path) -> None:
    picture = Picture(curves({"a": ([1, 2], [2.0, 1.0])}, "t", "u"), "a picture")
    sections = [Section("One", ["text"], [["head", "er"], ["a", "b"]], [picture], "key: value", note=True)]
    path = write_report(tmp_path / "deep" / "report.html", "Title", sections)
    page = Page(path)
    assert page.links == []
    assert page.pictures == [picture.data]
    assert not re.search(r"https?://|@import|url\(|<script|<link", path.read_text(encoding="utf-8"))
    assert [path.name for path in path.parent.iterdir()] == ["report.html"]


def test_what_is_written_is_text_and_not_markup(tmp_path: Path) -> None:
    nasty = '<b a="1">&amp;'
    section = Section(nasty, [nasty], [[nasty], [nasty]], [Picture(b"", nasty)], nasty)
    page = Page(write_report(tmp_path / "report.html", nasty, [section]))
    assert page.text.count(nasty) == 8
    assert "b" not in page.open


def test_a_run_without_metrics_has_none(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
