from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from builders.segmenter import segmenter
from olivine.cli.program import app
from olivine.errors import UserError
from olivine.explorer.mistakes import report
from olivine.explorer.mistakes.closeup import SIZE_PX, closeup
from olivine.explorer.mistakes.clusters import clusters
from olivine.explorer.mistakes.confusion import Confusion
from olivine.explorer.mistakes.report import write_mistakes
from olivine.explorer.mistakes.survey import Survey
from olivine.explorer.stage import Stage
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import open_subject
from olivine.explorer.view import View, command


@pytest.fixture(scope="module")
def stage(root, tmp_path_factory):
    folder, runs = tmp_path_factory.mktemp("arms"), []
    for seed, name in ((4, "one"), (2, "other")):  # the first takes most points for cars, some of which are
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            runs.append(segmenter(folder / name))
    return Stage(Moments(open_subject([root / "datasets" / "street", *runs, root / "runs" / "pretraining"])))


def test_the_page_and_the_json_say_where_the_network_is_wrong_and_which_is_better(stage, tmp_path):
    written = write_mistakes(stage, View(against="other"), tmp_path / "new" / "out", "olivine explore here")
    assert {path.name for path in written} >= {"mistakes.json", "mistakes.html"}
    found = json.loads((tmp_path / "new" / "out" / "mistakes.json").read_text())
    network = stage.moments.networks["one"]
    table = Confusion(stage.moments, network)
    for place, each in Survey(stage.moments, [network], table.look):
        table.add(place, each)
    assert found["confusion"]["counts"] == table.counts.tolist()
    assert (found["coverage"]["labelled_frames"], found["labels"]) == (4, "true")
    assert [cell["points"] for cell in found["cells"]] == [cell.points for cell in table.cells()]
    cell = found["cells"][0]
    frame = cell["frames"][0]
    assert frame["token"] == stage.moments.dataset.token(frame["frame"])
    for each, color in (
        (cell["clusters"][0], "agreement"),
        (found["versus"]["right_alone"]["first"]["clusters"][0], "versus"),
    ):
        view = View.of(each["view"])
        assert (view.frame, view.color, view.network) == (each["frame"], color, "one")
        assert view.target == pytest.approx(each["center_m"], abs=0.01)
        assert stage.show(view).trouble == ""
    points = np.array([list(row.values()) for row in found["versus"]["points"].values()])
    np.testing.assert_array_equal(points.sum(axis=1), table.counts.sum(axis=1))
    page = (tmp_path / "new" / "out" / "mistakes.html").read_text()
    assert page.count("<img") >= 10
    assert "olivine explore here --view" in page
    assert re.search(r"\?frame=\d&amp;color=agreement&amp;network=one&amp;eye=", page)


def test_what_would_come_to_nothing_is_refused_before_all_frames_are_gone_through(stage, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "gone_through", None)
    (tmp_path / "file").touch()
    wrong = [
        (View(), "file", "a folder is wanted here, and this is a file"),
        (View(), "file/below", "a folder is wanted here, and this is a file"),
        (View(network="nobody"), "out", "network=nobody: there is no such run here; there is one, other, pretraining"),
        (View(against="nobody"), "out", "against=nobody: there is no such run"),
        (View(against="pretraining"), "out", "pretraining: this network predicts no classes"),
    ]
    for view, out, said in wrong:
        with pytest.raises(UserError, match=said):
            write_mistakes(stage, view, tmp_path / out)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(UserError, match="nothing may be written to this folder"):
        write_mistakes(stage, View(), tmp_path / "out" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_pretraining_that_is_named_first_judges_nothing(root):
    runs = root / "runs"
    several = Stage(Moments(open_subject([runs / "pretraining", runs / "segmenter"])))
    assert report.judge(several, View()).run.name == "segmenter"
    assert report.judge(several, View(network="pretraining")).run.name == "pretraining"


def test_a_cluster_is_drawn_in_the_scene_and_on_an_image_that_shows_it(stage):
    moment = stage.moments[0]
    seen = np.unique(moment.pairs.point)
    unseen = np.setdiff1d(np.arange(len(moment.frame.points_lidar_m)), seen)
    for row, abreast in ((seen[0], True), (unseen[0], False)):
        group = np.full(len(moment.frame.points_lidar_m), -1)
        group[row] = 0
        ((_, cluster),) = clusters(0, moment.frame.points_lidar_m, group, np.ones(len(group)), 1)
        drawn = closeup(stage, cluster, View(color="truth"))
        assert drawn.shape[0] == SIZE_PX[1]
        assert (drawn.shape[1] > SIZE_PX[0]) == abreast


def test_what_cannot_be_written_is_said(stage, root, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="predicts no classes"):
        write_mistakes(stage, View(network="pretraining"), tmp_path)
    bare = Stage(Moments(open_subject([root / "datasets" / "street"])))
    with pytest.raises(UserError, match="name a run of `olivine segment`"):
        write_mistakes(bare, View(), tmp_path)
    monkeypatch.setattr(Confusion, "look", lambda *_: (_ for _ in ()).throw(UserError("no such file")))
    with pytest.raises(UserError, match=r"no frame has labels .*no such file"):
        write_mistakes(stage, View(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_them(root, tmp_path):
    things = [str(root / "datasets" / "street"), str(root / "runs" / "segmenter")]
    said = CliRunner().invoke(app, ["explore", *things, "--mistakes", str(tmp_path / "out"), "--json"])
    assert said.exit_code == 0, said.output
    assert str(tmp_path / "out" / "mistakes.html") in json.loads(said.stdout)


def test_the_command_that_opens_a_view_is_safe_to_paste(tmp_path):
    said = command([tmp_path / "a b"], View(frame=3, color="truth"), split="val")
    assert said == f"olivine explore '{tmp_path}/a b' --split val --view 'frame=3&color=truth'"
    assert command([tmp_path]) == f"olivine explore {tmp_path}"
