from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from olivine.config import validate
from olivine.errors import MissingExtraError, UserError
from olivine.teachers import ImageHead, VitConfig
from olivine.teachers.base import IMAGENET_MEAN, IMAGENET_STD
from olivine.testing.teachers import Build, TeacherContract, pictures
from teachers.tiny_vits import KINDS, MEAN, STD, make_vit, save_vit

FIRST_PATCH = {"vit": 1, "dinov2": 1, "dinov2_with_registers": 4, "dinov3_vit": 3}
PATCH = {"vit": 8, "dinov2": 7, "dinov2_with_registers": 7, "dinov3_vit": 8}
HERE = [kind for kind, (name, _) in KINDS.items() if hasattr(transformers, f"{name}Model")]


class VitContract(TeacherContract):
    kind: str
    layers: tuple[int, ...] = (-1,)
    patches = True

    @classmethod
    def builder(cls, folder: Path) -> Build:
        return VitConfig(weights=str(save_vit(cls.kind, folder)), layers=cls.layers).build


class TestDino(VitContract):
    kind = "vit"
    strides = (8,)
    level_channels = (16,)


class TestDinov2(VitContract):
    kind = "dinov2"
    strides = (7,)
    level_channels = (16,)


class TestDinov2WithRegisters(VitContract):
    kind = "dinov2_with_registers"
    strides = (7,)
    level_channels = (16,)


class TestTwoLayersOfDinov2WithRegisters(VitContract):
    kind = "dinov2_with_registers"
    layers = (1, -1)
    strides = (7, 7)
    level_channels = (16, 16)


@pytest.mark.skipif("dinov3_vit" not in HERE, reason="this transformers has no DINOv3")
class TestDinov3(VitContract):
    kind = "dinov3_vit"
    layers = (2, 3)
    strides = (8, 8)
    level_channels = (16, 16)


def normalised(images: Tensor) -> Tensor:
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def cells(tokens: Tensor, first: int, columns: int) -> dict[tuple[int, int], Tensor]:
    """Patch tokens [M, tokens, C] by (row, column), row after row as the models lay them out."""
    return {divmod(index, columns): tokens[:, first + index] for index in range(tokens.shape[1] - first)}


@pytest.mark.parametrize("kind", HERE)
def test_maps_are_the_models_own_patch_tokens_in_their_places(kind: str, tmp_path: Path) -> None:
    patch, depth = PATCH[kind], 3
    teacher = VitConfig(weights=str(save_vit(kind, tmp_path)), layers=(1, 2, 3)).build()
    images = pictures(2, (4 * patch, 6 * patch))
    model = make_vit(kind)
    seen: list[Tensor] = []
    blocks = [module for module in model.modules() if type(module).__name__.endswith("Layer")]
    assert len(blocks) == depth
    for block in blocks:
        block.register_forward_hook(lambda _, __, out: seen.append(out if isinstance(out, Tensor) else out[0]))
    options = {"interpolate_pos_encoding": True} if kind == "vit" else {}
    with torch.no_grad():
        last = model(normalised(images), **options).last_hidden_state
        norm = model.norm if kind == "dinov3_vit" else model.layernorm
        expected = [norm(seen[0]), norm(seen[1]), last]
    for level, tokens in zip(teacher(images), expected, strict=True):
        assert level.shape == (2, 16, 4, 6)
        for (row, column), feature in cells(tokens, FIRST_PATCH[kind], 6).items():
            torch.testing.assert_close(level[:, :, row, column], feature, rtol=0, atol=1e-5)


def test_layers_count_from_either_end_and_the_last_is_the_default(tmp_path: Path) -> None:
    folder, images = str(save_vit("dinov2", tmp_path)), pictures(1, (28, 28))
    first, second, third = VitConfig(weights=folder, layers=(1, 2, 3)).build()(images)
    backwards = VitConfig(weights=folder, layers=(-1, -3, -2)).build()(images)
    assert all(torch.equal(a, b) for a, b in zip(backwards, (third, first, second), strict=True))
    assert torch.equal(VitConfig(weights=folder).build()(images)[0], third)


@pytest.mark.parametrize("kind", HERE)
def test_a_changed_patch_changes_its_own_cell_most(kind: str, tmp_path: Path) -> None:
    patch = PATCH[kind]
    teacher = VitConfig(weights=str(save_vit(kind, tmp_path))).build()
    images = pictures(1, (5 * patch - 3, 7 * patch - 2))
    for row, column in [(0, 0), (2, 5), (4, 6)]:
        changed = images.clone()
        changed[:, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] += 3
        difference = (teacher(changed)[0] - teacher(images)[0]).norm(dim=1)[0]
        assert difference.shape == (5, 7)
        assert divmod(int(difference.argmax()), 7) == (row, column)


@pytest.mark.parametrize("kind", HERE)
def test_an_uneven_image_is_continued_by_its_last_row_and_column(kind: str, tmp_path: Path) -> None:
    patch = PATCH[kind]
    teacher = VitConfig(weights=str(save_vit(kind, tmp_path))).build()
    whole = pictures(1, (3 * patch, 4 * patch))
    height, width = 3 * patch - 2, 4 * patch - 3
    whole[:, :, height:] = whole[:, :, height - 1 : height]
    whole[:, :, :, width:] = whole[:, :, :, width - 1 : width]
    torch.testing.assert_close(teacher(whole[:, :, :height, :width])[0], teacher(whole)[0], rtol=0, atol=1e-5)


