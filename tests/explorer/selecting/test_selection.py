from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest

from builders.folder import build_folder
from builders.semantickitti import build_semantickitti
from olivine.cli import main
from olivine.data.folder import FolderConfig
from olivine.data.nuscenes import NuScenesConfig
from olivine.data.semantickitti import SemanticKittiConfig
from olivine.data.splits import SplitConfig
from olivine.errors import UserError
from olivine.explorer.selecting.labelling import Labelling, encoded, places_of
from olivine.explorer.selecting.selection import (
    Selection,
    Selector,
    class_set,
    read_selections,
    selection_of,
    selections_text,
    with_selection,
)
from olivine.explorer.selecting.similarity import Query, of_points
from olivine.explorer.stage import Stage
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import open_subject
from olivine.explorer.view import View

ALL = SplitConfig(split="all")


@pytest.fixture(scope="module")
def moments(root):
    return Moments(open_subject([root / "datasets" / "street", root / "runs" / "segmenter"]))


@pytest.fixture(scope="module")
def network(moments):
    return moments.networks["segmenter"]


@pytest.fixture(scope="module")
def chosen(moments, network):
    """A class of the dataset and one of its own, of a car and of the point that is most like it, so that they meet."""
    frame, answer = moments[0].frame, moments[0].answer(network)
    car = moments.dataset.classes.names.index("car") + 1
    row = int(np.flatnonzero(answer.inside & (frame.labels == car))[0])
    like = of_points(answer, "features", answer.features[row] / np.linalg.norm(answer.features[row]))
    like[row] = -1
    thresholds = [round(float(np.quantile(like[answer.inside], share)), 2) for share in (0.7, 0.9)]
    return (
        Selection("kerb", Query(0, row=row), "features", max(thresholds[0], 0.01), "segmenter"),
        Selection(
            "driveable surface", Query(0, row=int(like.argmax())), "features", max(thresholds[1], 0.01), "segmenter"
        ),
    )


def expected(moments, network, selection, place):
    answer = moments[place].answer(network)
    source = moments[selection.query.frame].answer(network).features[selection.query.row]
    to = source / np.linalg.norm(source)
    return answer.inside & (of_points(answer, "features", to) >= selection.threshold)


def test_a_selection_is_read_as_it_is_written():
    selection = Selection("curb & co", Query(3, camera=1, uv=(2.5, 4.0)), "point", 0.25, "a run", "truth",
                          frozenset({"car", "a=b"}))  # fmt: skip
    assert Selection.parse(str(selection)) == selection
    view = View(select=(str(selection), str(replace(selection, name="x"))))
    assert View.of(view.address()) == view


@pytest.mark.parametrize("text", ["", "name=x", "name=x&query=point:1:2&level=point&threshold=a&network=n"])
def test_what_is_no_selection_is_refused(text):
    with pytest.raises(UserError, match="select="):
        Selection.parse(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": " "}, "give it the name of a class"),
        ({"name": "a\nb"}, "give it the name of a class"),
        ({"threshold": 0.0}, "above 0"),
        ({"threshold": 1.5}, "up to 1"),
    ],
)
def test_a_selection_needs_a_name_and_a_threshold(chosen, change, said):
    with pytest.raises(UserError, match=said):
        replace(chosen[0], **change).checked()


def test_what_is_alike_enough_and_visible_is_selected(moments, network, chosen):
    selector = Selector(moments, [chosen[0]])
    for place in range(3):
        np.testing.assert_array_equal(selector.rows(moments[place], 0), expected(moments, network, chosen[0], place))
    truth = moments[0].frame.labels
    cars = truth == moments.dataset.classes.names.index("car") + 1
    filtered = replace(chosen[0], threshold=0.01, color="truth", hidden=frozenset({"car"}))
    without = Selector(moments, [filtered]).rows(moments[0], 0)
    every = Selector(moments, [replace(filtered, hidden=frozenset())]).rows(moments[0], 0)
    assert (every & cars).any()
    np.testing.assert_array_equal(without, every & ~cars)


