"""A run that has nothing to learn from stops with the reason, and writes no weights: all methods, and segmentation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from builders.nuscenes import CAMERAS
from builders.recipes import tiny_data, tiny_pretraining, tiny_segmentation, write_recipe
from builders.training import TinyTask, tiny_run
from olivine.cli import main
from olivine.engine.checkpoint import Checkpoint
from olivine.engine.taught import EMPTY_STEPS, LEARNED_FROM, Taught
from olivine.errors import UserError

ELSEWHERE = {"name": "cartesian", "size_m": [4.0, 4.0, 2.0], "bounds_m": [500, 500, 500, 600, 600, 600]}
TEACHER = {"teacher": {"name": "random"}, "feature_dim": 8}
IMAGE_TAUGHT: dict[str, dict[str, Any]] = {
    "olivine": {**TEACHER, "pairs": 64, "vmf": {"warmup_fraction": 0.5}},
    "ppkt": {**TEACHER, "pairs": 64},
    "scalr": {"teacher": {"name": "random"}},
    "slidr": TEACHER,
}
METHODS: dict[str, dict[str, Any]] = {
    **IMAGE_TAUGHT,
    "pointcontrast": {"feature_dim": 8},
    "depthcontrast": {"feature_dim": 8, "embedding_dim": 4, "queue": 8},
    "strl": {"feature_dim": 8, "hidden_dim": 8, "projection_dim": 4, "batch_norm": False},
    "deepcluster": {"feature_dim": 8, "clusters": 2, "components": 4},
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tiny_data(tmp_path_factory.mktemp("sound") / "data")
    superpixels = root.parent / "superpixels"
    for image in (root / "samples").rglob("*.jpg"):
        path = superpixels / image.parent.name / f"{image.stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(image) as opened:
            width, height = opened.size
        Image.fromarray((np.indices((height, width)).sum(0) // 8).astype(np.uint16)).save(path)
    about = {"kind": "segments", "labeller": "test", "classes": [], "unknown": 65535}
    (superpixels / "manifest.json").write_text(json.dumps(about))
    return root


def recipe(data: Path, out: Path, method: str, **changes: Any) -> str:
    tree = tiny_pretraining(data, out=str(out), method={"name": method, **METHODS[method]}, **changes)
    if method == "slidr":
        tree["data"] = {**tree["data"], "superpixels": str(data.parent / "superpixels")}
    return write_recipe(out.parent / f"{method}.yaml", tree)


def stopped(words: list[str], run: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must stop without weights; returns its one line."""
    assert main(words) == 2
    line = [line for line in capsys.readouterr().err.splitlines() if line.startswith("olivine: ")]
    assert len(line) == 1
    assert not (run / "weights.safetensors").exists()
    assert main([*words, "--resume"]) == 2
    assert not (run / "weights.safetensors").exists()
    capsys.readouterr()
    return line[0]


