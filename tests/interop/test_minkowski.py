"""Checkpoints in the layout of the Minkowski code bases, out and in."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import olivine
from builders.recipes import tiny_data, tiny_segmentation
from olivine.backbones import Head, MinkUNetConfig
from olivine.backbones.minkunet import LAYERS_14, LAYERS_18, LAYERS_34, PLANES_A, PLANES_C
from olivine.config import validate
from olivine.data.voxelize import CartesianVoxels, CylindricalVoxels
from olivine.errors import OlivineWarning, UserError
from olivine.segmentation.segment import SegmentConfig, segment
from olivine.weights.file import describe_heads, read_weights, save_weights
from olivine.weights.foreign import PublishedMinkUNet, export_weights, import_weights
from olivine.weights.foreign.minkowski import published_state
from olivine.weights.published import read_checkpoint

CONFIG = MinkUNetConfig(width=0.125)


def network(config: MinkUNetConfig = CONFIG, channels: int = 1) -> PublishedMinkUNet:
    """The network as it is published."""
    torch.manual_seed(4)
    layers = {"minkunet34c": LAYERS_34, "minkunet18a": LAYERS_18, "minkunet14a": LAYERS_14}[config.name]
    planes = PLANES_C if config.name == "minkunet34c" else PLANES_A
    return PublishedMinkUNet(channels, 8, planes=planes, layers=layers, width=config.width)


def parts(channels: int = 1, heads: tuple[str, ...] = ("point",), config: MinkUNetConfig = CONFIG) -> tuple[Any, Any]:
    """A backbone and heads of ours."""
    torch.manual_seed(4)
    backbone = config.of_channels(channels)
    return backbone, {name: Head(backbone.channels, 8, unit=True) for name in heads}


def published(path: Path) -> dict[str, Tensor]:
    """Weights of ours under the published names."""
    return published_state(read_weights(path))


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


GRID = {"name": "cartesian", "size_m": [4.0, 4.0, 2.0]}
STATED = {"voxel_size": 0.1, "cylindrical_coordinates": True, "dataset": "nuscenes"}
"""What published code keeps beside the tensors, among much else."""
PUBLISHED = ["voxels.name=cylindrical", "intensity_max=255"]
"""The same, given by hand."""


@pytest.mark.parametrize("class_head", [False, True])
@pytest.mark.parametrize("name", ["minkunet34c", "minkunet18a", "minkunet14a"])
@pytest.mark.parametrize("features", [["intensity"], ["z", "intensity", "range"]])
def test_weights_and_what_they_are_come_back_to_the_bit(
    tmp_path: Path, class_head: bool, name: Any, features: list[str]
) -> None:
    config = MinkUNetConfig(name=name, width=0.125)
    about = {
        "task": "pretraining",
        "backbone": config.model_dump(mode="json"),
        "in_channels": len(features),
        "voxels": {**GRID, "features": features, "intensity": "unit"},
        "intensity_max": 80.0,
    }
    backbone, heads = parts(len(features), ("point", "class") if class_head else ("point",), config)
    save_weights(tmp_path / "run", backbone, {**about, "heads": describe_heads(heads)}, heads)
    file = export_weights(tmp_path / "run", "minkowski", tmp_path / "out.pt")
    folder = import_weights(file, "minkowski", tmp_path / "back").parent
    before, after = read_weights(tmp_path / "run"), read_weights(folder)
    assert same(before.tensors, after.tensors)
    assert before.heads.keys() == after.heads.keys() == set(heads)
    assert all(same(before.heads[name], after.heads[name]) for name in heads)
    assert after.about == {**before.about, "source": "out.pt"}
    rng = np.random.default_rng(0)
    points, intensity = rng.uniform(-20, 20, (200, 3)), rng.uniform(0, 80, 200)
    one, other = (olivine.load(path).features(points, intensity) for path in (tmp_path / "run", folder))
    np.testing.assert_array_equal(one, other)
    with pytest.raises(UserError, match=r"out\.pt: says itself what it is; leave intensity_max out"):
        import_weights(file, "minkowski", tmp_path / "again", ["intensity_max=1"])


def test_a_trained_segmenter_predicts_the_same_after_the_round_trip(tmp_path: Path) -> None:
    data = tiny_data(tmp_path / "data", camseg=False)
    segment(validate(SegmentConfig, tiny_segmentation(data, out=str(tmp_path)), "test"))
    file = export_weights(tmp_path / "segmented", "minkowski", tmp_path / "out.pt")
    models = [olivine.load(tmp_path / "segmented"), olivine.load(import_weights(file, "minkowski", tmp_path / "back"))]
    rng = np.random.default_rng(0)
    points, intensity = rng.uniform(-20, 20, (200, 3)), rng.uniform(0, 255, 200)
    one, other = (model.predict(points, intensity) for model in models)
    np.testing.assert_array_equal(one, other)
    assert models[0].classes is not None
    assert models[1].classes is not None
    assert models[0].classes.names == models[1].classes.names


def test_any_flipped_bit_of_an_exported_tensor_is_found(tmp_path: Path) -> None:
    about = {"backbone": CONFIG.model_dump(), "in_channels": 1, "voxels": CylindricalVoxels().model_dump()}
    backbone, heads = parts()
    save_weights(tmp_path / "run", backbone, about, heads)
    state = published(tmp_path / "run")
    file = export_weights(tmp_path / "run", "minkowski", tmp_path / "out.pt")
    whole = file.read_bytes()
    for at in np.random.default_rng(5).integers(0, len(whole), 40):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(at) % 8
        file.write_bytes(damaged)
        with contextlib.suppress(UserError):
            # A bit of no meaning to anyone, such as a file's date in the archive, may pass; other weights may not.
            import_weights(file, "minkowski", tmp_path / str(at))
            assert same(published(tmp_path / str(at)), state)


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in network().state_dict().items()}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"model_points": prefixed(""), "epoch": 49, "config": {**STATED, "lr": 0.5}}, id="SLidR"),
        pytest.param({"model_points": prefixed("module.")}, id="data parallel"),
        pytest.param({"state_dict": {**prefixed("model_points."), "model_images.w": torch.ones(2)}}, id="lightning"),
        pytest.param({"state_dict": {"model": prefixed("")}}, id="nested"),
        pytest.param({"state_dict": prefixed("module.backbone."), "args": argparse.Namespace(a=1)}, id="arguments"),
        pytest.param(prefixed(""), id="plain"),
    ],
)
def test_published_layouts_are_read(tmp_path: Path, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "published.pt")
    path = import_weights(tmp_path / "published.pt", "minkowski", tmp_path / "in", PUBLISHED)
    about = read_weights(path).about
    assert about["voxels"] == CylindricalVoxels(intensity="raw").model_dump(mode="json")
    assert about["intensity_max"] == 255
    assert same(published(path), network().state_dict())
    assert olivine.load(path).network.channels == 12


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot read these weights"),
        (b"hello world", "cannot read these weights"),
        (b"hi\n", r"cannot read these weights \(no file of weights\)"),
        (b"\x80\x02 not a pickle", "weights"),
        ({"epoch": 3}, r"no tensor conv0p1s1\.kernel"),
        ([1, 2], "expected a mapping"),
        ({**prefixed("a."), **prefixed("b.")}, r"2 tensors conv0p1s1\.kernel"),
        ({"conv0p1s1.kernel": torch.zeros(27, 1, 4)}, r"missing bn0\.bn\.weight"),
        ({"conv0p1s1.kernel": torch.zeros(64, 1, 4)}, r"of shape \[64, 1, 4\]; of MinkUNet it is \[27 or 125, inputs,"),
        ({key: value for key, value in prefixed("").items() if "block4" not in key}, r"missing block4\.0"),
        ({"optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}}}, "no tensor"),
        (
            {**prefixed(""), "final.bias": torch.full((1, 8), torch.nan)},
            r"final\.bias holds numbers that are not finite",
        ),
        (
            {**network().state_dict(), "bn0.bn.weight": torch.zeros(5)},
            r"bn0\.bn\.weight \(\[5\] in the file, \[4\] here",
        ),
    ],
)
def test_what_is_no_such_checkpoint_is_refused_by_name(tmp_path: Path, content: Any, message: str) -> None:
    file = tmp_path / "bad.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(UserError, match=message) as caught:
        import_weights(file, "minkowski", tmp_path / "in", PUBLISHED)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize(
    ("stated", "given", "voxels", "intensity_max"),
    [
        (STATED, [], CylindricalVoxels(intensity="raw"), 255),
        ({**STATED, "voxel_size": 0.05, "dataset": "semantic_kitti"}, [],
         CylindricalVoxels(rho_m=0.05, z_m=0.05, intensity="raw"), 1),
        ({**STATED, "cylindrical_coordinates": False}, [], CartesianVoxels(intensity="raw"), 255),
        ({**STATED, "cylindrical_coordinates": False, "voxel_size": [0.1, 0.1, 0.2]}, [],
         CartesianVoxels(size_m=(0.1, 0.1, 0.2), intensity="raw"), 255),
        (STATED, ["voxels.intensity=unit", "voxels.phi_deg=0.5"], CylindricalVoxels(phi_deg=0.5), 255),
        ({"voxel_size": 0.2}, ["voxels={name: cylindrical, rho_m: 0.2, z_m: 0.2}", "intensity_max=1"],
         CylindricalVoxels(rho_m=0.2, z_m=0.2, intensity="raw"), 1),
        ({}, ["voxels.name=cartesian", "intensity_max=100"], CartesianVoxels(intensity="raw"), 100),
        ({"dataset": {"name": "something of another project"}}, PUBLISHED, CylindricalVoxels(intensity="raw"), 255),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["config", "hyper_parameters", "args", "inside"])
def test_what_a_file_states_of_its_inputs_is_taken(
    tmp_path: Path, place: str, stated: dict[str, Any], given: list[str], voxels: Any, intensity_max: float
) -> None:
    settings: Any = {"args": argparse.Namespace(**stated), "inside": {"hparams": stated}}.get(place, stated)
    content = {"state_dict": prefixed("model."), {"inside": "hyper_parameters"}.get(place, place): settings}
    torch.save(content, tmp_path / "published.pt")
    about = read_weights(import_weights(tmp_path / "published.pt", "minkowski", tmp_path / "in", given)).about
    assert about["voxels"] == voxels.model_dump(mode="json")
    assert about["intensity_max"] == intensity_max


@pytest.mark.parametrize(
    ("stated", "given", "message"),
    [
        ({}, [], "does not say which voxels its network takes; add them, e.g. .* voxels.name=cylindrical"),
        ({}, ["voxels.name=cylindrical"], "does not say which intensities .* add intensity_max=255"),
        ({"voxel_size": 0.1}, [], "does not say which voxels"),
        ({"cylindrical_coordinates": True}, [], "does not say which voxels"),
        (
            STATED,
            ["voxels.rho_m=0.2"],
            r"states voxel_size 0\.1, .* contradicts voxels of cylindrical \[0\.2, 0\.1\] m",
        ),
        (STATED, ["voxels.name=cartesian"], "cylindrical_coordinates True, which contradicts voxels of cartesian"),
        ({"voxel_size": 0.2}, PUBLISHED, r"states voxel_size 0\.2, which contradicts"),
        ({"cylindrical_coordinates": False}, PUBLISHED, "cylindrical_coordinates False, which contradicts"),
        (STATED, ["intensity_max=1"], "states dataset 'nuscenes', whose intensities end at 255, not 1"),
        ({**STATED, "voxel_size": -1}, [], "states voxel_size -1, which is neither"),
        ({**STATED, "args": {"voxel_size": 0.2}}, [], r"states voxel_size 0\.1 and 0\.2; keep the right one"),
        ({}, ["voxels.name=cylindrical", "intensity_max=0"], "not the top of a range"),
        ({}, ["voxels.nmae=cylindrical"], r"voxels\.name is required"),
        ({}, [*PUBLISHED, "grid=3"], "unknown key grid"),
    ],
)
def test_what_a_file_leaves_open_or_contradicts_is_refused(
    tmp_path: Path, stated: dict[str, Any], given: list[str], message: str
) -> None:
    torch.save({"model_points": prefixed(""), "config": stated}, tmp_path / "published.pt")
    with pytest.raises(UserError, match=message) as caught:
        import_weights(tmp_path / "published.pt", "minkowski", tmp_path / "in", given)
    assert str(tmp_path / "published.pt") in str(caught.value) or "intensity_max" in message or "top" in message
    assert not (tmp_path / "in").exists()


def test_settings_that_hold_themselves_are_read_to_an_end(tmp_path: Path) -> None:
    settings: dict[str, Any] = dict(STATED)
    settings["config"] = settings
    torch.save({"model_points": prefixed(""), "config": settings}, tmp_path / "published.pt")
    path = import_weights(tmp_path / "published.pt", "minkowski", tmp_path / "in")
    assert read_weights(path).about["intensity_max"] == 255


def test_several_input_channels_have_to_be_named(tmp_path: Path) -> None:
    state = network(CONFIG, 2).state_dict()
    torch.save({"model_points": state, "config": STATED}, tmp_path / "published.pt")
    with pytest.raises(UserError, match=r"takes 2 input channels, and voxels\.features names 1 \(intensity\)"):
        import_weights(tmp_path / "published.pt", "minkowski", tmp_path / "in")
    named = ["voxels.features=[intensity,z]"]
    about = read_weights(import_weights(tmp_path / "published.pt", "minkowski", tmp_path / "in", named)).about
    assert (about["in_channels"], about["voxels"]["features"]) == (2, ["intensity", "z"])


@pytest.mark.parametrize("name", ["minkunet18a", "minkunet14a"])
def test_the_depth_of_a_foreign_network_is_read_off_its_shapes(tmp_path: Path, name: Any) -> None:
    config = MinkUNetConfig(name=name, width=0.25)
    torch.save({"model_points": network(config).state_dict(), "config": STATED}, tmp_path / "published.pt")
    path = import_weights(tmp_path / "published.pt", "minkowski", tmp_path / "in")
    assert read_weights(path).about["backbone"] == config.model_dump(mode="json")


NUMBERS = {"lr": np.float64(0.1), "gamma": np.float32(2.5), "seed": np.int64(7), "ok": np.bool_(True)}


def test_plain_numbers_of_a_lightning_file_are_read(tmp_path: Path) -> None:
    hyper = {**STATED, "voxel_size": np.float64(0.1), **NUMBERS}
    content = {"state_dict": prefixed("model_points."), "hyper_parameters": hyper, "epoch": np.int32(3)}
    torch.save(content, tmp_path / "published.ckpt")
    path = import_weights(tmp_path / "published.ckpt", "minkowski", tmp_path / "in")
    assert same(published(path), network().state_dict())
    read = read_checkpoint(tmp_path / "published.ckpt")
    assert read["epoch"] == 3
    assert {key: read["hyper_parameters"][key] for key in NUMBERS} == {"lr": 0.1, "gamma": 2.5, "seed": 7, "ok": True}
    assert all(type(read["hyper_parameters"][key]).__module__ == "builtins" for key in NUMBERS)


@pytest.mark.parametrize(
    "strange", [np.zeros(3), np.array([object()]), np.str_("x"), np.complex64(1), np.dtype([("a", "O")]), Path("/")]
)
def test_what_is_no_plain_number_is_refused_in_one_line(tmp_path: Path, strange: Any) -> None:
    torch.save({"state_dict": prefixed(""), "hyper_parameters": {"strange": strange}}, tmp_path / "published.ckpt")
    with pytest.raises(
        UserError, match=r"published\.ckpt: (not read, because it holds more|cannot read these)"
    ) as caught:
        import_weights(tmp_path / "published.ckpt", "minkowski", tmp_path / "in", PUBLISHED)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_file_that_runs_code_is_not_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"model_points": network().state_dict(), "trap": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(UserError, match=r"holds more than tensors and plain data \(getattr\)"):
        import_weights(tmp_path / "trap.pt", "minkowski", tmp_path / "in")
    assert not (tmp_path / "sprung").exists()


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    backbone, heads = parts()
    run = save_weights(tmp_path / "run", backbone, {}, heads).parent
    file = export_weights(run, "minkowski", tmp_path / "out.pt")
    with pytest.raises(UserError, match=r"out\.pt: exists"):
        export_weights(run, "minkowski", file)
    with pytest.raises(UserError, match=r"run/weights\.safetensors: exists"):
        import_weights(file, "minkowski", run)


def test_an_unknown_layout_is_answered_with_those_known(tmp_path: Path) -> None:
    for way in (export_weights, import_weights):
        with pytest.raises(UserError, match="no layout named 'spconv'; known are minkowski"):
            way(tmp_path, "spconv", tmp_path / "out")


def test_imported_weights_are_fine_tuned_on_raw_intensities_without_a_warning(tmp_path: Path) -> None:
    torch.save({"model_points": prefixed("module.")}, tmp_path / "published.pt")
    import_weights(tmp_path / "published.pt", "minkowski", tmp_path / "imported", PUBLISHED)
    data = tiny_data(tmp_path / "data", camseg=False)
    own = {"out": str(tmp_path), "weights": str(tmp_path / "imported"), "backbone": CONFIG.model_dump()}
    raw = {"name": "cylindrical", "intensity": "raw"}
    results = segment(validate(SegmentConfig, tiny_segmentation(data, **own, voxels=raw), "test"))
    assert results["protocol"]["pretrained"]["about"]["source"] == "published.pt"
    unit = tiny_segmentation(data, **own, voxels={"name": "cylindrical"}, name="other")
    with pytest.raises(UserError, match=r'"intensity": "raw".* but this run uses .* or set allow_other_inputs=true'):
        segment(validate(SegmentConfig, unit, "test"))
    with pytest.raises(OlivineWarning, match='"intensity": "raw"'):
        segment(validate(SegmentConfig, {**unit, "allow_other_inputs": True}, "test"))
