"""Vision transformers that take no time: transformers' own, of random weights, saved as publishers save theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViT", {"image_size": 32, "patch_size": 8}),
    "dinov2": ("Dinov2", {"image_size": 28, "patch_size": 7, "mlp_ratio": 2}),
    "dinov2_with_registers": (
        "Dinov2WithRegisters",
        {"image_size": 28, "patch_size": 7, "mlp_ratio": 2, "num_register_tokens": 3},
    ),
    "dinov3_vit": ("DINOv3ViT", {"image_size": 32, "patch_size": 8, "num_register_tokens": 2}),
}
"""By `model_type`: the name transformers gives its classes, and settings."""

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]


def make_vit(kind: str, *, seed: int = 0, **settings: Any) -> Any:
    """A tiny model of a family."""
    name, own = KINDS[kind]
    config = getattr(transformers, f"{name}Config")(**SMALL | own | settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, f"{name}Model")(config)
        # Position embeddings and layer scales start near nothing; trained ones do not.
        for value in model.parameters():
            value.data += 0.05 * torch.randn(value.shape)
    return model.eval()


def save_vit(kind: str, folder: Path, *, seed: int = 0, processor: bool = True, **settings: Any) -> Path:
    """Save a tiny model with its processor's settings; returns the folder."""
    make_vit(kind, seed=seed, **settings).save_pretrained(folder)
    if processor:
        content = {"image_mean": MEAN, "image_std": STD, "image_processor_type": "ViTImageProcessor"}
        (folder / "preprocessor_config.json").write_text(json.dumps(content), encoding="utf-8")
    return folder