def test_of_several_the_last_counts_and_those_of_one_name_are_one_class(moments, network, chosen):
    first, second = (expected(moments, network, each, 0) for each in chosen)
    assert (first & second).any()
    selector = Selector(moments, chosen)
    combined = selector(moments[0])
    assert selector.names == ("kerb", "driveable_surface")
    np.testing.assert_array_equal(combined.classes, np.where(second, 2, np.where(first, 1, 0)))
    np.testing.assert_array_equal(combined.points, [first.sum(), second.sum()])
    assert combined.conflicts == (first & second).sum()
    same = Selector(moments, (chosen[0], replace(chosen[1], name="Kerb")))(moments[0])
    np.testing.assert_array_equal(same.classes, first | second)
    assert same.conflicts == 0


def test_classes_of_the_dataset_keep_their_numbers_and_others_get_free_ones(moments):
    known = moments.dataset.classes
    classes = class_set(("kerb", "car", "pole"), known)
    assert classes.train_to_raw.tolist() == [0, 32, 17, 33]  # 0…31 are lidarseg's
    np.testing.assert_array_equal(classes.colors[2], known.colors[known.names.index("car") + 1])
    assert len(np.unique(classes.colors, axis=0)) == 4
    everything = replace(known, raw_to_train=np.ones(65536, np.uint8), ignored=None)
    everything.raw_to_train[40:] = 0
    assert class_set(("kerb",), everything).train_to_raw.tolist() == [40, 41]


def test_a_view_shows_what_is_selected_and_its_selection_is_that_of_its_query(moments, network, chosen):
    stage = Stage(moments)
    shown = stage.show(View(color="selections", select=tuple(map(str, chosen)), frame=1))
    assert shown.trouble == ""
    assert [line.name for line in shown.coloring.legend] == ["kerb", "driveable surface", "not selected"]
    combined = Selector(moments, chosen)(moments[1])
    none, *each = np.bincount(combined.classes, minlength=3)
    assert shown.coloring.counts().tolist() == [*each, none]
    hidden = frozenset({"car"})
    compared = stage.show(
        View(color="similarity", query=str(chosen[0].query), threshold=chosen[0].threshold, hidden=hidden)
    )
    assert selection_of(compared.view, compared.moment, network, "kerb") == chosen[0]
    filtered = stage.show(replace(compared.view, color="truth"))
    assert selection_of(filtered.view, filtered.moment, network, "kerb") == replace(
        chosen[0], color="truth", hidden=hidden
    )
    assert "nothing is selected yet" in stage.show(View(color="selections")).trouble
    with pytest.raises(UserError, match="nothing to compare with yet"):
        selection_of(View(), moments[0], network, "kerb")
    versus = replace(compared.view, color="versus", hidden=frozenset({"both right"}))
    with pytest.raises(UserError, match="choose other colours"):
        selection_of(versus, moments[0], network, "kerb")


def test_no_more_is_selected_than_goes_into_an_address(chosen):
    view = with_selection(with_selection(View(color="truth"), chosen[0]), chosen[1])
    assert with_selection(view, chosen[0]) == View(color="selections", select=(str(chosen[1]), str(chosen[0])))
    for number in range(28):
        view = with_selection(view, replace(chosen[0], name=f"kerb {number}"))
    assert len(View.of(view.address()).select) == 30
    with pytest.raises(UserError, match="there are 30 selections"):
        with_selection(view, replace(chosen[0], name="pole"))
    with pytest.raises(UserError, match="into the view's address"):
        with_selection(View(select=view.select[:20]), replace(chosen[0], hidden=frozenset({"ü" * 600})))


def test_a_file_of_selections_is_read_back_and_finds_its_frame_in_another_split(root, moments, chosen, tmp_path):
    path = tmp_path / "selections.yaml"
    later = [replace(each, query=replace(each.query, frame=2)) for each in chosen]
    path.write_text(selections_text(moments, later))
    read = read_selections(path, moments)
    assert [replace(each, name="") for each in read] == [replace(each, name="") for each in later]
    assert selections_text(moments, read) == path.read_text()
    part = Moments(open_subject([root / "datasets" / "street", root / "runs" / "segmenter"], "scene-0103,"))
    assert [each.query.frame for each in read_selections(path, part)] == [0, 0]
    other = Moments(open_subject([root / "datasets" / "street", root / "runs" / "segmenter"], "scene-0061,"))
    with pytest.raises(UserError, match="the frame sample-1-0 of kerb is not opened"):
        read_selections(path, other)


