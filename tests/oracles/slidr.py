"""SLidR's loss the dense way, superpixel by superpixel: all pixels are projected, normalised and kept."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def dense_pixels(maps: list[Tensor], weight: Tensor, bias: Tensor, size: tuple[int, int]) -> Tensor:
    """[M, D, H, W] upsampled levels side by side → 1×1 convolution → unit length."""
    levels = [F.interpolate(level, (size[1], size[0]), mode="bilinear", align_corners=True) for level in maps]
    return F.normalize(F.conv2d(torch.cat(levels, 1), weight, bias), dim=1)


def superpixels(segments: Tensor, image: Tensor, uv: Tensor) -> dict[tuple[int, int], list[int]]:
    """The pairs in each superpixel that holds one, by (image, number)."""
    members: dict[tuple[int, int], list[int]] = {}
    for pair in range(len(image)):
        u, v = (round(float(position)) for position in uv[pair])
        number = int(segments[image[pair], v, u])
        if number >= 0:
            members.setdefault((int(image[pair]), number), []).append(pair)
    return members


def loss(points: Tensor, pixels: Tensor, segments: Tensor, image: Tensor, uv: Tensor, temperature: float) -> Tensor:
    """InfoNCE of superpoints and superpixels.

    Args:
        points: [P, D] unit features of the pairs' points.
        pixels: [M, D, H, W] unit features of all pixels.
        segments: [M, H, W] superpixels.
        image: [P] image of each pair.
        uv: [P, 2] pixel of each pair.
        temperature: τ.
    """
    k, q = [], []
    for (picture, number), pairs in superpixels(segments, image, uv).items():
        k.append(torch.stack([points[pair] for pair in pairs]).mean(0))
        q.append(pixels[picture][:, segments[picture] == number].mean(1))
    total = torch.zeros((), dtype=points.dtype)
    for own in range(len(k)):
        every = torch.stack([torch.exp(k[own] @ other / temperature) for other in q]).sum()
        total = total - torch.log(torch.exp(k[own] @ q[own] / temperature) / every)
    return total / len(k)
