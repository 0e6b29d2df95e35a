"""Networks of labellers: what prepares their images, in which precision they run, and which images go together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builders.vfm import build_mask2former, build_segformer, picture
from olivine.errors import UserError
from olivine.labels.labellers.networks import NetworkConfig, Precision, Runner, load_image_processor, load_tokenizer
from olivine.weights.hub import ModelFiles, find_model

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_a_folder_without_the_numbers_for_images_is_refused(tmp_path: Path) -> None:
    folder = build_segformer(tmp_path, ["road", "car"])
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


def test_half_precision_needs_a_gpu() -> None:
    assert NetworkConfig().runner(CPU).precision == "fp32"
    assert NetworkConfig(precision="bf16").runner(GPU).precision == "bf16"
    with pytest.raises(UserError, match=r"labeller.precision: fp16 needs a CUDA device, this run is on cpu"):
        NetworkConfig(precision="fp16").runner(CPU)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_inside_autocast_matrix_products_have_the_precision(precision: Precision, dtype: torch.dtype) -> None:
    with Runner(CPU, precision).autocast():
        assert torch.nn.functional.linear(torch.ones(2, 3), torch.ones(4, 3)).dtype == dtype


def test_images_go_together_on_a_gpu_alone() -> None:
    assert NetworkConfig(images_at_once=3).runner(CPU).images_at_once == 1
    assert NetworkConfig(images_at_once=3).runner(GPU).images_at_once == 3


@pytest.mark.parametrize("at_once", [1, 2, 3, 7])
def test_batches_hold_every_image_once_and_only_those_of_one_size(at_once: int, tmp_path: Path) -> None:
    processor = load_image_processor(find_model(str(build_mask2former(tmp_path, ["road", "car"]))))
    sizes = [(40, 64), (80, 40), (40, 64), (40, 58), (80, 40), (40, 64)]  # 40 × 58 is padded as 40 × 64 is
    images = [picture(seed, size) for seed, size in enumerate(sizes)]
    batches = list(Runner(CPU, images_at_once=at_once).batches(processor, images))
    assert sorted(position for batch in batches for position in batch.positions) == list(range(6))
    assert [len(batch.inputs["pixel_values"]) for batch in batches] == [at_once] * len(batches)
    assert len(batches) == {1: 6, 2: 3, 3: 3, 7: 2}[at_once]
    for batch in batches:
        for row, position in enumerate(batch.positions):
            alone = processor(images=images[position], input_data_format="channels_last", return_tensors="pt")
            assert batch.inputs.keys() == alone.keys() == {"pixel_values", "pixel_mask"}
            for name, tensor in alone.items():
                assert torch.equal(batch.inputs[name][row], tensor[0])


def test_no_images_are_no_batches(tmp_path: Path) -> None:
    processor = load_image_processor(find_model(str(build_segformer(tmp_path, ["road", "car"]))))
    assert list(Runner(CPU).batches(processor, [])) == []
