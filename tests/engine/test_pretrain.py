"""Pretraining from a recipe, on a tiny dataset in a real format with the real method."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from builders.semantickitti import build_semantickitti
from olivine.config import load_recipe, validate
from olivine.data.batch import Batch
from olivine.data.needs import Inputs
from olivine.engine.run import RunFolder
from olivine.errors import UserError
from olivine.methods.olivine import Olivine
from olivine.pretraining.run import PretrainConfig, pretrain
from olivine.teachers import Teacher
from olivine.weights.file import load_weights, read_weights

STEPS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_semantickitti(tmp_path_factory.mktemp("data"), sequences=("00",), frames=range(4), points=400)


def config(root: Path, out: Path, **changes: Any) -> PretrainConfig:
    tree = {
        "name": "tiny",
        "out": str(out),
        "data": {"name": "semantickitti", "root": str(root)},
        "train_split": {"split": ["00"]},
        "images": {"size": [32, 16], "min_pairs": 4},
        "backbone": {"name": "minkunet14a", "width": 0.125},
        "method": {"name": "olivine", "teacher": {"name": "random"}, "feature_dim": 8, "pairs": 64},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "train": {"epochs": 2, "batch_size": 2, "workers": 0, "save_every": 1, "log_every": 1, "tensorboard": False},
    }
    tree["method"]["vmf"] = {"warmup_fraction": 0.5}
    return validate(PretrainConfig, {**tree, **changes}, "test")


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain(config(data, tmp_path_factory.mktemp("runs")))


def test_run_leaves_weights_that_load_into_a_fresh_backbone(finished: Path, data: Path) -> None:
    settings = load_recipe(PretrainConfig, finished / "config.yaml")
    backbone = settings.backbone.build(Inputs(settings.voxels))
    assert load_weights(backbone, finished).complete


def test_weights_say_how_they_were_made(finished: Path) -> None:
    about = read_weights(finished).about
    assert about["backbone"]["name"] == "minkunet14a"
    assert about["in_channels"] == 1
    assert about["method"]["teacher"]["name"] == "random"
    assert about["sources"] == {"teacher": "random convolutions, seed 0, never trained"}
    assert about["train"]["scenes"] == ["00"]
    assert about["train"]["weak_labels"] == {"classes": ["road", "car", "tree"], "labeller": "test"}
    assert about["steps"] == STEPS


def test_the_log_says_what_the_teacher_is(finished: Path) -> None:
    log = (finished / "log.txt").read_text(encoding="utf-8").splitlines()
    assert sum(line.endswith("teacher: random convolutions, seed 0, never trained") for line in log) == 1


def test_weak_labels_are_recorded_only_where_they_taught(data: Path, tmp_path: Path) -> None:
    settings = config(data, tmp_path)
    plain = settings.model_copy(update={"method": settings.method.model_copy(update={"supervised": False})})
    assert read_weights(pretrain(plain)).about["train"]["weak_labels"] is None


def test_every_step_and_stage_is_recorded(finished: Path) -> None:
    lines = RunFolder(finished).metrics()
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert {"loss", "loss_ppkt", "loss_sup", "loss_vmf"} <= set(lines[0]["losses"])
    assert {"load", "teacher", "backbone", "loss", "backward"} <= set(lines[0]["seconds"])


def test_interrupted_pretraining_resumes_to_the_bit(
    finished: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls = Olivine.forward, []

    def interrupted(method: Olivine, batch: Batch) -> dict[str, Tensor]:
        calls.append(batch.seed)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return forward(method, batch)

    monkeypatch.setattr(Olivine, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config(data, tmp_path))
    resumed = pretrain(config(data, tmp_path), resume=True)
    assert len(calls) == STEPS + 1
    weights = read_weights(finished).tensors
    assert all(torch.equal(value, weights[key]) for key, value in read_weights(resumed).tensors.items())
    assert [line["losses"] for line in RunFolder(resumed).metrics()] == [
        line["losses"] for line in RunFolder(finished).metrics()
    ]


def test_three_dimensional_labels_are_never_read(finished: Path, data: Path, tmp_path: Path) -> None:
    unlabelled = tmp_path / "data"
    shutil.copytree(data, unlabelled)
    shutil.rmtree(unlabelled / "dataset" / "sequences" / "00" / "labels")
    weights = read_weights(finished).tensors
    again = read_weights(pretrain(config(unlabelled, tmp_path / "runs"))).tensors
    assert all(torch.equal(value, weights[key]) for key, value in again.items())


def test_clouds_without_images_are_refused(tmp_path: Path) -> None:
    root = build_semantickitti(tmp_path / "data", sequences=("00",), frames=range(2), cameras=())
    settings = config(root, tmp_path / "runs")
    plain = settings.model_copy(update={"method": settings.method.model_copy(update={"supervised": False})})
    with pytest.raises(UserError, match=r"semantickitti has no camera images here, and method olivine needs them"):
        pretrain(plain)
    assert not (tmp_path / "runs").exists()


def test_recipe_without_a_method_is_refused_by_key() -> None:
    with pytest.raises(UserError, match="key method is required"):
        validate(PretrainConfig, {"name": "x", "data": {"name": "semantickitti", "root": "/data"}}, "recipe")


@pytest.mark.parametrize("changed", ["teacher", "masks"])
def test_a_run_whose_teacher_or_masks_were_replaced_is_not_resumed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    own = tmp_path / "data"
    shutil.copytree(data, own)
    run = pretrain(config(own, tmp_path / "runs"))
    if changed == "teacher":
        monkeypatch.setattr(Teacher, "digest", lambda self: "of another file under the same name")
    else:
        mask = sorted((own / "camseg").rglob("*.png"))[0]
        with Image.open(mask) as file:
            turned = file.transpose(Image.Transpose.ROTATE_180)
        turned.save(mask)  # the manifest stays as it is
    with pytest.raises(UserError, match=rf"{run}: cannot resume: {changed} changed since the run began"):
        pretrain(config(own, tmp_path / "runs"), resume=True)
