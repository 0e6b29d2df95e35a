"""The cache of a teacher's features in a whole pretraining run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders.semantickitti import build_semantickitti
from olivine.config import validate
from olivine.engine.run import RunFolder
from olivine.errors import UserError
from olivine.pretraining.run import PretrainConfig, pretrain


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_semantickitti(tmp_path_factory.mktemp("data"), sequences=("00",), frames=range(4), points=400)


def recipe(root: Path, out: Path, *, folder: Path | None, images: dict[str, Any] | None = None) -> PretrainConfig:
    still = {"size": [32, 16], "min_pairs": 4, "crop": False, "flip": 0}
    tree = {
        "name": "tiny",
        "out": str(out),
        "data": {"name": "semantickitti", "root": str(root)},
        "train_split": {"split": ["00"]},
        "images": {**still, **(images or {})},
        "backbone": {"name": "minkunet14a", "width": 0.125},
        "method": {
            "name": "olivine",
            "teacher": {"name": "random"},
            "teacher_cache": None if folder is None else {"folder": str(folder)},
            "feature_dim": 8,
            "pairs": 64,
            "vmf": {"warmup_fraction": 0.5},
        },
        "optimizer": {"name": "sgd", "lr": 0.1},
        "train": {"epochs": 3, "batch_size": 2, "workers": 0, "save_every": 1, "log_every": 1, "tensorboard": False},
    }
    return validate(PretrainConfig, tree, "test")


def losses(run: Path) -> list[dict[str, float]]:
    return [line["losses"] for line in RunFolder(run).metrics()]


def test_pretraining_has_the_same_losses_with_and_without_it(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    plain = losses(pretrain(recipe(data, tmp_path / "plain", folder=None)))
    cold = losses(pretrain(recipe(data, tmp_path / "cold", folder=folder)))
    assert len(list(folder.rglob("*.npy"))) == 4
    warm = losses(pretrain(recipe(data, tmp_path / "warm", folder=folder)))
    assert len(list(folder.rglob("*.npy"))) == 4
    assert cold == warm
    assert len(plain) == 6
    for without, with_it in zip(plain, cold, strict=True):
        assert with_it["loss"] == pytest.approx(without["loss"], rel=2e-3)
        # What is logged of few features moves more than the loss.
        assert with_it == pytest.approx(without, rel=5e-2, abs=1e-5)


def test_a_run_resumes_with_the_cache_elsewhere(data: Path, tmp_path: Path) -> None:
    pretrain(recipe(data, tmp_path / "runs", folder=tmp_path / "first"))
    moved = recipe(data, tmp_path / "runs", folder=tmp_path / "second")
    pretrain(moved, resume=True)
    without = recipe(data, tmp_path / "runs", folder=None)
    with pytest.raises(UserError, match="teacher_cache"):
        pretrain(without, resume=True)


@pytest.mark.parametrize("images", [{"crop": True}, {"flip": 0.5}])
def test_images_that_change_are_refused_with_the_keys_to_set(
    images: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"images\.crop=false images\.flip=0") as caught:
        pretrain(recipe(data, tmp_path, folder=tmp_path / "cache", images=images))
    assert len(str(caught.value).splitlines()) == 1
    pretrain(recipe(data, tmp_path, folder=None, images=images))


def test_weights_tell_of_the_cache(data: Path, tmp_path: Path) -> None:
    run = pretrain(recipe(data, tmp_path, folder=tmp_path / "cache", images={"flip": 1}))
    about = json.loads((run / "weights.json").read_text(encoding="utf-8"))
    assert about["method"]["teacher_cache"]["folder"] == str(tmp_path / "cache")
