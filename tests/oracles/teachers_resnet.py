"""ResNet-50 written out from Table 1 of 1512.03385: every name and shape, and a pass over a plain dictionary."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

STAGES = {"layer1": (64, 3), "layer2": (128, 4), "layer3": (256, 6), "layer4": (512, 3)}


def shapes(classifier: bool = False) -> dict[str, tuple[int, ...]]:
    """Parameters and running statistics of ResNet-50 by torchvision's names."""
    found: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7), **_norm("bn1", 64)}
    inputs = 64
    for stage, (planes, blocks) in STAGES.items():
        for block in range(blocks):
            at = f"{stage}.{block}"
            found |= {f"{at}.conv1.weight": (planes, inputs, 1, 1), **_norm(f"{at}.bn1", planes)}
            found |= {f"{at}.conv2.weight": (planes, planes, 3, 3), **_norm(f"{at}.bn2", planes)}
            found |= {f"{at}.conv3.weight": (4 * planes, planes, 1, 1), **_norm(f"{at}.bn3", 4 * planes)}
            if block == 0:
                found |= {f"{at}.downsample.0.weight": (4 * planes, inputs, 1, 1)}
                found |= _norm(f"{at}.downsample.1", 4 * planes)
            inputs = 4 * planes
    return found | ({"fc.weight": (1000, 2048), "fc.bias": (1000,)} if classifier else {})


def stand_ins(classifier: bool = False) -> dict[str, Tensor]:
    """A tensor for every name, each filled with its own value; a few bytes each when saved."""
    return {
        name: torch.full((1,), index / 1000).expand(shape)
        for index, (name, shape) in enumerate(shapes(classifier).items(), start=1)
    }


def forward(tensors: dict[str, Tensor], images: Tensor) -> Tensor:
    """The last map at the ordinary stride of 32."""
    x = F.conv2d(images, tensors["conv1.weight"], stride=2, padding=3)
    x = F.max_pool2d(_normed(x, tensors, "bn1").clamp(min=0), 3, 2, 1)
    for stage, (_, blocks) in STAGES.items():
        for block in range(blocks):
            at, stride = f"{stage}.{block}", 2 if block == 0 and stage != "layer1" else 1
            y = _normed(F.conv2d(x, tensors[f"{at}.conv1.weight"]), tensors, f"{at}.bn1").clamp(min=0)
            y = F.conv2d(y, tensors[f"{at}.conv2.weight"], stride=stride, padding=1)
            y = _normed(y, tensors, f"{at}.bn2").clamp(min=0)
            y = _normed(F.conv2d(y, tensors[f"{at}.conv3.weight"]), tensors, f"{at}.bn3")
            if block == 0:
                x = F.conv2d(x, tensors[f"{at}.downsample.0.weight"], stride=stride)
                x = _normed(x, tensors, f"{at}.downsample.1")
            x = (x + y).clamp(min=0)
    return x


def _norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def _normed(x: Tensor, tensors: dict[str, Tensor], name: str) -> Tensor:
    mean, variance, gain, bias = (
        tensors[f"{name}.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * gain + bias
