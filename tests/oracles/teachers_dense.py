"""The published image head, done the dense way: project the map, upsample it to the image, normalise, pick pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def dense_features(maps: list[Tensor], image: Tensor, uv: Tensor, size: tuple[int, int]) -> Tensor:
    """Upsample every level to the whole image and pick integer pixels: [P, ΣC]."""
    dense = torch.cat(
        [F.interpolate(level, (size[1], size[0]), mode="bilinear", align_corners=True) for level in maps], 1
    )
    return dense[image, :, uv[:, 1].long(), uv[:, 0].long()]


def dense_head(level: Tensor, weight: Tensor, bias: Tensor, image: Tensor, uv: Tensor, size: tuple[int, int]) -> Tensor:
    """1×1 convolution → upsampling → normalisation over the whole image, then integer pixels: [P, D]."""
    projected = F.conv2d(level, weight, bias)
    dense = F.normalize(_upsample(projected, size), dim=1)
    return dense[image, :, uv[:, 1].long(), uv[:, 0].long()]


def surface(cells: list[list[float]], u: float, v: float, size: tuple[int, int]) -> float:
    """The corner-aligned bilinear surface over one channel's cells, at any (u, v), in scalar arithmetic."""
    height, width = len(cells), len(cells[0])
    x = u * (width - 1) / (size[0] - 1)
    y = v * (height - 1) / (size[1] - 1)
    total = 0.0
    for row in range(height):
        for column in range(width):
            total += max(0.0, 1 - abs(x - column)) * max(0.0, 1 - abs(y - row)) * cells[row][column]
    return total


def all_pixels(images: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Every pixel of every image: image [P] and uv [P, 2] float64."""
    image, v, u = torch.meshgrid(torch.arange(images), torch.arange(size[1]), torch.arange(size[0]), indexing="ij")
    return image.flatten(), torch.stack([u.flatten(), v.flatten()], 1).double()


def _upsample(level: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(level, (size[1], size[0]), mode="bilinear", align_corners=True)
