"""Likely label errors without a browser: what is written for programs and for people."""

from __future__ import annotations

import json

import pytest

from builders.doubting import doubt
from olivine.cli import main
from olivine.errors import UserError
from olivine.explorer.mistakes import label_errors
from olivine.explorer.mistakes.label_errors import write_label_errors
from olivine.explorer.mistakes.marks import Mark, marks_of, stretches
from olivine.explorer.mistakes.survey import Survey
from olivine.explorer.mistakes.suspects import LabelErrors
from olivine.explorer.stage import Stage
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import Run, Subject, open_subject
from olivine.explorer.view import View


@pytest.fixture(scope="module")
def moments(root):
    return Moments(open_subject([root / "datasets" / "street", root / "runs" / "segmenter"]))


@pytest.fixture
def stage(moments, tmp_path):
    return Stage(moments, marks=tmp_path / "marks.json")


@pytest.fixture(autouse=True)
def doubting(monkeypatch):
    doubt(monkeypatch)
    monkeypatch.setattr(label_errors, "PICTURED", 2)


def ranked(stage):
    network = stage.moments.networks["segmenter"]
    table = LabelErrors(stage.moments, network)
    for place, found in Survey(stage.moments, [network], table.look):
        table.add(place, found)
    return table.ranked()


def test_the_json_has_what_was_ranked_and_the_views_that_show_it(stage, tmp_path):
    suspects, out = ranked(stage), tmp_path / "new" / "out"
    first, dataset = suspects[0].candidate, stage.moments.dataset
    given = dataset.classes.names[first.given - 1]
    said = {"dataset": "nuscenes", "given": given, "proposed": "bus", "label": "right", "time": "2026-01-02T03:04:05Z"}
    stage.marks.add(Mark(token=dataset.token(first.cluster.frame), rows=stretches(first.rows), **said))
    json_path, page_path = write_label_errors(stage, View(), out, "olivine explore here")
    found = json.loads(json_path.read_text())
    assert (found["open"], found["network"]) == ("olivine explore here", "segmenter")
    assert found["coverage"] == {"frames": 4, "unreadable_frames": 0}
    entries = found["label_errors"]
    assert len(entries) == len(suspects) > 2
    names = dataset.classes.names
    for place, (entry, suspect) in enumerate(zip(entries, suspects, strict=True)):
        thing = suspect.candidate
        assert (entry["rank"], entry["frame"], entry["points"]) == (place + 1, thing.cluster.frame, len(thing.rows))
        assert (entry["given"], entry["proposed"]) == (names[thing.given - 1], names[suspect.proposed - 1])
        assert [row for start, end in entry["rows"] for row in range(start, end + 1)] == thing.rows.tolist()
        assert sum(entry["masks"].values()) == thing.masks.sum()
        assert all(count > 0 for count in entry["masks"].values())
        assert entry["score"] == pytest.approx(suspect.score, abs=1e-4)
        view = View.of(entry["view"])
        assert (view.frame, view.color) == (entry["frame"], "truth")
        assert view.target == pytest.approx(entry["centre_m"], abs=0.01)
    assert entries[0]["mark"] == {"label": "right", "better": "", "time": "2026-01-02T03:04:05Z"}
    assert entries[1]["mark"] is None
    page = page_path.read_text()
    assert page.count("<img") == 2
    assert "The label was marked right." in page
    assert 'src="http' not in page


def test_names_with_markup_in_them_are_only_shown(stage, tmp_path, monkeypatch):
    dataset = stage.moments.dataset
    monkeypatch.setattr(type(dataset), "scene", lambda *_: "<script>alert(1)</script>")
    _, page = write_label_errors(stage, View(), tmp_path)
    assert "<script>" not in page.read_text()


def test_what_has_nothing_to_doubt_or_nobody_who_doubts_is_refused(stage, root, tmp_path, monkeypatch):
    bare = Stage(Moments(open_subject([root / "datasets" / "street"])))
    with pytest.raises(UserError, match="name a run of `olivine segment`"):
        write_label_errors(bare, View(), tmp_path)
    monkeypatch.setattr(type(stage.moments.dataset), "label_path", lambda *_: None)
    with pytest.raises(UserError, match="no frame has labels to doubt"):
        write_label_errors(stage, View(), tmp_path)
    assert not any(tmp_path.iterdir())


def test_marks_are_beside_the_weights_unless_another_file_is_named(stage, tmp_path):
    dataset, weights = stage.moments.dataset, tmp_path / "net.safetensors"
    weights.touch()
    run = Run("run", tmp_path / "run")
    run.path.mkdir()
    assert marks_of(Subject(dataset, (run,))).path == tmp_path / "run" / "marks.json"
    assert marks_of(Subject(dataset, (Run("net", weights), run))).path == tmp_path / "marks.json"
    assert str(marks_of(Subject(dataset)).path) == "marks.json"
    assert marks_of(Subject(dataset, (run,)), tmp_path / "own.json").path == tmp_path / "own.json"


def test_the_command_writes_both_and_says_so(root, tmp_path, capsys):
    (tmp_path / "own.json").write_text("no marks")
    words = ["explore", str(root / "runs" / "segmenter"), "--label-errors", str(tmp_path / "out"), "--json"]
    assert main([*words, "--marks", str(tmp_path / "own.json")]) == 2
    assert "own.json: no file of marks" in capsys.readouterr().err
    assert main(words) == 0
    names = ("label_errors.json", "label_errors.html")
    assert json.loads(capsys.readouterr().out) == [str(tmp_path / "out" / name) for name in names]
