"""Tiny networks of the kinds that label images, made of random numbers and saved as published ones are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from olivine.labels.labellers.networks import NetworkConfig, Runner

_WORDS = (
    "barrier bicycle bus car construction vehicle motorcycle person traffic cone trailer truck road water parking "
    "sidewalk grass building wall fence pole sign trees bush ##es"
)
WORDS = _WORDS.split()


def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the networks of labellers on the CPU as if it were a GPU: several images at once, in any precision."""

    def runner(config: NetworkConfig, device: torch.device) -> Runner:
        return Runner(device, config.precision, config.images_at_once)

    monkeypatch.setattr(NetworkConfig, "runner", runner)


def picture(seed: int = 0, size: tuple[int, int] = (48, 64)) -> NDArray[np.uint8]:
    """[H, W, 3] uint8: coarse random blocks."""
    coarse = np.random.default_rng(seed).integers(0, 256, (size[0] // 8 + 1, size[1] // 8 + 1, 3), np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]


def randomized(network: Any, seed: int, gain: float = 1.5) -> Any:
    """Fill a network with numbers that keep signals about as large as they come, so that answers vary over an image."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1:
                decisive = 5.0 if re.search("class_(embed|predictor)|mask_embed", name) else 1.0
                parameter.normal_(0.0, decisive * gain / parameter[0].numel() ** 0.5, generator=generator)
            elif name.endswith("bias"):
                parameter.normal_(0.0, 0.1, generator=generator)
        for name, buffer in network.named_buffers():
            if name.endswith("positional_embedding"):  # SAM 2 draws it, by the generator that all share
                buffer.normal_(generator=generator)
    return network.eval()


def tokenizer(words: list[str] = WORDS) -> Any:
    """A BERT tokenizer of few words; the special ones have the numbers that Grounding DINO expects."""
    vocabulary = {f"[unused{number}]": number for number in range(1030)}
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
    vocabulary = {special.get(number, name): number for name, number in vocabulary.items()}
    return transformers.BertTokenizer(vocab={**vocabulary, **{word: 1030 + n for n, word in enumerate(words)}})


def build_grounding_dino(folder: Path, *, max_text_len: int = 256, seed: int = 0) -> Path:
    """Grounding DINO with a Swin and a BERT of 16 channels."""
    backbone = transformers.SwinConfig(
        window_size=2, embed_dim=8, depths=[1, 1, 1], num_heads=[1, 1, 1], out_indices=[2, 3], drop_path_rate=0.0
    )
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.GroundingDinoConfig(
        backbone_config=backbone,
        text_config=transformers.BertConfig(vocab_size=1100, max_position_embeddings=256, **sizes),
        **{"d_model": 32, "num_queries": 12, "num_feature_levels": 2, "max_text_len": max_text_len},
        **{f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in _TRANSFORMER.items()},
    )
    network = transformers.GroundingDinoForObjectDetection(config)
    randomized(network, seed).save_pretrained(folder)
    size = {"shortest_edge": 48, "longest_edge": 80}
    images = transformers.GroundingDinoImageProcessorPil(size=size)
    transformers.GroundingDinoProcessor(images, tokenizer()).save_pretrained(folder)
    return folder


_TRANSFORMER = {"layers": 2, "ffn_dim": 32, "attention_heads": 2, "n_points": 2}


def _confident(network: Any) -> Any:
    """A SAM that expects much of its masks."""
    with torch.no_grad():
        network.mask_decoder.iou_prediction_head.proj_out.bias += 5.0
    return network


def build_sam(folder: Path, seed: int = 0) -> Path:
    """SAM with an input of 64 × 64."""
    common = {"hidden_size": 16, "image_size": 64, "patch_size": 8}
    attention = {"num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 16}
    config = transformers.SamConfig(
        vision_config={**common, **attention, "output_channels": 16, "num_pos_feats": 8, "global_attn_indexes": [0]},
        prompt_encoder_config={**common, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 16, **attention, "iou_head_hidden_dim": 16},
    )
    _confident(randomized(transformers.SamModel(config), seed)).save_pretrained(folder)
    square = {"height": 64, "width": 64}
    images = transformers.SamImageProcessorPil(size={"longest_edge": 64}, pad_size=square)
    transformers.SamProcessor(images).save_pretrained(folder)
    return folder


def build_sam2(folder: Path, seed: int = 0, *, video: bool = False) -> Path:
    """SAM 2 with an input of 64 × 64; published ones are saved with what follows objects through a video."""
    stages = {"embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 1, 1]}
    blocks = {"blocks_per_stage": [1, 1, 2, 1], "window_size_per_stage": [4, 4, 4, 2], "global_attention_blocks": [3]}
    side = 64
    backbone = {"model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [side, side]}
    settings: dict[str, Any] = {
        "vision_config": {
            "backbone_config": {**backbone, **stages, **blocks},
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[side // 4] * 2, [side // 8] * 2, [side // 16] * 2],
            "fpn_hidden_size": 32,
        },
        "prompt_encoder_config": {"hidden_size": 32, "image_size": side, "mask_input_channels": 4},
        "mask_decoder_config": {
            **{"hidden_size": 32, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
            "iou_head_hidden_dim": 16,
        },
    }
    if video:
        layers = {f"memory_{part}_num_layers": 1 for part in ("attention", "fuser")}
        sizes = {"memory_attention_hidden_size": 32, "memory_encoder_hidden_size": 32, "memory_fuser_embed_dim": 32}
        memory = {"mask_downsampler_embed_dim": 32, "memory_encoder_output_channels": 16, "image_size": side}
        network = transformers.Sam2VideoModel(transformers.Sam2VideoConfig(**settings, **layers, **sizes, **memory))
    else:
        network = transformers.Sam2Model(transformers.Sam2Config(**settings))
    _confident(randomized(network, seed)).save_pretrained(folder)
    square = {"height": side, "width": side}
    transformers.ViTImageProcessorPil(size=square).save_pretrained(folder)
    return folder


def _labels(labels: list[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: n for n, label in enumerate(labels)}}


def build_segformer(folder: Path, labels: list[str], seed: int = 0) -> Path:
    """SegFormer with an input of 64 × 64."""
    config = transformers.SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        mlp_ratios=[1, 1, 1, 1],
        decoder_hidden_size=16,
        **_labels(labels),
    )
    randomized(transformers.SegformerForSemanticSegmentation(config), seed).save_pretrained(folder)
    transformers.ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def build_mask2former(folder: Path, labels: list[str], seed: int = 0) -> Path:
    """Mask2Former; inputs are padded to multiples of 32."""
    backbone = transformers.SwinConfig(
        window_size=2, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], out_indices=[1, 2, 3, 4]
    )
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone,
        **{"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 32},
        **{"encoder_layers": 1, "decoder_layers": 2, "dim_feedforward": 32, "num_attention_heads": 2},
        num_queries=6,
        **_labels(labels),
    )
    randomized(transformers.Mask2FormerForUniversalSegmentation(config), seed).save_pretrained(folder)
    transformers.Mask2FormerImageProcessorPil(size={"shortest_edge": 40, "longest_edge": 80}).save_pretrained(folder)
    return folder


def build_oneformer(folder: Path, labels: list[str], seed: int = 0) -> Path:
    """OneFormer, with the tokenizer that reads its task."""
    backbone = transformers.SwinConfig(
        window_size=2, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], out_indices=[1, 2, 3, 4]
    )
    config = transformers.OneFormerConfig(
        backbone_config=backbone,
        **{"conv_dim": 32, "mask_dim": 32, "hidden_dim": 32, "encoder_feedforward_dim": 32, "dim_feedforward": 32},
        **{"encoder_layers": 1, "decoder_layers": 2, "query_dec_layers": 1, "num_attention_heads": 2},
        **{"num_queries": 6, "task_seq_len": 8, "text_encoder_vocab_size": 1100, "text_encoder_width": 32},
        **{"text_encoder_context_length": 8, "text_encoder_num_layers": 1, "text_encoder_proj_layers": 1},
        use_auxiliary_loss=False,
        **_labels(labels),
    )
    randomized(transformers.OneFormerForUniversalSegmentation(config), seed).save_pretrained(folder)
    settings = {"image_processor_type": "OneFormerImageProcessor", "size": {"shortest_edge": 40, "longest_edge": 80}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    tokenizer(["the", "task", "is", "semantic"]).save_pretrained(folder)
    return folder
