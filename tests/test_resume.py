"""`kill -9` at any moment, `--resume`, and the weights are those of the run that was never interrupted, byte for byte.

The loop itself is killed in `tests/engine/test_resume.py`; here it is the whole program, on files of a dataset.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import builders.commands
from builders.nuscenes import build_nuscenes
from builders.recipes import SCENES, tiny_pretraining, tiny_segmentation, write_recipe

STEPS = 8
COMMANDS = ("pretrain", "segment")
# Drawn once: before the first checkpoint, inside the second epoch, between two checkpoints. Checkpoints are at 3, 6, 8.
DEATHS = {"pretrain": (2, 5, 7, "weights.safetensors"), "segment": (3, 4, 8, "results.json")}
CASES = [(command, death) for command in COMMANDS for death in DEATHS[command]]


def _name(command: str, death: object) -> str:
    return f"{command}-{death}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs: pretraining, fine-tuning from the whole one of it, uninterrupted and killed and resumed."""
    out = tmp_path_factory.mktemp("runs")
    data = build_nuscenes(tmp_path_factory.mktemp("sound"), SCENES, 4, points=150, boxes=0)
    train = {"epochs": 4, "batch_size": 2, "workers": 0, "save_every": 3, "log_every": 1, "tensorboard": False}
    shared: dict[str, Any] = {"out": str(out), "train": train}
    recipes = {
        "pretrain": write_recipe(out / "pretrain.yaml", tiny_pretraining(data, **shared)),
        "segment": write_recipe(
            out / "segment.yaml", tiny_segmentation(data, **shared, weights=str(out / _name("pretrain", "whole")))
        ),
    }

    def words(command: str, death: object, *options: str) -> list[str]:
        return [command, recipes[command], f"name={_name(command, death)}", *options]

    whole = [{"words": words(command, "whole")} for command in COMMANDS]
    killed = [{"words": words(command, death), "die": death} for command, death in CASES]
    resumed = [{"words": words(command, death, "--resume")} for command, death in CASES]
    done = subprocess.run(
        [sys.executable, builders.commands.__file__, json.dumps(whole + killed + resumed)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout.splitlines()[-1])
    assert codes == [0] * len(whole) + [-9] * len(killed) + [0] * len(resumed), done.stderr
    return out


@pytest.mark.parametrize(("command", "death"), CASES)
def test_killed_and_resumed_command_leaves_the_same_bytes(runs: Path, command: str, death: object) -> None:
    whole, resumed = (runs / _name(command, name) / "weights.safetensors" for name in ("whole", death))
    assert resumed.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(("command", "death"), CASES)
def test_its_metrics_have_every_step_once(runs: Path, command: str, death: object) -> None:
    whole, resumed = (
        [json.loads(line) for line in (runs / _name(command, name) / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", death)
    )
    assert [line["step"] for line in resumed] == list(range(1, STEPS + 1))
    assert [line["losses"] for line in resumed] == [line["losses"] for line in whole]


@pytest.mark.parametrize("death", DEATHS["segment"])
def test_its_scores_are_the_same(runs: Path, death: object) -> None:
    whole, resumed = (
        json.loads((runs / _name("segment", name) / "results.json").read_text()) for name in ("whole", death)
    )
    assert {**resumed, "name": ""} == {**whole, "name": ""}


@pytest.mark.parametrize(("command", "death"), CASES)
def test_no_temporary_file_stays_behind(runs: Path, command: str, death: object) -> None:
    whole, resumed = (
        {str(path.relative_to(folder)) for path in folder.rglob("*")}
        for folder in (runs / _name(command, name) for name in ("whole", death))
    )
    assert resumed == whole
