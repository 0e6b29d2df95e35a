from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from olivine.config import validate
from olivine.errors import UserError
from olivine.teachers import ResNet50Config, Teacher
from olivine.teachers.base import IMAGENET_MEAN, IMAGENET_STD
from olivine.testing.teachers import TeacherContract, pictures
from oracles.teachers_resnet import forward, shapes, stand_ins


class TestDilatedResNet50(TeacherContract):
    config = ResNet50Config(weights="random")
    strides = (4,)
    level_channels = (2048,)
    sizes = ((48, 64), (49, 58))


class TestStridedResNet50(TeacherContract):
    config = ResNet50Config(weights="random", dilated=False)
    strides = (32,)
    level_channels = (2048,)


@pytest.fixture(scope="module")
def uneven() -> Teacher:
    """Strided, with batch statistics that differ between channels, as a trained network's do."""
    uneven = ResNet50Config(weights="random", dilated=False).build()
    generator = torch.Generator().manual_seed(1)
    for name, value in uneven.encoder.state_dict().items():
        if value.dim() == 1:
            low, high = (0.3, 0.7) if name.endswith(("weight", "running_var")) else (-0.2, 0.2)
            value.uniform_(low, high, generator=generator)
    return uneven


def test_names_shapes_and_parameter_count_are_those_of_the_paper(uneven: Teacher) -> None:
    state = uneven.encoder.state_dict()
    found = {name: tuple(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert found == shapes()
    assert sum(parameter.numel() for parameter in uneven.parameters()) == 23_508_032
    assert 23_508_032 + 2048 * 1000 + 1000 == 25_557_032


@pytest.mark.parametrize("size", [(64, 96), (71, 85)])
def test_the_strided_network_equals_the_one_written_from_the_paper(uneven: Teacher, size: tuple[int, int]) -> None:
    images = pictures(2, size)
    normalised = (images - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)
    expected = forward(uneven.encoder.state_dict(), normalised)
    torch.testing.assert_close(uneven(images)[0], expected, rtol=1e-3, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("size", [(64, 96), (71, 85)])
def test_dilation_keeps_every_value_of_the_strided_network_and_fills_in_between(
    uneven: Teacher, size: tuple[int, int]
) -> None:
    dilated = ResNet50Config(weights="random", dilated=True).build()
    dilated.load_state_dict(uneven.state_dict())
    images = pictures(1, size)
    coarse, fine = uneven(images)[0], dilated(images)[0]
    assert fine.shape[2:] == tuple(-(-side // 4) for side in size)
    torch.testing.assert_close(fine[:, :, ::8, ::8], coarse, rtol=1e-3, atol=1e-5 * coarse.abs().max().item())


def prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in tensors.items()}


def dummy(*names: str) -> dict[str, Tensor]:
    return {name: torch.zeros(1) for name in names}


def published(layout: str) -> dict[str, Any]:
    """A checkpoint as its publisher lays it out: the encoder, its heads, and what else they keep in the file."""
    encoder = stand_ins()
    other = {name: value + 1 for name, value in encoder.items()}
    moco = {**prefixed(encoder, "module.encoder_q."), **prefixed(other, "module.encoder_k."), **dummy("module.queue")}
    module = prefixed(encoder, "module.")
    dino = {"student": prefixed(other, "module.backbone."), "args": argparse.Namespace(arch="resnet50"), "epoch": 800}
    return {
        "imagenet": lambda: stand_ins(classifier=True),
        "moco_v1": lambda: {"epoch": 200, "arch": "resnet50", "state_dict": moco | dummy("module.encoder_q.fc.weight")},
        "moco_v2": lambda: {"epoch": 800, "state_dict": moco | dummy("module.encoder_q.fc.0.weight"), "optimizer": {}},
        "moco_coco": lambda: {"state_dict": moco},
        "swav": lambda: module | dummy("module.projection_head.0.weight", "module.prototypes.weight"),
        "deepcluster_v2": lambda: module | dummy("module.prototypes.prototypes0.weight"),
        "dino": lambda: encoder,
        "dino_full": lambda: dino | {"teacher": prefixed(encoder, "backbone.") | dummy("head.mlp.0.weight")},
        "obow": lambda: {"network": encoder, "epoch": 200, "meters": None},
        "pixpro": lambda: {
            "opt": argparse.Namespace(arch="resnet50"),
            "model": {**prefixed(other, "module.encoder_k."), **prefixed(encoder, "module.encoder.")}
            | dummy("module.projector.linear1.weight"),
        },
    }[layout]()  # fmt: skip


def load(checkpoint: Any, path: Path, **options: Any) -> Teacher:
    torch.save(checkpoint, path)
    return ResNet50Config(weights=path, **options).build()


LAYOUT_FILES = ("imagenet", "moco_v1", "moco_v2", "moco_coco", "swav", "deepcluster_v2", "dino", "dino_full", "obow",
                "pixpro")  # fmt: skip


@pytest.mark.parametrize("file", LAYOUT_FILES)
@pytest.mark.parametrize("automatic", [False, True])
def test_each_published_layout_loads_every_tensor_of_the_encoder(file: str, automatic: bool, tmp_path: Path) -> None:
    layout = "auto" if automatic else file.removesuffix("_full")
    teacher = load(published(file), tmp_path / "weights.pth", layout=layout)
    state = teacher.encoder.state_dict()
    assert all(torch.equal(state[name], value) for name, value in stand_ins().items())
    assert "265 of 265 tensors matched" in teacher.source


def test_unused_heads_are_named(tmp_path: Path) -> None:
    teacher = load(published("moco_v2"), tmp_path / "moco.pth.tar", layout="moco_v2")
    assert teacher.source.endswith("unused: module (266), fc (1)")


def test_files_of_old_torch_and_safetensors_load_too(tmp_path: Path) -> None:
    old, new = tmp_path / "old.pth", tmp_path / "new.safetensors"
    torch.save(stand_ins(), old, _use_new_zipfile_serialization=False)
    save_file({name: value.contiguous() for name, value in stand_ins().items()}, new)
    first, second = (ResNet50Config(weights=path).build().encoder.state_dict() for path in (old, new))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def without(name: str) -> dict[str, Tensor]:
    return {key: value for key, value in stand_ins().items() if key != name}


class Surprise:
    """An object that is neither a tensor nor plain data."""


@pytest.mark.parametrize(
    ("checkpoint", "layout", "message"),
    [
        (without("layer3.2.bn1.running_var"), "auto", r"1 missing \(layer3\.2\.bn1\.running_var\)"),
        (stand_ins() | {"layer1.0.conv1.weight": torch.zeros(128, 64, 1, 1)}, "dino",
         r"layer1\.0\.conv1\.weight \[128, 64, 1, 1\] instead of \[64, 64, 1, 1\]"),
        (stand_ins() | dummy("layer3.6.conv1.weight"), "imagenet", r"1 unknown \(layer3\.6\.conv1\.weight\)"),
        (published("swav"), "moco_v2", r"no ResNet-50 of layout moco_v2 in it; looked for state_dict → "),
        ({"encoder.weight": torch.zeros(1)}, "auto", r"it holds encoder\.weight"),
        ({"state_dict": Surprise()}, "auto", r"more than tensors and plain data"),
        ([torch.zeros(1)], "auto", r"expected a mapping of tensors, found list"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_in_one_line_that_names_it(
    checkpoint: Any, layout: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(checkpoint, tmp_path / "weights.pth", layout=layout)
    assert str(caught.value).startswith(str(tmp_path / "weights.pth"))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.97])
def test_a_truncated_file_is_a_users_mistake(zipped: bool, keep: float, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(stand_ins(), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(UserError, match=r"weights\.pth: "):
        ResNet50Config(weights=path).build()


def test_a_text_file_and_a_missing_file_are_users_mistakes(tmp_path: Path) -> None:
    for name in ("notes.pth", "notes.safetensors"):
        (tmp_path / name).write_text("not weights at all")
        with pytest.raises(UserError, match="notes"):
            ResNet50Config(weights=tmp_path / name).build()
    with pytest.raises(UserError, match=r"no such weights file; .*published by .*efficientnet_lite0 needs no file"):
        ResNet50Config(weights=tmp_path / "absent.pth").build()


def test_random_weights_must_be_asked_for_by_name() -> None:
    with pytest.raises(UserError, match="weights is required"):
        validate(ResNet50Config, {}, "recipe")
    assert "random" in ResNet50Config(weights="random").build().source
