"""KITTI's object benchmark as a set to pretrain on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from builders.kitti_object import build_kitti_object
from olivine.config import validate
from olivine.errors import OlivineWarning
from olivine.pretraining.run import PretrainConfig, pretrain

TEACHER = {"name": "random"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_kitti_object(tmp_path_factory.mktemp("data"), points=1500, camseg=True, superpixels=True)


def losses(data: Path, out: Path, method: dict[str, Any]) -> list[float]:
    """Of two steps on two frames each, whose images differ in size."""
    tree = {
        "name": "tiny",
        "out": str(out),
        "data": {"name": "kitti_object", "root": str(data)},
        "train_split": {"split": "all"},
        "images": {"size": [96, 32], "min_pairs": 4, "crop_ratio": [2.5, 3.5]},
        "backbone": {"name": "minkunet14a", "width": 0.125},
        "method": method,
        "optimizer": {"name": "sgd", "lr": 0.1},
        "train": {"epochs": 2, "batch_size": 2, "workers": 0, "log_every": 1, "tensorboard": False},
    }
    run = pretrain(validate(PretrainConfig, tree, "test"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["losses"]["loss"] for line in lines]


@pytest.mark.parametrize(
    "method",
    [
        {"name": "ppkt", "teacher": TEACHER, "feature_dim": 8, "pairs": 64},
        {"name": "olivine", "teacher": TEACHER, "feature_dim": 8, "pairs": 64, "vmf": {"warmup_fraction": 0.5}},
        {"name": "slidr", "teacher": TEACHER, "feature_dim": 8},
    ],
    ids=lambda method: method["name"],
)
def test_images_teach_on_it(data: Path, tmp_path: Path, method: dict[str, Any]) -> None:
    found = losses(data, tmp_path, method)
    assert len(found) == 2
    assert all(math.isfinite(value) for value in found)


def test_methods_for_recordings_say_that_it_is_none(data: Path, tmp_path: Path) -> None:
    method = {"name": "strl", "feature_dim": 8, "hidden_dim": 16, "projection_dim": 8}
    with pytest.warns(OlivineWarning, match=r"kitti_object: no frame has another one of its scene .* of one scan"):
        assert len(losses(data, tmp_path, method)) == 2
