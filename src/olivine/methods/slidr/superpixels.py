"""From pixels and points to superpixels: which of a batch are seen by points, what lies in each, and the means.

Letters: P pairs, R pixels that are read, S superpixels that hold a pair, M images of H × W pixels, D feature size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from olivine.data.batch import PixelPairs
from olivine.host import counted, waiting
from olivine.teachers import ImageHead, sample_features


@dataclass(frozen=True)
class Superpixels:
    """The superpixels of a batch in which a point falls, with their pairs and pixels.

    Attributes:
        count: S, how many there are.
        pair: [P'] int64 pairs that lie in one.
        pair_owner: [P'] int64 superpixel of each.
        image: [R] int64 image of each pixel.
        uv: [R, 2] float32 (column, row) of each pixel, whole numbers.
        pixel_owner: [R] int64 superpixel of each pixel; every superpixel has at least one.
    """

    count: int
    pair: Tensor
    pair_owner: Tensor
    image: Tensor
    uv: Tensor
    pixel_owner: Tensor


def find_superpixels(segments: Tensor, pairs: PixelPairs, stride: int) -> Superpixels:
    """Find the superpixels that hold a pair, and pixels of each.

    A pair lies in the superpixel of the nearest pixel. The pixels of a superpixel are those on a regular grid. A thin
    superpixel that the grid misses has the pixels of its own pairs instead.

    Args:
        segments: [M, H, W] int32 superpixel of each pixel, numbered from 0 in each image, -1 in none.
        pairs: the pairs.
        stride: distance of the grid's rows and columns, pixels; with 1 all pixels are on it.
    """
    with waiting("superpixels with points, and their pixels", segments.device):
        return _found(segments, pairs, stride)


def _found(segments: Tensor, pairs: PixelPairs, stride: int) -> Superpixels:
    per_image = int(segments.max()) + 1 if segments.numel() else 0
    number = _number(segments, per_image)
    column, row = pairs.uv.round().long().unbind(1)
    of_pair = number[pairs.image, row, column]
    pair = (of_pair >= 0).nonzero().squeeze(1)
    used, pair_owner = torch.unique(of_pair[pair], return_inverse=True)
    # One entry more than there are numbers: -1 finds it, and it owns nothing.
    owner = number.new_full((len(segments) * per_image + 1,), -1)
    owner[used] = torch.arange(len(used), device=used.device)
    start = stride // 2
    on_grid = owner[number[:, start::stride, start::stride]]
    place = (on_grid >= 0).nonzero()
    pixel_owner = on_grid[tuple(place.unbind(1))]
    uv = place[:, [2, 1]] * stride + start
    missed = pair[torch.bincount(pixel_owner, minlength=len(used))[pair_owner] == 0]
    return Superpixels(
        count=len(used),
        pair=pair,
        pair_owner=pair_owner,
        image=torch.cat([place[:, 0], pairs.image[missed]]),
        uv=torch.cat([uv, torch.stack([column[missed], row[missed]], dim=1)]).float(),
        pixel_owner=torch.cat([pixel_owner, owner[of_pair[missed]]]),
    )


def _number(segments: Tensor, per_image: int) -> Tensor:
    """[M, H, W] int64 superpixel of each pixel, numbered through the batch, -1 in none."""
    first = torch.arange(len(segments), device=segments.device)[:, None, None] * per_image
    return torch.where(segments < 0, -1, segments + first)


def segment_means(features: Tensor, owner: Tensor, count: int) -> Tensor:
    """Mean of the rows of each segment; the same numbers in every run.

    Args:
        features: [R, D] features.
        owner: [R] int64 segment of each row, in any order.
        count: S, number of segments.

    Returns:
        [S, D] means, float32 or wider; 0 for a segment without rows.
    """
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    sizes = counted(owner, count)
    # Rows in the order of their segments are summed one after another, while `index_add` on a GPU adds as they come.
    sums = functional.embedding_bag(owner.argsort(stable=True), features, sizes.cumsum(0) - sizes, mode="sum")
    return sums / sizes.clamp_min(1)[:, None]


def head_at_pixels(
    maps: Sequence[Tensor], head: ImageHead, image: Tensor, uv: Tensor, size: tuple[int, int], patch: int | None
) -> Tensor:
    """The image head's output at many pixels: each map projected, then interpolated at the pixels, then normalised.

    The same numbers as `head(sample_features(...))`, which suits a few pixels of many cells. Here the pixels outnumber
    the cells, and what is kept for the gradient is the maps and D numbers a pixel.

    Args:
        maps: one [M, C_l, h_l, w_l] map per level of the teacher.
        head: the image head, for ΣC_l channels.
        image: [R] int64 row of the maps each pixel lies in.
        uv: [R, 2] float pixel (column, row).
        size: (W, H) of the images, pixels.
        patch: see `sample_features`.

    Returns:
        [R, D] unit vectors, float32 or wider.
    """
    weights = torch.split_with_sizes(head.weight.flatten(1), [level.shape[1] for level in maps], dim=1)
    pixels: Tensor = head.bias
    for level, weight in zip(maps, weights, strict=True):
        projected = functional.linear(level.permute(0, 2, 3, 1), weight).permute(0, 3, 1, 2)
        pixels = pixels + sample_features([projected], image, uv, size, patch=patch)
    return functional.normalize(pixels, dim=1)