@pytest.mark.parametrize("method", METHODS)
def test_a_grid_that_holds_no_point_stops_every_method(
    method: str, sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pretrain", recipe(sound, tmp_path / "runs", method, voxels=ELSEWHERE)]
    assert "no voxels inside the grid" in stopped(words, tmp_path / "runs" / "pretrained", capsys)


@pytest.fixture(scope="module")
def blind(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cameras so far above that no point is before them."""
    root = tmp_path_factory.mktemp("blind") / "data"
    shutil.copytree(sound.parent, root.parent, dirs_exist_ok=True)
    table = root / "v1.0-mini" / "calibrated_sensor.json"
    rows = json.loads(table.read_text())
    for row in rows:
        if row["camera_intrinsic"]:
            row["translation"] = [0, 0, 500.0]
    table.write_text(json.dumps(rows))
    return root


@pytest.mark.parametrize("method", IMAGE_TAUGHT)
def test_images_in_which_no_point_falls_stop_every_method_that_they_teach(
    method: str, blind: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pretrain", recipe(blind, tmp_path / "runs", method)]
    what = "superpixels with points" if method == "slidr" else "point-pixel pairs"
    assert f"2 steps in a row had no {what}" in stopped(words, tmp_path / "runs" / "pretrained", capsys)


def spoil(data: Path, folder: Path, change: Callable[[Path], None], pattern: str) -> Path:
    root = folder / "data"
    shutil.copytree(data, root)
    for path in root.glob(pattern):
        change(path)
    return root


def unknown(mask: Path) -> None:
    with Image.open(mask) as opened:
        Image.fromarray(np.full(opened.size[::-1], 255, np.uint8)).save(mask)


def test_masks_that_know_nothing_stop_olivine_and_not_ppkt(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = spoil(sound, tmp_path, unknown, "camseg/CAM_*/*.png")
    words = ["pretrain", recipe(data, tmp_path / "runs", "olivine")]
    line = stopped(words, tmp_path / "runs" / "pretrained", capsys)
    assert "had no pairs with a known weak label to learn from" in line
    assert main([*words, "name=ppkt", "method.supervised=false"]) == 0
    assert (tmp_path / "runs" / "ppkt" / "weights.safetensors").exists()
    assert len({path.parent.name for path in (data / "camseg").glob("*/*.png")}) == len(CAMERAS)


def ignored(labels: Path) -> None:
    labels.write_bytes(bytes(labels.stat().st_size))


@pytest.mark.parametrize("mode", ["finetune", "probe"])
@pytest.mark.parametrize("where", ["labels", "grid"])
def test_segmentation_stops_without_labels_and_without_voxels(
    where: str, mode: str, sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = spoil(sound, tmp_path, ignored, "lidarseg/*/*.bin") if where == "labels" else sound
    changes = {"voxels": ELSEWHERE} if where == "grid" else {}
    settings = tiny_segmentation(data, out=str(tmp_path / "runs"), mode=mode, **changes)
    line = stopped(["segment", write_recipe(tmp_path / "s.yaml", settings)], tmp_path / "runs" / "segmented", capsys)
    assert ("no labelled voxels" if where == "labels" else "no voxels inside the grid") in line


class Starving(TinyTask):
    """A task that has nothing to learn from in some steps."""

    def __init__(self, empty: range) -> None:
        super().__init__(noisy=False)
        self.empty = empty

    def forward(self, batch: Any) -> dict[str, torch.Tensor]:
        step = self.progress[-1][0]
        return {**super().forward(batch), LEARNED_FROM + "food": torch.tensor(float(step not in self.empty))}


TRAIN = {"epochs": 10, "batch_size": 8, "save_every": 1, "log_every": 1, "tensorboard": False}  # 30 steps
SETTINGS = {"noisy": False, "train": TRAIN}


def test_a_run_bears_some_empty_steps_and_not_many(tmp_path: Path) -> None:
    run, _ = tiny_run(tmp_path, SETTINGS, task=Starving(range(3, 3 + EMPTY_STEPS - 1)))
    assert "food" not in json.dumps(run.metrics())
    with pytest.raises(UserError, match=f"{EMPTY_STEPS} steps in a row had no food to learn from"):
        tiny_run(tmp_path, SETTINGS, name="long", task=Starving(range(3, 3 + EMPTY_STEPS)))
    saved = Checkpoint.load(tmp_path / "long" / "checkpoints" / "last.pt")
    assert (saved.step, saved.empty["food"]) == (3 + EMPTY_STEPS - 1, EMPTY_STEPS - 1)


def test_empty_steps_count_on_over_a_resume(tmp_path: Path) -> None:
    short = {**SETTINGS, "train": {**TRAIN, "max_steps": 5}}
    with pytest.raises(UserError, match="5 steps in a row"):
        tiny_run(tmp_path, short, task=Starving(range(100)))
    with pytest.raises(UserError, match="5 steps in a row"):
        tiny_run(tmp_path, short, task=Starving(range(100)), resume=True)


def test_a_part_with_something_to_learn_from_feeds_its_step() -> None:
    taught, losses = Taught(), {"loss": torch.ones(()), LEARNED_FROM + "a": torch.tensor(0.5)}
    assert taught.take(losses) == {"a": torch.tensor(0.5)}
    assert list(losses) == ["loss"]
    taught.step({"a": 0.0, "b": 0.0}, 3)
    taught.step({"a": 0.5, "b": 0.0}, 3)
    with pytest.raises(UserError, match="3 steps in a row had no b to"):
        taught.step({"a": 0.0, "b": 0.0}, 3)


def test_only_steps_in_a_row_are_counted() -> None:
    taught = Taught()
    for count in [0.0] * (EMPTY_STEPS - 1) + [1.0] + [0.0] * (EMPTY_STEPS - 1):
        taught.step({"pairs": count}, 1000)
    with pytest.raises(UserError, match=f"{EMPTY_STEPS} steps in a row had no pairs"):
        taught.step({"pairs": 0.0}, 1000)
