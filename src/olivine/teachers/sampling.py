"""Features at pixels, and the head that projects them: "sample, then project".

The published image head is a 1×1 convolution of the feature map, bilinear upsampling to the image (corners aligned),
and L2 normalisation, of which only the pixels that points fall on are ever read. Convolution and upsampling are linear
and commute, so here the encoder's features are interpolated at those pixels first and projected after: the same
numbers, without the [cameras × H × W × channels] map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sample_features(
    maps: Sequence[Tensor], image: Tensor, uv: Tensor, size: tuple[int, int], *, patch: int | None = None
) -> Tensor:
    """Interpolate feature maps at pixels of the image they were made from.

    At an integer pixel this is what upsampling the map to the image's size, bilinear with `align_corners=True`, has
    at that pixel; between pixels it is the same piecewise-bilinear surface. Where cells are patches, a cell's feature
    is that of its patch's centre instead: bilinear upsampling with `align_corners=False`. Differentiable in the maps.

    Args:
        maps: one [M, C_l, h_l, w_l] floating map per level.
        image: [P] int64 row of the maps each pixel lies in.
        uv: [P, 2] float pixel (column, row), pixel centres at integers; a pixel beyond the border is read at it.
        size: (W, H) of the images, pixels.
        patch: cells are square patches of so many pixels, the first in the image's upper left corner; None: the
            outermost cells lie on the image's corner pixels.

    Returns:
        [P, ΣC_l] the levels' features side by side, in the order of `maps`, at least float32.
    """
    return torch.cat([_sample_level(level, image, uv, size, patch) for level in maps], dim=1)


def _sample_level(level: Tensor, image: Tensor, uv: Tensor, size: tuple[int, int], patch: int | None) -> Tensor:
    """[P, C] features of one level: the four neighbours of each pixel, weighted by nearness."""
    # Half precision cannot hold a position: at column 200 its step is an eighth of a pixel.
    dtype = torch.promote_types(level.dtype, torch.float32)
    _, channels, height, width = level.shape
    left, right, along_u = _neighbours(uv[:, 0].to(dtype), width, size[0], patch)
    top, bottom, along_v = _neighbours(uv[:, 1].to(dtype), height, size[1], patch)
    corners = (
        (top, left, (1 - along_v) * (1 - along_u)),
        (top, right, (1 - along_v) * along_u),
        (bottom, left, along_v * (1 - along_u)),
        (bottom, right, along_v * along_u),
    )
    index = torch.stack([(image * height + row) * width + column for row, column, _ in corners], dim=1)
    weight = torch.stack([weight for _, _, weight in corners], dim=1)
    cells = level.permute(0, 2, 3, 1).reshape(-1, channels).to(dtype)
    # Gathers and sums in one pass: twenty times faster than doing both, and no [4 P, C] between them.
    return F.embedding_bag(index, cells, per_sample_weights=weight, mode="sum")


def _neighbours(position: Tensor, cells: int, pixels: int, patch: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis: the cell before [P], the cell after [P], and how far between them [P] each pixel lies."""
    if patch is None:
        place = position * ((cells - 1) / (pixels - 1) if pixels > 1 else 0.0)
    else:
        place = (position + 0.5) / patch - 0.5
    place = place.clamp(0, cells - 1)
    before = place.floor()
    index = before.long()
    return index, (index + 1).clamp(max=cells - 1), place - before


class ImageHead(nn.Module):
    """Project sampled features and normalise them: the 1×1 convolution and L2 normalisation of the published head.

    Args:
        in_channels: width C of the sampled features (`Teacher.channels`).
        out_channels: width D of the embedding shared with the points.
        generator: draws the initial weights; None draws them from torch's default generator, as torch's layers do.

    Attributes:
        weight: [D, C, 1, 1], so that it exchanges with `nn.Conv2d(C, D, 1)`.
        bias: [D].
    """

    def __init__(self, in_channels: int, out_channels: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(out_channels))
        bound = 1 / math.sqrt(in_channels)
        nn.init.uniform_(self.weight, -bound, bound, generator=generator)
        nn.init.uniform_(self.bias, -bound, bound, generator=generator)

    def forward(self, features: Tensor) -> Tensor:
        """Sampled features [P, C] → unit vectors [P, D]."""
        return F.normalize(F.linear(features, self.weight.flatten(1), self.bias), dim=1)
