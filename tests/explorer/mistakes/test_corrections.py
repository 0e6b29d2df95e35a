"""Labels put right by marks: laid over the dataset they are read as such, and nothing else has changed."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from builders.folder import CLASSES, build_folder
from builders.semantickitti import build_semantickitti
from olivine.cli import main
from olivine.data.datasets import SplitConfig
from olivine.data.folder import FolderConfig
from olivine.data.nuscenes import NuScenesConfig
from olivine.data.semantickitti import SemanticKittiConfig
from olivine.errors import UserError
from olivine.explorer.mistakes.corrections import write_corrected
from olivine.explorer.mistakes.marks import Mark, Marks, stretches

ALL = SplitConfig(split="all")


def marked(dataset, place, given, better, path, count=5, others=None):
    """Marks of the first points of a class in a frame; returns their rows."""
    frame = dataset[place]
    rows = np.flatnonzero(frame.labels == dataset.classes.names.index(given) + 1)[:count]
    words = {"dataset": dataset.name, "token": frame.token, "given": given, "proposed": given, "label": "wrong"}
    Marks(path).add(Mark(**{**words, "rows": stretches(rows), "better": better} | (others or {})))
    return rows


def number(dataset, name):
    return dataset.classes.names.index(name) + 1


def of_folder(root):
    (root / "classes.yaml").write_text(CLASSES)
    return FolderConfig(root=root, classes=root / "classes.yaml")


LAYOUTS = {
    "nuscenes": (None, lambda root: NuScenesConfig(root=root, version="v1.0-mini"), ("car", "truck")),
    "semantickitti": (build_semantickitti, lambda root: SemanticKittiConfig(root=root), ("road", "car")),
    "folder": (build_folder, of_folder, ("pallet", "forklift")),
}


@pytest.mark.parametrize(("build", "config", "classes"), LAYOUTS.values(), ids=LAYOUTS)
def test_labels_go_round_through_the_dataset_that_they_are_laid_over(root, tmp_path, build, config, classes):
    folder, out, path = tmp_path / "data", tmp_path / "out", tmp_path / "marks.json"
    shutil.copytree(root / "datasets" / "street", folder) if build is None else build(folder)
    dataset, (given, better) = config(folder).open(ALL), classes
    place = next(place for place in range(len(dataset)) if (dataset[place].labels == number(dataset, given)).sum() > 8)
    expected = [dataset[each].labels.copy() for each in range(len(dataset))]
    source = dataset.label_path(place)
    numbers = np.uint8 if source.suffix == ".bin" else np.uint32
    before = np.fromfile(source, numbers)
    if numbers is np.uint32:  # instances, which stay
        before |= np.arange(len(before), dtype=np.uint32) % 7 << 16
        source.write_bytes(before.tobytes())
    rows = marked(dataset, place, given, better, path)
    expected[place][rows] = number(dataset, better)
    done = write_corrected(dataset, Marks(path), out)
    assert (done.frames, done.things, done.points, done.passed_over) == (1, 1, 5, {})
    written = [file for file in out.rglob("*") if file.is_file()]
    assert len(written) == 2
    shutil.copytree(out, folder, dirs_exist_ok=True)
    again = config(folder).open(ALL)
    for each, labels in enumerate(expected):
        np.testing.assert_array_equal(again[each].labels, labels)
    after = np.fromfile(source, numbers)
    assert (after != before).sum() == 5
    assert np.array_equal(after.astype(np.uint32) >> 16, before.astype(np.uint32) >> 16)
    assert Marks(out / "marks.json").all() == Marks(path).all()


@pytest.fixture
def street(root):
    return NuScenesConfig(root=root / "datasets" / "street", version="v1.0-mini").open(ALL)


def test_marks_that_say_nothing_of_these_labels_are_counted(street, tmp_path):
    path = tmp_path / "marks.json"
    marked(street, 0, "car", "truck", path, others={"label": "right"})
    marked(street, 1, "car", "", path)
    marked(street, 0, "car", "truck", path, others={"dataset": "alley"})
    marked(street, 0, "car", "truck", path, others={"token": "nowhere"})
    marked(street, 2, "car", "truck", path, others={"given": "bus"})
    rows = marked(street, 3, "car", "truck", path)
    done = write_corrected(street, Marks(path), tmp_path / "out")
    assert sorted(done.passed_over.values()) == [1, 1, 1, 1, 1]
    assert (done.things, done.points) == (1, len(rows))
    assert "1 labels put right in 1 frames, 5 points" in str(done)
    assert "1 marks are of points that are labelled otherwise by now" in str(done)


def test_a_label_file_of_numpy_stays_one(tmp_path):
    folder, path = build_folder(tmp_path / "data"), tmp_path / "marks.json"
    for file in list((folder / "labels").rglob("*.label")):
        np.save(file.with_suffix(".npy"), np.fromfile(file, np.uint32).astype(np.int16))
        file.unlink()
    dataset = of_folder(folder).open(ALL)
    rows = marked(dataset, 0, "pallet", "forklift", path)
    write_corrected(dataset, Marks(path), tmp_path / "out")
    (written,) = (tmp_path / "out").rglob("*.npy")
    values = np.load(written)
    assert values.dtype == np.int16
    assert (values[np.flatnonzero(dataset[0].returns)[rows]] == 2).all()


REFUSED = {
    "an unknown class": ({"better": "unicorn"}, "a mark names the class 'unicorn'; there are barrier"),
    "a point too many": ({"rows": ((0, 10**6),)}, "a mark names point 1000000 of frame .*made with other data"),
}


@pytest.mark.parametrize(("wrong", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_followed_is_refused_before_anything_is_written(street, tmp_path, wrong, said):
    path, out = tmp_path / "marks.json", tmp_path / "out"
    marked(street, 0, "car", "truck", path)
    marked(street, 1, "car", "truck", path, others=wrong)
    with pytest.raises(UserError, match=said):
        write_corrected(street, Marks(path), out)
    assert not out.exists()


def test_no_marks_and_a_folder_that_is_in_use_are_refused(street, tmp_path):
    with pytest.raises(UserError, match=r"marks\.json: no marks; mark label errors in the explorer first"):
        write_corrected(street, Marks(tmp_path / "marks.json"), tmp_path / "out")
    marked(street, 0, "car", "truck", tmp_path / "marks.json")
    with pytest.raises(UserError, match="new or empty"):
        write_corrected(street, Marks(tmp_path / "marks.json"), tmp_path)


def test_the_command_writes_them_and_says_so(root, street, tmp_path, capsys):
    marked(street, 0, "car", "truck", tmp_path / "marks.json")
    words = ["explore", str(root / "datasets" / "street"), "--marks", str(tmp_path / "marks.json")]
    assert main([*words, "--corrected", str(tmp_path / "out"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["frames"], said["things"], said["points"]) == (1, 1, 5)
    for more in (["--snapshot", str(tmp_path / "y")], ["--view", "frame=1"], ["--out", str(tmp_path / "y")]):
        assert main([*words, "--corrected", str(tmp_path / "x"), *more]) == 2
        assert "--corrected writes labels and nothing else" in capsys.readouterr().err