def test_both_heads_take_its_features(tmp_path: Path) -> None:
    teacher = VitConfig(weights=str(save_vit("dinov2", tmp_path)), layers=(2, -1)).build()
    features = teacher.sample(pictures(2, (30, 40)), torch.tensor([0, 1]), torch.tensor([[0.0, 0.0], [39.0, 29.0]]))
    assert ImageHead(teacher.channels, 8)(features).shape == (2, 8)


def test_pixels_are_normalised_as_the_processor_says_or_as_for_imagenet(tmp_path: Path) -> None:
    own = VitConfig(weights=str(save_vit("vit", tmp_path / "own"))).build()
    without = VitConfig(weights=str(save_vit("vit", tmp_path / "without", processor=False))).build()
    assert own.mean.flatten().tolist() == pytest.approx(MEAN)
    assert own.std.flatten().tolist() == pytest.approx(STD)
    assert own.source.endswith("pixels normalised as its processor says")
    assert without.mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)
    assert without.std.flatten().tolist() == pytest.approx(IMAGENET_STD)
    assert without.source.endswith("pixels normalised as for ImageNet")


def test_its_source_tells_other_weights_in_the_same_folder_apart(tmp_path: Path) -> None:
    first, second = (VitConfig(weights=str(save_vit("vit", tmp_path, seed=seed))).build().source for seed in (0, 1))
    assert str(tmp_path) in first
    assert "sha256" in first
    assert first != second


def test_a_file_without_the_pooler_or_with_a_classifier_serves(tmp_path: Path) -> None:
    folder = save_vit("vit", tmp_path)
    before = VitConfig(weights=str(folder)).build()
    tensors = load_file(folder / "model.safetensors")
    changed = {name: value for name, value in tensors.items() if "pooler" not in name}
    save_file(changed | {"classifier.weight": torch.zeros(2, 16)}, folder / "model.safetensors", {"format": "pt"})
    after = VitConfig(weights=str(folder)).build()
    images = pictures(1, (24, 24))
    assert torch.equal(before(images)[0], after(images)[0])
    assert "unused: classifier" in after.source


def spoil(folder: Path, how: str) -> None:
    weights = folder / "model.safetensors"
    if how == "no weights":
        weights.unlink()
    elif how == "pickle only":
        weights.rename(folder / "pytorch_model.bin")
    elif how == "no config":
        (folder / "config.json").unlink()
    elif how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif how == "incomplete":
        tensors = load_file(weights)
        tensors.pop(next(name for name in tensors if name.endswith("cls_token")))
        save_file(tensors, weights, {"format": "pt"})
    elif how == "another shape":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}))
    elif how == "other family":
        config = transformers.BeitConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                         intermediate_size=32, image_size=16, patch_size=8)  # fmt: skip
        transformers.BeitModel(config).save_pretrained(folder)
    elif how == "no model":
        (folder / "config.json").write_text("{}", encoding="utf-8")
    elif how == "processor":
        (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5], "image_std": [1, 1, 1]}))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no weights", "model.safetensors is missing; fetch it"),
        ("pickle only", r"only pickled weights \(pytorch_model.bin\), which are not read"),
        ("no config", "config.json is missing; fetch it"),
        ("truncated", "transformers cannot load AutoModel from"),
        ("incomplete", r"1 missing \(.*cls_token"),
        ("another shape", "transformers cannot load AutoModel|of another shape"),
        ("other family", "a beit cannot teach here; known are vit, dinov2,"),
        ("no model", "transformers cannot load AutoModel from"),
        ("processor", "needs three means"),
    ],
)
def test_a_wrong_folder_is_refused_in_one_line_that_names_it(how: str, message: str, tmp_path: Path) -> None:
    folder = save_vit("vit", tmp_path / "model")
    spoil(folder, how)
    with pytest.raises(UserError, match=message) as caught:
        VitConfig(weights=str(folder)).build()
    assert str(caught.value).startswith(str(folder))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "no/such/folder"}, "no such folder; give the folder of a model"),
        ({"weights": "some-owner/no-such-model", "local_files_only": True}, "hf download some-owner/no-such-model"),
    ],
)
def test_weights_that_are_not_there_say_what_to_fetch(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        VitConfig(**settings).build()
    assert len(str(caught.value).splitlines()) == 1


def test_a_hub_name_is_read_from_the_cache_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--owner--tiny"
    save_vit("dinov2", repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    named = VitConfig(weights="owner/tiny", local_files_only=True).build()
    assert f"owner/tiny at {commit}" in named.source
    folder = tmp_path / "copy"
    shutil.copytree(repository / "snapshots" / commit, folder)
    images = pictures(1, (28, 28))
    assert torch.equal(named(images)[0], VitConfig(weights=str(folder)).build()(images)[0])
    other = "f" * 40
    save_vit("dinov2", repository / "snapshots" / other, seed=1)
    pinned = VitConfig(weights="owner/tiny", revision=other, local_files_only=True).build()
    assert f"owner/tiny at {other}" in pinned.source
    assert not torch.equal(named(images)[0], pinned(images)[0])


@pytest.mark.parametrize("layers", [(), (0,), (1, 1)])
def test_layers_that_mean_nothing_are_refused_by_key(layers: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="layers"):
        validate(VitConfig, {"weights": "x", "layers": layers}, "recipe")


@pytest.mark.parametrize("layer", [4, -4])
def test_layers_the_model_does_not_have_are_refused(layer: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 3 blocks"):
        VitConfig(weights=str(save_vit("vit", tmp_path)), layers=(layer,)).build()


def test_the_missing_library_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_vit("vit", tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'olivine\[vfm\]'"):
        VitConfig(weights=str(folder)).build()
