"""The benchmark of label errors: what it plants, and how it counts what is found."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from builders.segmenter import segmenter
from olivine.cli import main
from olivine.data.datasets import recognise
from olivine.data.splits import SplitConfig
from olivine.explorer.mistakes import label_errors
from olivine.explorer.mistakes.marks import stretches
from olivine.simulate import SimulateConfig, simulate
from olivine.simulate.sensors import LidarConfig

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "label_errors.py"


def run(*words, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *map(str, words)])
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world") / "clean"
    config = SimulateConfig(scenes=1, keyframes_per_scene=2, image_size=(64, 36), lidar=LidarConfig(columns=240))
    simulate(root, config)
    return root


def frames(root):
    (config,) = recognise(root)
    dataset = config.open(SplitConfig(split="all"))
    return {frame.token: frame for frame in map(dataset.__getitem__, range(len(dataset)))}, dataset.classes.names


def test_objects_get_another_class_and_nothing_else_changes(world, tmp_path, capsys):
    dirty = tmp_path / "dirty"
    said = run("plant", world, dirty, "share=0.4", "points=5", capsys=capsys)
    planted = json.loads((dirty / "planted.json").read_text())
    assert f"{len(planted['planted'])} of {planted['objects']} objects in 2 frames" in said
    assert 0.2 < len(planted["planted"]) / planted["objects"] < 0.6
    (before, names), (after, _) = frames(world), frames(dirty)
    changed = {token: np.zeros(len(frame.labels), bool) for token, frame in before.items()}
    for each in planted["planted"]:
        rows = np.array(each["rows"])
        assert len(rows) >= 5
        assert {names[label - 1] for label in before[each["token"]].labels[rows]} == {each["true"]}
        assert {names[label - 1] for label in after[each["token"]].labels[rows]} == {each["given"]}
        assert each["true"] != each["given"]
        changed[each["token"]][rows] = True
    for token, rows in changed.items():
        np.testing.assert_array_equal(before[token].labels != after[token].labels, rows)
    run("plant", world, tmp_path / "again", "share=0.4", "points=5", capsys=capsys)
    assert (tmp_path / "again" / "planted.json").read_bytes() == (dirty / "planted.json").read_bytes()


def test_a_list_is_scored_by_whose_points_its_entries_have(world, tmp_path, capsys):
    run("plant", world, tmp_path / "dirty", "share=0.4", "points=5", capsys=capsys)
    planted = json.loads((tmp_path / "dirty" / "planted.json").read_text())["planted"]

    def entry(each, rows, proposed):
        return {"token": each["token"], "rows": stretches(np.array(rows)), "proposed": proposed}

    first, second = planted[:2]
    entries = [
        entry(first, first["rows"], first["true"]),
        entry(first, first["rows"][:3], "something else"),  # a part of it: right, nothing new, another class
        entry(second, [10**6, 10**6 + 9], second["true"]),  # none of its points
        entry(second, [*second["rows"], *range(10**6, 10**6 + len(second["rows"]))], second["true"]),  # half of it
    ]
    (tmp_path / "list.json").write_text(json.dumps({"label_errors": entries}))
    table = run("score", tmp_path / "dirty", tmp_path / "list.json", capsys=capsys)
    assert f"{len(planted)} planted, 4 listed" in table
    assert f"| 4 | 0.75 | {2 / len(planted):.2f} | 0.67 |" in table
    elsewhere = run("score", tmp_path / "dirty", tmp_path / "list.json", "scenes=scene-0009", capsys=capsys)
    assert "| 4 | 0.00 | 0.00 | 0.00 |" in elsewhere


def test_what_the_command_writes_can_be_scored(world, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(label_errors, "PICTURED", 1)
    run("plant", world, tmp_path / "dirty", "share=0.4", "points=5", capsys=capsys)
    things = [str(segmenter(tmp_path / "run")), str(tmp_path / "dirty")]
    assert main(["explore", *things, "--label-errors", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    table = run("score", tmp_path / "dirty", tmp_path / "out" / "label_errors.json", capsys=capsys)
    assert "| first | precision | recall | proposed class right |" in table
