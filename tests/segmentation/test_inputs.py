"""Inputs that are not those of the weights, intensities out of range, scores that are no numbers: all are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import olivine
from builders.recipes import tiny_data, tiny_segmentation
from builders.semantickitti import build_semantickitti
from olivine.backbones import Head, MinkUNetConfig
from olivine.checking.check import check_folder
from olivine.config import validate
from olivine.data.needs import Inputs
from olivine.errors import OlivineWarning, UserError
from olivine.segmentation.config import SegmentConfig
from olivine.segmentation.scoring import evaluate_run
from olivine.segmentation.segment import segment
from olivine.weights.file import load_weights, read_weights, save_weights

BACKBONE = {"name": "minkunet14a", "width": 0.125}
GRID = {"name": "cartesian", "size_m": [4.0, 4.0, 2.0]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("kitti"))


def small_data(folder: Path) -> Path:
    return build_semantickitti(folder, ("00", "08"), cameras=(), camseg=False)


def settings(root: Path, out: Path, **changes: Any) -> SegmentConfig:
    tree = {
        "name": "run",
        "out": str(out),
        "data": {"name": "semantickitti", "root": str(root)},
        "train_split": {"split": ["00"]},
        "backbone": BACKBONE,
        "voxels": GRID,
        "optimizer": {"name": "sgd", "lr": 0.05, "head_lr": 0.5},
        "train": {"epochs": 1, "batch_size": 3, "workers": 0, "tensorboard": False, "log_every": 1},
    }
    return validate(SegmentConfig, {**tree, **changes}, "test")


def pretrained(folder: Path, config: SegmentConfig, **about: Any) -> Path:
    """Weights as pretraining leaves them: a head of another size."""
    torch.manual_seed(3)
    backbone = config.backbone.build(Inputs(config.voxels))
    heads = {"point": backbone.pretraining_head(64, unit=True)}
    return save_weights(folder, backbone, {"backbone": {**BACKBONE, "batch_norm_momentum": 0.05}, **about}, heads)


def test_weights_of_another_grid_are_refused_unless_wanted(root: Path, tmp_path: Path) -> None:
    config = settings(root, tmp_path, weights=str(tmp_path / "pre"))
    pretrained(tmp_path / "pre", config, voxels={"name": "cylindrical", "features": ["intensity"]})
    with pytest.raises(UserError, match=r"cylindrical.* set allow_other_inputs=true"):
        segment(config)
    assert not (tmp_path / "run").exists()
    with pytest.raises(OlivineWarning, match="cylindrical"):
        segment(config.model_copy(update={"allow_other_inputs": True}))


def test_weights_of_other_features_never_fit(root: Path, tmp_path: Path) -> None:
    config = settings(root, tmp_path, weights=str(tmp_path / "pre"), allow_other_inputs=True)
    pretrained(tmp_path / "pre", config, voxels={**config.voxels.model_dump(mode="json"), "features": ["z"]})
    with pytest.raises(UserError, match=r'made for voxels\.features \["z"\], but this run has \["intensity"\]'):
        segment(config)


def test_raw_intensities_of_another_range_are_refused_unless_wanted(root: Path, tmp_path: Path) -> None:
    unit = settings(root, tmp_path).voxels
    raw = unit.model_copy(update={"intensity": "raw"})
    config = settings(root, tmp_path, weights=str(tmp_path / "pre"), voxels=raw.model_dump(mode="json"))
    recorded = config.voxels.model_dump(mode="json")
    pretrained(tmp_path / "pre", config, voxels=recorded, intensity_max=255.0)
    with pytest.raises(UserError, match=r"on raw intensities of 0…255, but those of this run's data are 0…1"):
        segment(config)
    assert not (tmp_path / "run").exists()
    with pytest.raises(OlivineWarning, match="raw intensities of 0…255"):
        segment(config.model_copy(update={"allow_other_inputs": True}))
    pretrained(tmp_path / "pre", config, voxels=recorded)
    with pytest.raises(OlivineWarning, match="do not say the range of the raw intensities"):
        segment(config)
    scaled = settings(root, tmp_path, weights=str(tmp_path / "pre"))
    pretrained(tmp_path / "pre", scaled, voxels=scaled.voxels.model_dump(mode="json"), intensity_max=255.0)
    segment(scaled)  # scaled to 0…1, ranges agree, as between data sets


def rescale(root: Path, sequence: str, factor: float) -> None:
    for file in (root / "dataset" / "sequences" / sequence / "velodyne").glob("*.bin"):
        scan = np.fromfile(file, np.float32).reshape(-1, 4)
        scan[:, 3] *= factor
        scan.tofile(file)


@pytest.mark.parametrize(("sequence", "factor"), [("00", 255), ("08", 255), ("00", -1), ("08", np.nan)])
def test_intensities_outside_the_range_are_refused_before_anything_is_written(
    tmp_path: Path, sequence: str, factor: float
) -> None:
    data = small_data(tmp_path / "data")
    rescale(data, sequence, factor)
    with pytest.raises(
        UserError, match=rf"frame {sequence}/000000: (199|200) of 200 intensities lie outside 0…1, e\.g\. "
    ):
        segment(settings(data, tmp_path))
    assert not (tmp_path / "run").exists()
    blind = {**settings(data, tmp_path).voxels.model_dump(mode="json"), "features": ["z"]}
    if np.isfinite(factor):  # a network that sees none does not mind
        segment(settings(data, tmp_path, voxels=blind))


def test_one_scan_outside_the_range_is_named_when_it_is_met(tmp_path: Path) -> None:
    data = small_data(tmp_path / "data")
    file = data / "dataset" / "sequences" / "00" / "velodyne" / "000002.bin"
    scan = np.fromfile(file, np.float32).reshape(-1, 4)
    scan[7, 3] = 1.5
    scan.tofile(file)
    with pytest.raises(UserError, match=r"frame 00/000002: 1 of 200 intensities lie outside 0…1, e\.g\. 1\.5"):
        segment(settings(data, tmp_path))


def test_intensities_scaled_to_one_in_a_format_of_255_are_warned_about(tmp_path: Path) -> None:
    data = tiny_data(tmp_path / "data", camseg=False)
    for file in (data / "samples" / "LIDAR_TOP").glob("*.bin"):
        sweep = np.fromfile(file, np.float32).reshape(-1, 5)
        sweep[:, 3] /= 255
        sweep.tofile(file)
    tree = tiny_segmentation(data, out=str(tmp_path))
    with pytest.raises(OlivineWarning, match=r"no intensity exceeds .* in a format of 0…255; were they scaled to 0…1"):
        segment(validate(SegmentConfig, tree, "test"))
    assert any("were they scaled" in problem for problem in check_folder(data).problems)


def test_scores_that_are_not_finite_are_an_error_that_names_the_weights(root: Path, tmp_path: Path) -> None:
    segment(settings(root, tmp_path))
    folder = tmp_path / "run"
    weights = read_weights(folder)
    network = MinkUNetConfig(**weights.about["backbone"]).of_channels(1)
    load_weights(network, weights)
    head = Head(network.channels, 19)
    with torch.no_grad():  # finite, but its products are not
        head.kernel.fill_(3e38)
        head.bias.fill_(3.4e38)
    save_weights(folder, network, weights.about, {"classes": head})
    with pytest.raises(UserError, match=r"run/weights\.safetensors: class scores in frame 08/000000 are not finite"):
        evaluate_run(folder, ["write_predictions=true"])
    model = olivine.load(folder)
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match=r"run/weights\.safetensors: its class scores .* not finite"):
        model.predict(rng.uniform(-20, 20, (200, 3)), rng.uniform(0, 1, 200))
