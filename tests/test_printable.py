"""Names from other people's data are shown, not obeyed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from olivine.checking.check import CheckReport
from olivine.cli import main
from olivine.compare.results import Comparison
from olivine.drawing.report import Section, write_report
from olivine.engine.run import RunFolder
from olivine.errors import UserError, printable

HOSTILE = "scene\x1b[2J\x1b]0;owned\x07\r\n| 99.9 |\u202e\udcff<script>"
OBEYED = ("\x1b", "\x07", "\r", "\u202e", "\udcff")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Straße 東京 é·κ", "Straße 東京 é·κ"),
        ("a\x1b[31m", "a\\x1b[31m"),
        ("a\nb\tc\\d", "a\\nb\\tc\\d"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("\u202e\u2028\ufeff", "\\u202e\\u2028\\ufeff"),
        ("\udcff", "\\udcff"),
    ],
)
def test_only_what_shows_as_itself_is_left(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable("a\nb", lines=True) == "a\nb"


def test_no_exit_of_the_program_passes_escape_sequences(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def examined() -> dict[str, str]:
        logging.getLogger("olivine").info("drew %s", HOSTILE)
        return {"said": HOSTILE}

    def refused() -> dict[str, str]:
        raise UserError(HOSTILE)

    for examine, status in ((examined, 0), (refused, 2)):
        monkeypatch.setattr("olivine.doctor.examine", examine)
        assert main(["doctor"]) == status
        said = capsys.readouterr()
        assert "\\x1b[2J" in said.out + said.err
        assert not any(mark in said.out + said.err for mark in OBEYED)


def test_the_log_of_a_run_shows_names(tmp_path: Path) -> None:
    RunFolder(tmp_path).log(HOSTILE)
    assert not any(mark in (tmp_path / "log.txt").read_bytes().decode() for mark in OBEYED)


def test_a_problem_is_one_line_of_a_report() -> None:
    lines = str(CheckReport(1, {HOSTILE: 3}, [HOSTILE])).splitlines()
    assert len(lines) == 4
    assert not any(mark in line for line in lines for mark in OBEYED)


def test_a_name_can_neither_end_its_cell_nor_its_line(tmp_path: Path) -> None:
    comparison = Comparison(tmp_path, {"a|b": {HOSTILE: [1.0]}}, {HOSTILE: {"recipe": "r"}}, (0,))
    table = [line for line in comparison.markdown().splitlines() if line.startswith("|")]
    assert len(table) == 3
    assert all(line.replace("\\|", "").count("|") == 3 for line in table)


def test_a_report_shows_markup(tmp_path: Path) -> None:
    sections = [Section(HOSTILE, [HOSTILE], [[HOSTILE], [HOSTILE]], listing=HOSTILE)]
    page = write_report(tmp_path / "report.html", HOSTILE, sections).read_text(encoding="utf-8")
    assert "<script>" not in page
    assert not any(mark in page for mark in OBEYED)
