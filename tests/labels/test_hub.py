"""Models are found offline, loaded whole or not at all, and what is missing is said in one line."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from builders.vfm import build_segformer
from olivine.errors import MissingExtraError, UserError
from olivine.labels.hub import (
    ModelFiles,
    check_precision,
    find_model,
    load_image_processor,
    load_network,
    load_tokenizer,
)

CPU = torch.device("cpu")
CLASS = "SegformerForSemanticSegmentation"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_segformer(tmp_path_factory.mktemp("segformer"), ["road", "car"])


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(published, tmp_path / "model"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_is_identified_by_the_hashes_of_its_files(published: Path) -> None:
    files = find_model(str(published))
    assert (files.folder, files.commit, files.model_type) == (published, None, "segformer")
    said = files.provenance()
    assert said["model"] == str(published)
    hashes = said["sha256"]
    assert isinstance(hashes, dict)
    assert set(hashes) == {"config.json", "model.safetensors", "preprocessor_config.json"}
    weights = (published / "model.safetensors").read_bytes()
    assert hashes["model.safetensors"] == hashlib.sha256(weights).hexdigest()


def test_a_hub_model_in_the_cache_is_found_offline_and_identified_by_its_commit(published: Path, cache: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = cache / "models--someone--segformer-tiny"
    shutil.copytree(published, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    files = find_model("someone/segformer-tiny", local_files_only=True)
    assert files.folder == repository / "snapshots" / commit
    assert files.provenance() == {"model": "someone/segformer-tiny", "commit": commit}
    assert find_model("someone/segformer-tiny", revision=commit, local_files_only=True).commit == commit
    with pytest.raises(UserError, match="--revision v2"):
        find_model("someone/segformer-tiny", revision="v2", local_files_only=True)


@pytest.mark.parametrize("by", ["key", "environment"])
def test_a_missing_model_is_one_line_that_says_what_to_fetch(
    by: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError) as caught:
        find_model("facebook/sam-vit-huge", local_files_only=by == "key")
    said = one_line(caught)
    assert said.startswith(f"facebook/sam-vit-huge: no such folder, not in the model cache {cache} ")
    assert "hf download facebook/sam-vit-huge --include '*.json' '*.txt' '*.safetensors'" in said


@pytest.mark.parametrize("name", ["./weights/sam", "/weights/sam", "sam", "a/b/c"])
def test_what_cannot_be_a_hub_name_is_a_folder_that_does_not_exist(name: str) -> None:
    with pytest.raises(UserError, match="no such folder; give the folder of a model"):
        find_model(name)


def test_a_folder_has_no_revision(published: Path) -> None:
    with pytest.raises(UserError, match="a folder has no revision 'v2'"):
        find_model(str(published), revision="v2")


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError) as caught:
        find_model(str(folder))
    assert f"{folder} has only pickled weights (pytorch_model.bin), which are not read" in one_line(caught)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_refused_by_its_name(missing: str, folder: Path) -> None:
    (folder / missing).unlink()
    with pytest.raises(UserError, match=f"{missing} is missing; fetch it"):
        find_model(str(folder))


def test_a_folder_without_the_numbers_for_images_is_refused(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match="cannot load ViTImageProcessorPil"):
        load_image_processor(find_model(str(folder)))
    with pytest.raises(UserError, match="cannot load AutoTokenizer"):
        load_tokenizer(find_model(str(folder)))


# Settings as published checkpoints have them, old and new, and what a picture of 48 × 64 becomes.
_COLOURS = {"do_normalize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_RESIZE = {"do_resize": True, "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, **_COLOURS}
PUBLISHED: dict[str, tuple[str, dict[str, Any], tuple[int, int]]] = {
    "old segformer": (
        "segformer",
        {"feature_extractor_type": "SegformerFeatureExtractor", "size": 512, "reduce_labels": True, **_RESIZE},
        (512, 512),
    ),
    "mask2former": (
        "mask2former",
        {
            **{"image_processor_type": "Mask2FormerImageProcessor", "_max_size": 2048, "size_divisor": 32},
            **{"size": {"shortest_edge": 90, "longest_edge": 2048}, "ignore_index": 255, "num_labels": 19, **_RESIZE},
        },
        (96, 128),
    ),
    "oneformer": (
        "oneformer",
        {
            **{"image_processor_type": "OneFormerImageProcessor", "_max_size": 2048, "num_text": 234},
            **{"class_info_file": "cityscapes_panoptic.json", "repo_path": "shi-labs/oneformer_demo"},
            **{"size": {"shortest_edge": 90, "longest_edge": 2048}, "metadata": {"0": "road"}, **_RESIZE},
        },
        (90, 120),
    ),
    "sam": (
        "sam",
        {
            **{"image_processor_type": "SamImageProcessor", "do_pad": True, "do_convert_rgb": True, **_RESIZE},
            **{"pad_size": {"height": 1024, "width": 1024}, "size": {"longest_edge": 1024}},
        },
        (1024, 1024),
    ),
    "sam 2": (
        "sam2_video",
        {
            **{"image_processor_type": "Sam2ImageProcessorFast", "default_to_square": True, "device": None, **_RESIZE},
            **{"mask_size": {"height": 256, "width": 256}, "size": {"height": 1024, "width": 1024}},
        },
        (1024, 1024),
    ),
    "grounding dino": (
        "grounding-dino",
        {
            **{"image_processor_type": "GroundingDinoImageProcessor", "format": "coco_detection", "do_pad": True},
            **{"pad_size": None, "size": {"shortest_edge": 800, "longest_edge": 1333}, **_RESIZE},
        },
        (800, 1066),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_image_settings_of_published_checkpoints_are_understood(name: str, tmp_path: Path) -> None:
    kind, settings, size = PUBLISHED[name]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    processor = load_image_processor(ModelFiles(name, tmp_path, None))
    white = np.full((48, 64, 3), 255, np.uint8)
    pixels = processor(images=white, input_data_format="channels_last", return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, *size)
    mean, std = (torch.tensor(_COLOURS[key]) for key in ("image_mean", "image_std"))
    torch.testing.assert_close(pixels[0, :, 0, 0], (1 - mean) / std)


def test_a_network_is_loaded_frozen_and_whole(published: Path) -> None:
    network = load_network(find_model(str(published)), CLASS, CPU)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    stored = load_file(published / "model.safetensors")
    loaded = list(network.state_dict().values())
    assert len(loaded) == len(stored)
    for tensor in stored.values():  # some have another name in memory than in the file
        assert any(torch.equal(tensor, other) for other in loaded)


def test_weights_that_lack_a_tensor_are_refused_instead_of_filled_with_random_numbers(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    lost = "decode_head.classifier.weight"
    del tensors[lost]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"lacks 1 weights of {CLASS} \\({lost}\\)"):
        load_network(find_model(str(folder)), CLASS, CPU)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_damaged_files_are_one_line(file: str, folder: Path) -> None:
    (folder / file).write_bytes(b"nonsense")
    with pytest.raises(UserError, match=str(folder)) as caught:
        load_network(find_model(str(folder)), CLASS, CPU)
    one_line(caught)


def test_a_config_that_does_not_say_its_type_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match="does not say its model_type"):
        _ = find_model(str(folder)).model_type


def test_without_transformers_the_extra_is_named(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'olivine\[vfm\]'"):
        load_network(find_model(str(published)), CLASS, CPU)


def test_half_precision_needs_a_gpu() -> None:
    check_precision("fp32", CPU)
    check_precision("bf16", torch.device("cuda"))
    with pytest.raises(UserError, match=r"labeller.precision: fp16 needs a CUDA device, this run is on cpu"):
        check_precision("fp16", CPU)
