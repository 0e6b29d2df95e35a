"""Checkpoints in the layout of the Minkowski code bases, out and in."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import olivine
from builders.recipes import tiny_data, tiny_segmentation
from olivine.backbones import MinkUNet, MinkUNetConfig
from olivine.config import validate
from olivine.engine.weights import read_weights, save_weights
from olivine.errors import OlivineWarning, UserError
from olivine.interop import export_weights, import_weights
from olivine.segmentation.segment import SegmentConfig, segment

CONFIG = MinkUNetConfig(width=0.125)


def network(config: MinkUNetConfig = CONFIG, *, class_head: bool = False) -> MinkUNet:
    torch.manual_seed(4)
    return config.build(1, 8, class_head=class_head)


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("class_head", [False, True])
def test_weights_come_back_to_the_bit(tmp_path: Path, class_head: bool) -> None:
    save_weights(tmp_path / "run", network(class_head=class_head), {"backbone": CONFIG.model_dump(mode="json")})
    file = export_weights(tmp_path / "run", "minkowski", tmp_path / "out.pt")
    folder = import_weights(file, "minkowski", tmp_path / "back").parent
    before, after = read_weights(tmp_path / "run"), read_weights(folder)
    assert same(before.tensors, after.tensors)
    assert after.about["backbone"] == before.about["backbone"]
    assert after.about["voxels"]["intensity"] == "raw"


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in network().state_dict().items()}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"model_points": prefixed(""), "epoch": 49, "config": {"lr": 0.5}}, id="SLidR"),
        pytest.param({"model_points": prefixed("module.")}, id="data parallel"),
        pytest.param({"state_dict": {**prefixed("model_points."), "model_images.w": torch.ones(2)}}, id="lightning"),
        pytest.param({"state_dict": {"model": prefixed("")}}, id="nested"),
        pytest.param({"state_dict": prefixed("module.backbone."), "args": argparse.Namespace(a=1)}, id="arguments"),
        pytest.param(prefixed(""), id="plain"),
    ],
)
def test_published_layouts_are_read(tmp_path: Path, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "published.pt")
    path = import_weights(tmp_path / "published.pt", "minkowski", tmp_path / "in")
    assert same(read_weights(path).tensors, network().state_dict())
    assert olivine.load(path).network.feature_channels == 12


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot read these weights"),
        (b"hello world", "cannot read these weights"),
        (b"\x80\x02 not a pickle", "weights"),
        ({"epoch": 3}, r"no stem conv0p1s1\.kernel"),
        ([1, 2], "expected a mapping"),
        ({**prefixed("a."), **prefixed("b.")}, "2 stems"),
        ({"conv0p1s1.kernel": torch.zeros(27, 1, 4)}, r"no head final\.kernel"),
        (network(MinkUNetConfig(name="minkunet18a", width=0.125)).state_dict(), "do not fit the network"),
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
        import_weights(file, "minkowski", tmp_path / "in")
    assert str(file) in str(caught.value)
    assert not (tmp_path / "in").exists()


def test_a_file_that_runs_code_is_not_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"model_points": network().state_dict(), "trap": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(UserError, match="holds more than tensors and plain data"):
        import_weights(tmp_path / "trap.pt", "minkowski", tmp_path / "in")
    assert not (tmp_path / "sprung").exists()


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    run = save_weights(tmp_path / "run", network(), {}).parent
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
    import_weights(tmp_path / "published.pt", "minkowski", tmp_path / "imported")
    data = tiny_data(tmp_path / "data", camseg=False)
    own = {"out": str(tmp_path), "weights": str(tmp_path / "imported"), "backbone": CONFIG.model_dump()}
    raw = {"name": "cylindrical", "intensity": "raw"}
    results = segment(validate(SegmentConfig, tiny_segmentation(data, **own, voxels=raw), "test"))
    assert results["protocol"]["pretrained"]["about"]["source"] == "published.pt"
    unit = tiny_segmentation(data, **own, voxels={"name": "cylindrical"}, name="other")
    with pytest.raises(OlivineWarning, match='"intensity": "raw"'):
        segment(validate(SegmentConfig, unit, "test"))
