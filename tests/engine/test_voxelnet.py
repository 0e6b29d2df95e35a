"""The second backbone behind the seam: every method trains it; it is resumed, fine-tuned and loaded like the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import olivine
from builders.recipes import tiny_pretraining, tiny_segmentation
from engine.test_taught import METHODS, sound  # noqa: F401 (a fixture)
from olivine.backbones import VoxelNet
from olivine.config import load_recipe, validate
from olivine.data.batch import Batch
from olivine.methods.olivine import Olivine
from olivine.pretraining.run import PretrainConfig, pretrain
from olivine.segmentation.segment import SegmentConfig, segment
from olivine.simulate import SimulateConfig, simulate
from olivine.weights.file import read_weights

VOXELS = {
    "name": "cartesian",
    "size_m": [1.0, 1.0, 0.2],
    "bounds_m": [-32, -32, -5, 32, 32, 3],
    "features": ["x", "y", "z", "intensity"],
    "reduce": "mean",
    "max_points": 10,
}


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
    assert "encoder.conv_out.0.weight" in weights.tensors
    assert weights.heads["point"]["kernel"].shape[0] == 128
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
    own += ["train.tensorboard=false", "backbone.name=voxelnet", "voxels.name=cartesian", "voxels.size_m=[0.4,0.4,0.2]"]
    own += ["voxels.bounds_m=[-51.2,-51.2,-5,51.2,51.2,3]", "voxels.features=[x,y,z,intensity]", "voxels.reduce=mean"]
    run = pretrain(load_recipe(PretrainConfig, "demo_olivine", own))
    assert read_weights(run).heads.keys() == {"point", "class"}
    assert read_weights(run).heads["point"]["kernel"].shape == (128, 32)  # 64 features are two heights of 32
