"""The head of SECOND: class scores, box codes and headings of all anchors by three 1×1 convolutions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from olivine.detectors.parts.coder import CODE_SIZE, DIRECTION_BINS

_FIRST_SCORE = 0.01
"""Score of every class before anything is learned, so that the many empty anchors do not drown the rest (focal loss,
Lin et al., ICCV 2017, 4.1)."""
_FIRST_CODES_STD = 0.001


@dataclass(frozen=True)
class HeadOutputs:
    """What a network says of all anchors of a batch, in their order. B frames, A anchors, C classes.

    Attributes:
        class_logits: [B, A, C] logits of the classes.
        codes: [B, A, 7] codes of boxes, as of `olivine.detectors.parts.coder`.
        direction_logits: [B, A, 2] logits of the bins of headings.
    """

    class_logits: Tensor
    codes: Tensor
    direction_logits: Tensor

    def __len__(self) -> int:
        return len(self.class_logits)


class AnchorHead(nn.Module):
    """Three 1×1 convolutions, which carry the names of the published code.

    Args:
        in_channels: channels of the map.
        classes: C.
        per_pixel: anchors over one pixel.
    """

    def __init__(self, in_channels: int, classes: int, per_pixel: int) -> None:
        super().__init__()
        self.classes = classes
        self.conv_cls = nn.Conv2d(in_channels, per_pixel * classes, 1)
        self.conv_box = nn.Conv2d(in_channels, per_pixel * CODE_SIZE, 1)
        self.conv_dir_cls = nn.Conv2d(in_channels, per_pixel * DIRECTION_BINS, 1)
        assert self.conv_cls.bias is not None
        nn.init.constant_(self.conv_cls.bias, -math.log((1 - _FIRST_SCORE) / _FIRST_SCORE))
        nn.init.normal_(self.conv_box.weight, 0, _FIRST_CODES_STD)

    def forward(self, map_: Tensor) -> HeadOutputs:
        """[B, in_channels, Y, X] → what is said of all anchors over the map."""
        # As one convolution, which reads the map once.
        parts = (self.conv_cls, self.conv_box, self.conv_dir_cls)
        biases = [part.bias for part in parts if part.bias is not None]
        out = nn.functional.conv2d(map_, torch.cat([part.weight for part in parts]), torch.cat(biases))
        out = out.to(torch.promote_types(out.dtype, torch.float32))  # boxes and losses need the digits
        by_pixel = torch.split(torch.permute(out, (0, 2, 3, 1)), [part.out_channels for part in parts], dim=3)
        sizes = (self.classes, CODE_SIZE, DIRECTION_BINS)
        return HeadOutputs(*(part.reshape(len(map_), -1, size) for part, size in zip(by_pixel, sizes, strict=True)))
