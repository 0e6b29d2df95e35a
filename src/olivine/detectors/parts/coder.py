"""Boxes as seen from anchors: the residual code of SECOND (Yan et al., Sensors 2018, eq. 1), and its headings.

A code has seven numbers: the offset of the centre, in x and y over the anchor's diagonal on the ground, in z over its
height; the logarithms of the three ratios of sizes; and the difference of the yaws. A yaw that is learned by its sine
cannot tell front from back, so a second output chooses between two bins of half a turn.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from olivine.geometry import limit_period

CODE_SIZE = 7
"""Numbers in a code."""
DIRECTION_BINS = 2
"""Headings that are told apart beside the code."""

_DIRECTION_OFFSET_RAD = 0.78539
"""Where the first bin begins: published with these five digits, which are not all of π/4."""
_LEAST_SIZE_M = 1e-5
"""Sizes are raised to this before they are divided by, or their logarithm is taken."""


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """The codes of boxes.

    Args:
        boxes: [..., 7] (x, y, z, dx, dy, dz, yaw), metres and radians.
        anchors: [..., 7] likewise; the anchor of each box.

    Returns:
        [..., 7] codes.
    """
    size, anchor_size = boxes[..., 3:6].clamp(min=_LEAST_SIZE_M), anchors[..., 3:6].clamp(min=_LEAST_SIZE_M)
    offset = (boxes[..., :3] - anchors[..., :3]) / _reach(anchor_size)
    return torch.cat((offset, torch.log(size / anchor_size), boxes[..., 6:] - anchors[..., 6:]), dim=-1)


def decode(codes: Tensor, anchors: Tensor) -> Tensor:
    """The boxes of codes; the inverse of `encode` for boxes and anchors of at least 10 µm.

    Args:
        codes: [..., 7].
        anchors: [..., 7] (x, y, z, dx, dy, dz, yaw), metres and radians; the anchor of each code.

    Returns:
        [..., 7] boxes; yaw in no particular period.
    """
    size = anchors[..., 3:6]
    centre = codes[..., :3] * _reach(size) + anchors[..., :3]
    return torch.cat((centre, torch.exp(codes[..., 3:6]) * size, codes[..., 6:] + anchors[..., 6:]), dim=-1)


def direction_bin(yaw: Tensor) -> Tensor:
    """The bin of each heading.

    Args:
        yaw: [...] radians.

    Returns:
        [...] int64: 0 from 0.78539 on for half a turn, 1 beyond.
    """
    bins = limit_period(yaw - _DIRECTION_OFFSET_RAD, 0, 2 * math.pi) / (2 * math.pi / DIRECTION_BINS)
    return bins.floor().long().clamp(0, DIRECTION_BINS - 1)


def yaw_after_direction(yaw: Tensor, direction: Tensor) -> Tensor:
    """Headings turned by half a turn where the bin asks for it.

    Args:
        yaw: [...] radians, right up to half a turn.
        direction: [...] int64 bin, as of `direction_bin`.

    Returns:
        [...] radians in 0.785…7.07, not wrapped, as published.
    """
    half = limit_period(yaw - _DIRECTION_OFFSET_RAD, 0, 2 * math.pi / DIRECTION_BINS)
    return half + _DIRECTION_OFFSET_RAD + 2 * math.pi / DIRECTION_BINS * direction.to(yaw.dtype)


def _reach(size: Tensor) -> Tensor:
    """[..., 3] what offsets are measured in: twice the anchor's diagonal on the ground, and its height."""
    diagonal = torch.sqrt(size[..., 0] ** 2 + size[..., 1] ** 2)
    return torch.stack((diagonal, diagonal, size[..., 2]), dim=-1)
