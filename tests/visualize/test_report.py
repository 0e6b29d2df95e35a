"""The report: one HTML file that says everything and needs nothing beside it."""

from __future__ import annotations

import re
from pathlib import Path

from builders.pages import Page
from olivine.drawing.figures import curves
from olivine.drawing.report import Picture, Section, write_report


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


def test_a_folded_listing_is_there_and_closed(tmp_path: Path) -> None:
    sections = [Section("Settings", listing="key: <value>", folded=True), Section("Plain", listing="open")]
    text = write_report(tmp_path / "report.html", "t", sections).read_text(encoding="utf-8")
    assert "<details><summary>Show</summary><pre>key: &lt;value&gt;</pre></details>" in text
    assert "<pre>open</pre>" in text
    assert text.count("<details") == 1