def test_a_file_knows_its_run_by_its_weights(root, moments, chosen, tmp_path):
    path = tmp_path / "selections.yaml"
    path.write_text(selections_text(moments, chosen))
    moved = shutil.copytree(root / "runs" / "segmenter", tmp_path / "renamed")
    again = Moments(open_subject([root / "datasets" / "street", moved]))
    assert {each.network for each in read_selections(path, again)} == {"renamed"}
    pretraining = Moments(open_subject([root / "datasets" / "street", root / "runs" / "pretraining"]))
    with pytest.raises(UserError, match="are of no run that is opened; open the run segmenter"):
        read_selections(path, pretraining)
    with pytest.raises(UserError, match="there is no network 'segmenter' here"):
        Selector(pretraining, chosen)


@pytest.mark.parametrize("text", ["", "selections: []", "selections: [{name: x}]", "a: [", "selections: [3]", "hi"])
def test_a_damaged_file_of_selections_is_named(moments, tmp_path, text):
    path = tmp_path / "selections.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"selections\.yaml") as raised:
        read_selections(path, moments)
    assert "_SelectionFile" not in str(raised.value)


def test_labels_go_round_through_the_dataset_that_they_are_laid_over(root, moments, chosen, tmp_path):
    out, told = tmp_path / "labels", []
    done = Labelling(moments, chosen, out).run(lambda found: told.append(found.written))
    assert (done.written, done.kept, done.failed, told) == (4, 0, 0, [1, 2, 3, 4])
    laid = shutil.copytree(root / "datasets" / "street", tmp_path / "laid")
    shutil.copytree(out, laid, dirs_exist_ok=True)
    dataset = NuScenesConfig(root=laid, version="v1.0-mini", classes=out / "classes.yaml").open(ALL)
    assert dataset.classes.names == ("kerb", "driveable_surface")
    selector = Selector(moments, chosen)
    for place in range(4):
        np.testing.assert_array_equal(dataset[place].labels, selector(moments[place]).classes)
        assert dataset[place].label_fault is None
    assert sum(done.selected.values()) == sum((dataset[place].labels > 0).sum() for place in range(4))
    categories = {row["name"]: row["index"] for row in json.loads((out / "v1.0-mini" / "category.json").read_text())}
    assert categories["kerb"] == 32
    assert categories["vehicle.car"] == 17
    assert (out / "selections.yaml").read_text() == selections_text(moments, chosen)


def test_a_folder_of_the_same_labels_is_gone_on_with_and_any_other_is_refused(moments, chosen, tmp_path):
    out = tmp_path / "labels"
    assert Labelling(moments, chosen, out, [1]).run().written == 1
    assert len(json.loads((out / "v1.0-mini" / "lidarseg.json").read_text())) == 1
    whole = Labelling(moments, chosen, out).run()
    assert (whole.written, whole.kept) == (3, 1)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert Labelling(moments, chosen, out).run().written == 0
    for other in (chosen[:1], chosen[::-1], [replace(chosen[0], threshold=0.999), chosen[1]]):
        with pytest.raises(UserError, match="made by other selections"):
            Labelling(moments, other, out).run()
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="choose an empty folder"):
        Labelling(moments, chosen, tmp_path / "full").run()
    with pytest.raises(UserError, match="nothing is selected yet"):
        Labelling(moments, (), tmp_path / "none")


def test_two_visitors_cannot_write_to_one_folder_at_once_and_one_can_stop(moments, chosen, tmp_path):
    out, inside, go = tmp_path / "labels", threading.Event(), threading.Event()
    first = Labelling(moments, chosen, out)

    def tell(_):
        inside.set()
        go.wait(10)

    thread = threading.Thread(target=first.run, args=(tell,))
    thread.start()
    assert inside.wait(10)
    with pytest.raises(UserError, match="are just being written"):
        Labelling(moments, chosen, out).run()
    first.stop()
    go.set()
    thread.join(10)
    rest = Labelling(moments, chosen, out).run()
    assert (rest.written, rest.kept) == (3, 1)


