"""The second backbone behind the seam: every method trains it; it is resumed, fine-tuned and loaded like the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

import olivine
from builders.recipes import tiny_pretraining, tiny_segmentation
from engine.test_taught import METHODS, sound  # noqa: F401 (a fixture)
from olivine.backbones import VoxelNet, VoxelNetConfig
from olivine.config import load_recipe, validate
from olivine.data.batch import Batch
from olivine.data.needs import Inputs
from olivine.data.voxelize import CartesianVoxels
from olivine.methods.olivine import Olivine
from olivine.pretraining.run import PretrainConfig, pretrain
from olivine.segmentation.segment import SegmentConfig, segment
from olivine.simulate import SimulateConfig, simulate
from olivine.weights.file import read_weights, save_weights

VOXELS = {
    "name": "cartesian",
    "size_m": [1.0, 1.0, 0.2],
    "bounds_m": [-32, -32, -5, 32, 32, 3],
    "features": ["x", "y", "z", "intensity"],
    "reduce": "mean",
    "max_points": 10,
}


KEYS = (Path(__file__).parents[1] / "golden" / "voxelbackbone8x_keys.txt").read_text().splitlines()


def recipe(data: Path, out: Path, method: str, **changes: Any) -> PretrainConfig:
    settings = {"name": method, **METHODS[method]} | ({"regions": {"min_voxels": 1}} if method == "deepcluster" else {})
    own = {"backbone": {"name": "voxelnet"}, "voxels": VOXELS, "method": settings}
    tree = tiny_pretraining(data, out=str(out), name=method, **{**own, **changes})
    if method == "slidr":
        tree["data"] = {**tree["data"], "superpixels": str(data.parent / "superpixels")}
    return validate(PretrainConfig, tree, "test")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_pretrains_it(sound: Path, tmp_path: Path, method: str) -> None:  # noqa: F811
    weights = read_weights(pretrain(recipe(sound, tmp_path, method)))
    assert weights.about["backbone"]["name"] == "voxelnet"
    # What a detector takes: the published names and shapes, 12 convolutions and 12 norms of 5 entries, and no more.
    entries = [f"{key.removeprefix('encoder.')}\t{tuple(value.shape)}" for key, value in weights.tensors.items()]
    assert sorted(entries) == sorted(line.rpartition("\t")[0] for line in KEYS)
    assert len(entries) == 72
    assert all(key.startswith("encoder.") for key in weights.tensors)
    assert weights.heads["point"].keys() == {"kernel"}
    assert weights.heads["point"]["kernel"].shape[0] == 128
    with safe_open(weights.path, framework="pt") as file:
        stored = set(file.keys())
    assert {f"backbone.{key}" for key in weights.tensors} <= stored
    points, intensity = np.random.default_rng(0).uniform(-10, 10, (50, 3)), np.zeros(50)
    model = olivine.load(tmp_path / method)
    assert isinstance(model.network, VoxelNet)
    assert np.isfinite(model.features(points, intensity)).all()


def test_it_resumes_to_the_bit_and_is_fine_tuned(
    sound: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = {"epochs": 3, "batch_size": 2, "workers": 0, "log_every": 1, "save_every": 1, "tensorboard": False}
    whole = read_weights(pretrain(recipe(sound, tmp_path / "whole", "olivine", train=train)))
    forward, calls = Olivine.forward, []

    def interrupted(method: Olivine, batch: Batch) -> dict[str, Tensor]:
        calls.append(batch.seed)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return forward(method, batch)

    monkeypatch.setattr(Olivine, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe(sound, tmp_path / "cut", "olivine", train=train))
    resumed = read_weights(pretrain(recipe(sound, tmp_path / "cut", "olivine", train=train), resume=True))
    assert len(calls) == 4
    assert all(torch.equal(value, resumed.tensors[key]) for key, value in whole.tensors.items())
    weights = str(tmp_path / "whole" / "olivine")
    own = {"backbone": {"name": "voxelnet"}, "voxels": VOXELS, "weights": weights, "out": str(tmp_path)}
    results = segment(validate(SegmentConfig, tiny_segmentation(sound, **own), "test"))
    assert results["protocol"]["pretrained"]["about"]["backbone"]["name"] == "voxelnet"
    tuned = olivine.load(tmp_path / "segmented")
    assert set(tuned.predict(np.zeros((3, 3)), np.zeros(3)).tolist()) <= set(range(1, 17))


def test_it_pretrains_on_the_demos_world(tmp_path: Path) -> None:
    world = tmp_path / "world"
    simulate(world, SimulateConfig.model_validate({"scenes": 1, "keyframes_per_scene": 2, "lidar": {"columns": 360}}))
    own = [f"data.root={world}", f"out={tmp_path}", "train_split.split=all", "train.max_steps=1", "train.batch_size=2"]
    own += ["train.tensorboard=false"]
    run = pretrain(load_recipe(PretrainConfig, "demo_voxelnet_olivine", own))
    assert {name: head["kernel"].shape for name, head in read_weights(run).heads.items()} == {
        "point": (128, 64),
        "class": (128, 64),
    }
    own += ["name=two", "backbone.extra_row=true"]
    run = pretrain(load_recipe(PretrainConfig, "demo_voxelnet_olivine", own))
    assert read_weights(run).heads["point"]["kernel"].shape == (128, 32)  # 64 features are two heights of 32


def test_a_file_from_before_the_extra_row_was_a_setting_has_it(tmp_path: Path) -> None:
    voxels = CartesianVoxels.model_validate(VOXELS)
    network = VoxelNetConfig().build(Inputs(voxels))
    about = {"backbone": {"name": "voxelnet"}, "in_channels": 4, "voxels": VOXELS, "intensity_max": 255.0}
    save_weights(tmp_path, network, about)
    loaded = olivine.load(tmp_path).network
    assert isinstance(loaded, VoxelNet)
    assert loaded.heights == 2
    about["backbone"] = {"name": "voxelnet", "extra_row": False}
    save_weights(tmp_path, network, about)
    assert olivine.load(tmp_path).network.channels == 128
