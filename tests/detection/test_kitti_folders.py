"""Scoring folders of text files: which frames, what is refused, and the command."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olivine.cli import main
from olivine.data.splits import kitti_object_frames
from olivine.detection.kitti import score_folders
from olivine.errors import OlivineWarning, UserError

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`label_2` and `results` of 90 frames."""
    with zipfile.ZipFile(GOLDEN / "kitti_ap_files.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path


def run(folder: Path, *more: str) -> int:
    return main(["evaluate", "--detections", str(folder / "results"), "--labels", str(folder / "label_2"), *more])


def complaint(folder: Path, frames: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        score_folders(folder / "results", folder / "label_2", frames)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def listed(folder: Path, *names: str) -> Path:
    (folder / "some.txt").write_text("".join(f"{name}\r\n" for name in names))
    return folder / "some.txt"


def test_the_command_prints_one_json_object(folder: Path, capsys: Any) -> None:
    assert run(folder, "--json") == 0
    said = capsys.readouterr()
    assert said.err == ""
    (line,) = said.out.splitlines()
    scores = json.loads(line)
    with np.load(GOLDEN / "kitti_ap_expected.npz") as expected:
        assert scores["strict"]["3d"]["R40"]["Car"]["moderate"] == pytest.approx(expected["3d_R40"][0, 1, 0])
        assert scores["loose"]["aos"]["R11"]["Cyclist"]["hard"] == pytest.approx(expected["aos_R11"][2, 2, 1])
    assert scores["protocol"]["frames"] == 90


def test_the_command_prints_a_table_for_people(folder: Path, capsys: Any) -> None:
    assert run(folder) == 0
    shown = capsys.readouterr().out
    assert "Cyclist     3d         0.50" in shown
    assert shown.splitlines()[-1].startswith("AP 3d R40, moderate, strict overlaps: Car 25.57, Pedestrian 24.79")


def test_a_list_chooses_frames_and_files_of_others_do_not_matter(folder: Path, capsys: Any) -> None:
    frames = listed(folder, *(f"{frame:06d}" for frame in range(40)))
    (folder / "results" / "000080.txt").write_text("no detection\n")
    (folder / "label_2" / "000070.txt").unlink()
    assert run(folder, "--frames", str(frames), "--json") == 0
    protocol = json.loads(capsys.readouterr().out)["protocol"]
    assert (protocol["frames"], protocol["split"]) == (40, "some")


@pytest.mark.parametrize("with_list", [False, True])
def test_a_frame_without_detections_needs_an_empty_file(folder: Path, with_list: bool) -> None:
    frames = listed(folder, *(f"{frame:06d}" for frame in range(90))) if with_list else None
    for name in ("000003", "000004"):
        (folder / "results" / f"{name}.txt").unlink()
    message = complaint(folder, frames)
    assert message.startswith(f"{folder / 'results' / '000003.txt'}: no detections for this frame")
    assert "write an empty file where nothing was found" in message
    assert "(1 more are missing)" in message
    for name in ("000003", "000004"):
        (folder / "results" / f"{name}.txt").touch()
    assert score_folders(folder / "results", folder / "label_2", frames).frames == 90


@pytest.mark.parametrize("with_list", [False, True])
def test_a_frame_without_labels_is_refused(folder: Path, with_list: bool) -> None:
    frames = listed(folder, "000003", "000004") if with_list else None
    (folder / "label_2" / "000003.txt").unlink()
    message = complaint(folder, frames)
    assert message.startswith(f"{folder / 'label_2' / '000003.txt'}: no labels for this frame")
    assert ("--frames" in message) != with_list


def test_an_official_split_is_taken_by_its_name(folder: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(folder, "--frames", "val") == 2
    assert "no detections for this frame of val" in capsys.readouterr().err
    for name in kitti_object_frames("val"):
        for part in ("label_2", "results"):
            (folder / part / f"{name}.txt").touch()
    scores = score_folders(folder / "results", folder / "label_2", Path("val"))
    assert (scores.frames, scores.split) == (3769, "KITTI's val")
    (tmp_path / "val").write_text("000003\n")
    assert score_folders(folder / "results", folder / "label_2", Path("val")).frames == 1


def test_a_bad_line_is_named(folder: Path, capsys: Any) -> None:
    (folder / "results" / "000003.txt").write_text("Car -1 -1 0 1 2 3 4 1 1 1 0 0 9 0\n")
    assert run(folder) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith(f"olivine: {folder / 'results' / '000003.txt'}: line 1 has no score")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no frame"),
        ("000003\n000003\n", "twice"),
        ("../label_2/000003\n", "not below"),
        (None, "cannot read"),
    ],
)
def test_a_list_that_names_no_frames_is_refused(folder: Path, text: str | None, said: str) -> None:
    frames = folder / "list.txt"
    if text is not None:
        frames.write_text(text)
    message = complaint(folder, frames)
    assert message.startswith(f"{frames}: ")
    assert said in message


def test_folders_that_hold_nothing_are_refused(folder: Path) -> None:
    (folder / "none").mkdir()
    for where, said in ((folder / "missing", "no such folder"), (folder / "none", "holds no text file")):
        with pytest.raises(UserError, match=said):
            score_folders(where, folder / "label_2")
        with pytest.raises(UserError, match=said):
            score_folders(folder / "results", where)


def test_detections_without_image_boxes_are_warned_of(folder: Path) -> None:
    for path in (folder / "results").glob("*.txt"):
        words = [line.split() for line in path.read_text().splitlines()]
        path.write_text("".join(f"{' '.join([*line[:4], '0 0 0 0', *line[8:]])}\n" for line in words))
    with pytest.warns(OlivineWarning, match="no detection is 25 px high"):
        score_folders(folder / "results", folder / "label_2")


@pytest.mark.parametrize("words", [[], ["run", "--detections", "here", "--labels", "there"], ["--labels", "there"]])
def test_the_command_takes_a_run_or_two_folders(words: list[str], capsys: Any) -> None:
    assert main(["evaluate", *words]) == 2
    assert "a run folder, or --detections and --labels" in capsys.readouterr().err


def test_the_command_scores_classes_by_a_file_of_rules(folder: Path, capsys: Any) -> None:
    for path in [*(folder / "label_2").iterdir(), *(folder / "results").iterdir()]:
        path.write_text(path.read_text().replace("Car ", "Wagon "))
    words = ["evaluate", "--detections", str(folder / "results"), "--labels", str(folder / "label_2"), "--json"]
    rules = folder / "rules.yaml"
    rules.write_text("Wagon: {strict: 0.7, loose: 0.5, neutral: Van}\nCyclist:\n")
    assert main([*words, "--rules", str(rules)]) == 0
    assert list(json.loads(capsys.readouterr().out)["strict"]["3d"]["R40"]) == ["Wagon", "Cyclist"]
    for text, said in (
        ("[]", "must map each class"),
        ("Wagon:", "does not score Wagon"),
        ("Bus: {strict: 2}", "Bus."),
    ):
        rules.write_text(text)
        assert main([*words, "--rules", str(rules)]) == 2
        line = capsys.readouterr().err
        assert line.startswith(f"olivine: {rules}: ")
        assert said in line