def test_a_frame_that_cannot_be_read_is_passed_over_and_a_full_disk_ends_it(moments, chosen, tmp_path, monkeypatch):
    path = moments.dataset.sweep_path(2)
    hidden = path.rename(path.with_suffix(".gone"))
    try:
        done = Labelling(moments, chosen, tmp_path / "labels").run()
    finally:
        hidden.rename(path)
    assert (done.written, done.failed, done.troubles[0][0]) == (3, 1, 2)
    listed = json.loads((tmp_path / "labels" / "v1.0-mini" / "lidarseg.json").read_text())
    assert len(listed) == 3

    def full(*_, **__):
        raise UserError("disk full")

    monkeypatch.setattr("olivine.explorer.selecting.labelling.write_bytes", full)
    with pytest.raises(UserError, match="disk full"):
        Labelling(moments, chosen, tmp_path / "others").run()


def test_the_command_writes_the_bytes_that_the_browser_does(root, moments, chosen, tmp_path, capsys):
    Labelling(moments, chosen, tmp_path / "browser", places_of(moments, "scene-0103")).run()
    words = ["explore", str(root / "datasets" / "street"), str(root / "runs" / "segmenter")]
    asked = ["--select", str(tmp_path / "browser" / "selections.yaml"), "--frames", "scene-0103", "--json"]
    assert main([*words, *asked, "--out", str(tmp_path / "command")]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == 2
    files = [{path.relative_to(tmp_path / who): path.read_bytes() for path in (tmp_path / who).rglob("*")
              if path.is_file()} for who in ("browser", "command")]  # fmt: skip
    assert files[0] == files[1]
    assert len(files[0]) == 6
    assert main([*words, *asked, "--frames", "scene-9", "--out", str(tmp_path / "x")]) != 0
    assert "there is no scene or frame 'scene-9' here" in capsys.readouterr().err


def test_options_that_would_be_passed_over_are_refused(root, tmp_path, capsys):
    words = ["explore", str(root / "datasets" / "street"), "--snapshot", str(tmp_path / "pictures")]
    assert main([*words, "--select", "selections.yaml", "--out", str(tmp_path / "labels")]) == 2
    assert "--out is for labels and nothing else; ask for pictures" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "labels")]) == 2
    assert "--out is for a folder of labels; ask for pictures" in capsys.readouterr().err
    assert main([*words, "--frames", "scene-0103"]) == 2
    assert "--frames says which frames are labelled, and needs --select and --out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_labels_of_other_layouts_are_read_by_their_datasets(root, tmp_path):
    kitti, own = build_semantickitti(tmp_path / "kitti"), build_folder(tmp_path / "own")
    shutil.rmtree(own / "labels")  # no labels are there that mean something else
    for folder, config in ((kitti, SemanticKittiConfig), (own, FolderConfig)):
        moments = Moments(open_subject([folder, root / "runs" / "segmenter"]))
        row = np.flatnonzero(moments[0].answer(moments.networks["segmenter"]).inside)[5]
        chosen = Selection("kerb", Query(0, row=int(row)), "features", 0.9, "segmenter")
        out = tmp_path / f"{folder.name}-labels"
        done = Labelling(moments, [chosen], out).run()
        assert done.written == len(moments)
        shutil.copytree(out, folder, dirs_exist_ok=True)
        again = config(root=folder, classes=out / "classes.yaml").open(ALL)
        assert again.classes.names == ("kerb",)
        for place in range(len(again)):
            np.testing.assert_array_equal(again[place].labels, Selector(moments, [chosen])(moments[place]).classes)
        assert done.selected["kerb"] > 0


def test_a_label_that_is_no_byte_is_no_lidarseg(tmp_path):
    assert encoded(np.array([1, 255], np.uint16), tmp_path / "a.bin") == b"\x01\xff"
    with pytest.raises(UserError, match="a class has number 256"):
        encoded(np.array([256], np.uint16), tmp_path / "a.bin")
