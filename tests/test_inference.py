"""`olivine.load`: a trained backbone on points, with the numbers that evaluation gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import olivine
from builders.recipes import TRAIN, VAL, tiny_data, tiny_pretraining, tiny_segmentation
from olivine.backbones import Head, MinkUNetConfig
from olivine.config import validate
from olivine.data.nuscenes import NuScenes, NuScenesConfig
from olivine.data.splits import SplitConfig
from olivine.errors import OlivineWarning, UserError
from olivine.pretraining.run import PretrainConfig, pretrain
from olivine.segmentation.segment import SegmentConfig, segment
from olivine.sparse import SparseTensor
from olivine.weights.file import read_weights, save_weights

BOUNDED = {"name": "cartesian", "size_m": [4.0, 4.0, 2.0], "bounds_m": [-20, -20, -2, 20, 20, 2]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_data(tmp_path_factory.mktemp("sound") / "data")


@pytest.fixture(scope="module")
def segmented(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    tree = tiny_segmentation(data, out=str(out), voxels=BOUNDED, write_predictions=True, eval_batch_size=1)
    segment(validate(SegmentConfig, tree, "test"))
    return out / "segmented"


@pytest.fixture(scope="module")
def pretrained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tiny_pretraining(data, out=str(tmp_path_factory.mktemp("runs")))
    return pretrain(validate(PretrainConfig, tree, "test"))


def frames(data: Path, scene: str) -> NuScenes:
    return NuScenesConfig(root=data, version="v1.0-mini").open(SplitConfig(split=[scene]))


def test_predictions_are_those_of_the_evaluation(segmented: Path, data: Path) -> None:
    model = olivine.load(segmented)
    dataset = frames(data, VAL)
    for index in range(len(dataset)):
        frame = dataset[index]
        predicted = model.predict(frame.points_lidar_m, frame.intensity)
        sweep = dataset.lidar_token(frame.token)
        (file,) = (segmented / "predictions").rglob(f"{sweep}_lidarseg.bin")
        written = np.fromfile(file, np.uint8)
        assert predicted.dtype == np.uint8
        np.testing.assert_array_equal(predicted, written)
        outside = (np.abs(frame.points_lidar_m[:, :2]) > 20).any(axis=1)
        assert 0 < outside.sum() < len(outside)
        assert (predicted[outside] == 0).all()
        assert len(np.unique(predicted)) > 1


def test_intensity_is_taken_in_the_sensors_own_range(segmented: Path, data: Path) -> None:
    model, frame = olivine.load(segmented), frames(data, VAL)[0]
    features = model.features(frame.points_lidar_m, frame.intensity)
    scaled = model.features(frame.points_lidar_m, frame.intensity / 255, intensity_max=1.0)
    np.testing.assert_allclose(scaled, features, atol=1e-5)


def test_intensities_of_another_range_are_named(segmented: Path, data: Path) -> None:
    model, frame = olivine.load(segmented), frames(data, VAL)[0]
    points, intensity = frame.points_lidar_m, frame.intensity
    for method in (model.predict, model.features):
        with pytest.raises(UserError, match=r"intensities lie outside 0…1, e\.g\."):
            method(points, intensity, intensity_max=1.0)
        with pytest.raises(UserError, match="of 150 intensities lie outside 0…255"):
            method(points, intensity - 300)
        with pytest.raises(OlivineWarning, match=r"no intensity exceeds .* 0…255; were they scaled to 0…1"):
            method(points, intensity / 255)
        with pytest.raises(UserError, match="150 points are not finite"):
            method(points, np.full(150, np.nan))
        for wrong in (0.0, -1.0, np.nan):
            with pytest.raises(UserError, match="intensity_max is"):
                method(points, intensity, intensity_max=wrong)


def described(folder: Path, voxels: dict[str, Any], **about: Any) -> olivine.Model:
    network = MinkUNetConfig(name="minkunet14a", width=0.125)
    whole = {"backbone": network.model_dump(), "in_channels": 1, "voxels": voxels, **about}
    backbone = network.of_channels(1)
    save_weights(folder, backbone, whole, {"classes" if "classes" in about else "point": Head(backbone.channels, 8)})
    return olivine.load(folder)


def test_the_range_of_intensities_is_never_guessed(tmp_path: Path) -> None:
    points, intensity = np.ones((3, 3)), np.ones(3)
    old = described(tmp_path / "old", BOUNDED)
    with pytest.raises(UserError, match=r"old/weights\.safetensors: does not say the range .* give intensity_max"):
        old.features(points, intensity)
    assert old.features(points, intensity, intensity_max=1.0).shape == (3, 12)
    blind = described(tmp_path / "blind", {**BOUNDED, "features": ["z"]})
    assert blind.features(points, 1000 * intensity).shape == (3, 12)
    np.testing.assert_array_equal(blind.features(points, None), blind.features(points, intensity))
    with pytest.raises(UserError, match=r"sees intensities, and these points have none"):
        old.features(points, None)
    raw = described(tmp_path / "raw", {**BOUNDED, "intensity": "raw"}, intensity_max=100.0)
    assert raw.features(points, 100 * intensity).shape == (3, 12)
    with pytest.raises(UserError, match="trained on raw intensities of 0…100, and intensity_max=1 scales none"):
        raw.features(points, intensity, intensity_max=1.0)


def test_weights_say_what_their_heads_are_for(segmented: Path, pretrained: Path) -> None:
    names = list(olivine.load(segmented).classes.names)
    head = {"for": "classes", "names": names, "channels": len(names), "normalized": False}
    assert read_weights(segmented).about["heads"] == {"classes": head}
    heads = read_weights(pretrained).about["heads"]
    assert {name: head["for"] for name, head in heads.items()} == dict.fromkeys(heads, "pretraining")
    assert heads["point"] == {"for": "pretraining", "channels": 8, "normalized": True}


def test_classes_of_ones_own_are_known_by_the_names_in_the_file(tmp_path: Path) -> None:
    head = {"for": "classes", "names": [f"kind {n}" for n in range(8)], "channels": 8, "normalized": False}
    own = {"classes": "of my own", "task": "segmentation", "intensity_max": 1.0}
    model = described(tmp_path / "own", BOUNDED, **own, heads={"classes": head})
    assert model.classes.names == tuple(head["names"])
    assert (model.classes.learn(np.arange(9)) == np.arange(9)).all()
    assert set(model.predict(np.ones((3, 3)), np.ones(3)).tolist()) <= set(range(1, 9))
    with pytest.raises(UserError, match="trained on the classes of my own, whose names it does not say"):
        described(tmp_path / "old", BOUNDED, **own)
    with pytest.raises(UserError, match="are not those of nuscenes in this version"):
        described(tmp_path / "other", BOUNDED, **{**own, "classes": "nuscenes"}, heads={"classes": head})


def test_features_of_a_pretrained_backbone_are_one_row_a_point(pretrained: Path, data: Path) -> None:
    model, frame = olivine.load(pretrained), frames(data, TRAIN)[0]
    features = model.features(frame.points_lidar_m, frame.intensity)
    assert features.shape == (150, model.network.channels)
    assert features.dtype == np.float32
    assert not model.network.training
    cells = np.floor(frame.points_lidar_m / np.array([4, 4, 2], np.float32)).astype(np.int32)
    voxels, first, inverse = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    inputs = torch.from_numpy(frame.intensity[first] / 255)[:, None]
    coordinates = torch.from_numpy(np.insert(voxels, 0, 0, axis=1))
    with torch.no_grad():
        rows = model.network.forward_features(SparseTensor(inputs, coordinates)).features.numpy()
    np.testing.assert_allclose(features, rows[inverse.ravel()], atol=1e-5)


def test_pretrained_weights_predict_no_classes(pretrained: Path) -> None:
    with pytest.raises(UserError, match="predict no classes; fine-tune or probe them"):
        olivine.load(pretrained).predict(np.zeros((3, 3)), np.zeros(3))


def test_a_weights_file_is_as_good_as_its_folder(pretrained: Path, data: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes((pretrained / "weights.safetensors").read_bytes())
    frame = frames(data, TRAIN)[0]
    models = (olivine.load(pretrained), olivine.load(str(moved)))
    one, other = (model.features(frame.points_lidar_m, frame.intensity) for model in models)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("points", [0, 1])
def test_clouds_of_hardly_any_points_are_no_trouble(segmented: Path, points: int) -> None:
    model = olivine.load(segmented)
    cloud, intensity = np.zeros((points, 3)), np.zeros(points)
    assert model.features(cloud, intensity).shape == (points, model.network.channels)
    assert model.predict(cloud, intensity).shape == (points,)


@pytest.mark.parametrize(("points", "intensity"), [((5, 4), (5,)), ((15,), (5,)), ((5, 3), (4,)), ((5, 3), (5, 1))])
def test_wrong_shapes_are_named(segmented: Path, points: tuple[int, ...], intensity: tuple[int, ...]) -> None:
    model = olivine.load(segmented)
    for method in (model.features, model.predict):
        with pytest.raises(UserError) as caught:
            method(np.zeros(points), np.zeros(intensity))
        assert str(list(points)) in str(caught.value)
        assert str(list(intensity)) in str(caught.value)


def test_what_is_no_trained_backbone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such run folder or weights file"):
        olivine.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no weights\.safetensors in this folder; a run writes it when it is finished"):
        olivine.load(tmp_path)
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    with pytest.raises(UserError, match=r"cut\.safetensors: not a readable safetensors file"):
        olivine.load(tmp_path / "cut.safetensors")
    save_weights(tmp_path, torch.nn.Linear(2, 2), {"backbone": {}})
    with pytest.raises(UserError, match=r"has no in_channels, voxels;"):
        olivine.load(tmp_path)


def test_a_network_of_another_version_is_refused(tmp_path: Path) -> None:
    about = {"backbone": {"name": "minkunet99z"}, "in_channels": 1, "voxels": BOUNDED}
    save_weights(tmp_path, MinkUNetConfig(name="minkunet14a", width=0.125).of_channels(1), about)
    with pytest.raises(UserError, match="describes a network that this version does not know"):
        olivine.load(tmp_path)
