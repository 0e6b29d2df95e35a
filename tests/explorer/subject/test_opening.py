from __future__ import annotations

import shutil

import pytest

from olivine.errors import UserError
from olivine.explorer.subject.opening import open_subject


def scenes(subject):
    return [subject.dataset.scene(index) for index in range(len(subject.dataset))]


def test_a_folder_is_shown_whole_and_a_run_on_what_it_was_scored_on_or_learned_from(root, monkeypatch):
    monkeypatch.chdir(root)
    whole = open_subject([root / "datasets" / "street"])
    assert (scenes(whole), whole.runs) == (["scene-0061"] * 2 + ["scene-0103"] * 2, ())
    assert scenes(open_subject([root / "runs" / "segmenter"])) == ["scene-0103"] * 2
    assert scenes(open_subject([root / "runs" / "pretraining"])) == ["scene-0061"] * 2
    assert scenes(open_subject([root / "runs" / "segmenter"], split="scene-0061,scene-0103")) == scenes(whole)


@pytest.mark.parametrize("split", ["", ","])
def test_no_frames_at_all_are_refused(root, split):
    with pytest.raises(UserError, match="--split: split: name a split or at least one scene"):
        open_subject([root / "datasets" / "street"], split=split)


def test_the_paths_of_a_run_are_found_from_anywhere(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert scenes(open_subject([root / "runs" / "segmenter"])) == ["scene-0103"] * 2


def test_several_runs_are_shown_on_the_first_ones_frames_under_names_that_differ(root, tmp_path):
    other = shutil.copytree(root / "runs" / "segmenter", tmp_path / "segmenter")
    subject = open_subject([root / "runs" / "pretraining", root / "runs" / "segmenter", other])
    assert [run.name for run in subject.runs] == ["pretraining", "segmenter", "segmenter (2)"]
    assert scenes(subject) == ["scene-0061"] * 2
    assert subject.title == "nuscenes · pretraining · 2 more"


def test_weights_alone_are_shown_on_a_folder_that_is_named(root, tmp_path):
    weights = shutil.copytree(root / "runs" / "segmenter", tmp_path / "weights")
    (weights / "config.yaml").unlink()
    for path in (weights, weights / "weights.safetensors"):
        assert len(open_subject([path, root / "datasets" / "street"]).runs) == 1
        with pytest.raises(UserError, match="name a dataset's folder, too"):
            open_subject([path])


def test_of_a_comparison_the_runs_that_have_begun_are_shown(root, tmp_path):
    folder = shutil.copytree(root / "runs", tmp_path / "runs")
    (folder / "compare.yaml").write_text("arms: {}")
    for name in ("queued", "training"):
        shutil.copytree(folder / "segmenter", folder / name)
        (folder / name / "weights.safetensors").unlink()
    (folder / "training" / "checkpoints").mkdir()
    (folder / "training" / "checkpoints" / "last.pt").write_bytes(b"")
    (folder / "latest").symlink_to("segmenter")
    subject = open_subject([folder, root / "datasets" / "street"])
    assert [(run.name, run.training) for run in subject.runs] == [
        ("pretraining", False), ("segmenter", False), ("training", True),
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"neither weights\.safetensors nor a checkpoint yet"):
        open_subject([folder / "queued"])
    (folder / "training" / "checkpoints" / "last.pt").unlink()
    for name in ("pretraining", "segmenter"):
        (folder / name / "weights.safetensors").unlink()
    with pytest.raises(UserError, match="no run of this comparison has a checkpoint yet"):
        open_subject([folder])


def test_what_cannot_be_shown_is_refused(root, tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        open_subject([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="neither a run nor a dataset"):
        open_subject([tmp_path])
    with pytest.raises(UserError, match="a second dataset"):
        open_subject([root / "datasets" / "street", tmp_path])
