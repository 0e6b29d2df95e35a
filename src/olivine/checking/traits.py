"""Numbers that tell a sound image, mask or cloud from a spoilt one; `olivine.checking.ranking` judges by them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from olivine.checking.edges import edge_map
from olivine.data.masks import UNKNOWN
from olivine.geometry import Float

_BAND_PX = 256
_MASK_WIDTH_PX = 400
_SLAB_M = 0.2
_FAR_M, _NEAR_M = 40.0, 3.0
_OWN_BODY_M = 1.0

SECTOR_DEG, BEAM_DEG = 5.0, 0.25
_LOWEST_DEG, _HIGHEST_DEG = -30.0, 15.0

FLIPS = ("mirrored", "upside down", "turned by 180°")
"""What else a mask might be, in the order of `MaskTraits.flipped`."""


@dataclass(frozen=True)
class ImageTraits:
    """What an image looks like.

    Attributes:
        digest: of its pixels; equal for equal pictures.
        mean: grey value, 0…255.
        light: the grey value that 1 % of the pixels exceed.
        white: share of pixels with a grey value from 250 on.
        sharpness: how much detail of one pixel's size there is, against detail of some pixels' size; about 0.12 where
            all detail was blurred away, 0.3…0.6 of real cameras.
    """

    digest: bytes
    mean: float
    light: float
    white: float
    sharpness: float


@dataclass(frozen=True)
class MaskTraits:
    """What a mask looks like beside its image.

    Attributes:
        known: share of pixels with a class.
        top: share of the commonest class among those.
        top_class: which it is.
        agreement: how much stronger the image's edges are at borders of the mask than elsewhere, in their standard
            deviations; NaN where it has too few borders to say.
        flipped: the same of the mask after each of `FLIPS`.
    """

    known: float
    top: float
    top_class: int
    agreement: float
    flipped: tuple[float, ...]


@dataclass(frozen=True)
class CloudTraits:
    """What a cloud looks like.

    Attributes:
        digest: of its points; equal for equal clouds.
        doubled: share of points, not on the vehicle itself, that are there before.
        slabs: [3] share of the points within 40 m that lie in the fullest slab, 0.6 m thick, across x, y and z.
        below, above: share of these points below and above the slab across z.
        level_m: where that slab is.
        sectors: [72] points by direction, from −180°, 5° each.
        beams: [180] points by elevation, from −30°, 0.25° each.
    """

    digest: bytes
    doubled: float
    slabs: tuple[float, float, float]
    below: float
    above: float
    level_m: float
    sectors: NDArray[np.int32]
    beams: NDArray[np.int32]


def image_traits(pixels: NDArray[np.uint8]) -> ImageTraits:
    """Traits of an image [H, W, 3] uint8 RGB."""
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    counts = np.bincount(grey.ravel(), minlength=256)
    share = np.cumsum(counts) / grey.size
    middle = max(0, grey.shape[0] // 2 - _BAND_PX // 2)
    band = grey[middle : middle + _BAND_PX].astype(np.float32)
    fine = band - ndimage.gaussian_filter(band, 1.0)
    coarse = ndimage.gaussian_filter(band, 2.0) - ndimage.gaussian_filter(band, 6.0)
    return ImageTraits(
        hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest(),
        float(counts @ np.arange(256) / grey.size),
        float(np.searchsorted(share, 0.99)),
        float(1 - share[249]),
        float(fine.std() / max(float(coarse.std()), 0.1)),
    )


def mask_traits(pixels: NDArray[np.uint8], mask: NDArray[np.uint8]) -> MaskTraits:
    """Traits of a mask [H, W] uint8 beside its image [H, W, 3]."""
    counts = np.bincount(mask.ravel(), minlength=UNKNOWN + 1)[:UNKNOWN]
    known = int(counts.sum())
    size = _MASK_WIDTH_PX, max(1, round(mask.shape[0] * _MASK_WIDTH_PX / mask.shape[1]))
    grey = Image.fromarray(pixels).convert("L").resize(size, Image.Resampling.BOX)
    edges = edge_map(np.asarray(grey, np.float32))
    small = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    flips = (small, small[:, ::-1], small[::-1], small[::-1, ::-1])
    agreement, *flipped = (_agreement(edges, each) for each in flips)
    top = int(counts.argmax())
    return MaskTraits(known / mask.size, counts[top] / max(known, 1), top, agreement, tuple(flipped))


def cloud_traits(points_m: Float) -> CloudTraits:
    """Traits of a cloud [N, 3]; points that are not finite, and rows without return, do not count."""
    points_m = np.ascontiguousarray(points_m[np.isfinite(points_m).all(axis=1)], np.float32)
    points_m = points_m[(points_m != 0).any(axis=1)]
    range_m = np.linalg.norm(points_m, axis=1)
    outside = points_m[range_m > _OWN_BODY_M]
    # Points by a number that hardly any two share: sorting numbers is ten times as fast as sorting rows.
    numbers = outside.view(np.uint32).astype(np.uint64) @ np.array(
        [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 1], np.uint64
    )
    doubled = 1 - len(np.unique(numbers)) / max(1, len(numbers))
    flat_m = np.hypot(points_m[:, 0], points_m[:, 1])
    near = points_m[(range_m > _NEAR_M) & (range_m < _FAR_M)]
    slabs = [_slab(near[:, axis]) for axis in range(3)]
    _, level_m = slabs[2]
    return CloudTraits(
        hashlib.blake2b(points_m.data, digest_size=16).digest(),
        doubled,
        (slabs[0][0], slabs[1][0], slabs[2][0]),
        float((near[:, 2] < level_m - 0.5).sum() / max(1, len(near))),
        float((near[:, 2] > level_m + 0.5).sum() / max(1, len(near))),
        level_m,
        _histogram(np.degrees(np.arctan2(points_m[:, 1], points_m[:, 0])), -180, 180, SECTOR_DEG),
        _histogram(np.degrees(np.arctan2(points_m[:, 2], flat_m)), _LOWEST_DEG, _HIGHEST_DEG, BEAM_DEG),
    )


def _histogram(values: NDArray[np.floating], low: float, high: float, step: float) -> NDArray[np.int32]:
    counts, _ = np.histogram(values, bins=round((high - low) / step), range=(low, high))
    return counts.astype(np.int32)


def _slab(values_m: NDArray[np.floating]) -> tuple[float, float]:
    """Share of the values in the fullest slab of 0.6 m, and its middle."""
    if not len(values_m):
        return 0.0, 0.0
    counts = _histogram(values_m, -_FAR_M, _FAR_M, _SLAB_M)
    full = np.convolve(counts, [1, 1, 1], "same")
    best = int(full.argmax())
    return float(full[best] / len(values_m)), -_FAR_M + (best + 0.5) * _SLAB_M


def _agreement(edges: NDArray[np.float32], mask: NDArray[np.uint8]) -> float:
    """Mean of an edge map at the borders between known classes."""
    borders = np.zeros(mask.shape, np.bool_)
    for first, second, at in (
        (mask[:, :-1], mask[:, 1:], borders[:, :-1]),
        (mask[:-1], mask[1:], borders[:-1]),
    ):
        at |= (first != second) & (first != UNKNOWN) & (second != UNKNOWN)
    count = int(borders.sum())
    # Borders everywhere are noise, and a handful say nothing.
    if not 2 * _MASK_WIDTH_PX <= count <= mask.size // 4:
        return float("nan")
    return float(edges[borders].mean())
