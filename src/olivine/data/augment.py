"""Augmentation: what is done to a cloud alone, and what is done to a cloud and its images together.

The cloud's rotation is drawn first, since the published cuboid has its sides along the axes of the rotated cloud; then
a cuboid of points is dropped, and the images are cut and mirrored. Pairs follow every step. All random choices come
from the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt
from torch.nn import functional as F

from olivine.config import Config
from olivine.data.pairs import Pairs
from olivine.data.thinning import BeamDropout


class CloudAugment(Config):
    """Augmentation of a cloud."""

    rotate: bool = True
    """Rotate about z by an angle uniform in [0, 2π)."""

    max_angle_rad: float | None = Field(default=None, gt=0, le=np.pi)
    """With `rotate`: by an angle uniform within ± this instead; for detection on KITTI π/4 is published."""

    flip: bool = True
    """Mirror x and mirror y, each with probability 0.5."""

    flip_axes: Literal["xy", "y"] = "xy"
    """With `flip`: what is mirrored; `y` alone where x must go on pointing ahead, as published for KITTI."""

    scale: float = Field(default=0.0, ge=0, lt=1)
    """Scale by a factor uniform in 1 ± this; 0 in the published recipes."""

    beams: BeamDropout | None = None
    """How beams and points are dropped from each scan before all else, so that the network serves sensors of fewer
    beams; None drops none."""

    intensity_dropout: float = Field(default=0.0, ge=0, le=1)
    """Probability that all intensities of a scan are 0, so that the network serves data without. Its weights say so
    (`trained_without`)."""


def _ascending(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError("the first number must not be above the second")
    return interval


Interval = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ascending)]
"""Smallest and largest value of something that is positive."""


class ImageAugment(Config):
    """Augmentation of the images and of the cloud with them."""

    size: tuple[PositiveInt, PositiveInt] = (416, 224)
    """(width, height) every image is resized to, pixels."""

    crop: bool = True
    """Cut a random part out of every image before resizing; off: the whole image is resized."""

    crop_area: Interval = (0.3, 1.0)
    """Area of the cut as a share of the image, uniform in this interval."""

    crop_ratio: Interval = (14 / 9, 17 / 9)
    """Width over height of the cut, log-uniform in this interval."""

    antialias: bool = False
    """Average over the pixels that each pixel of a shrunk image covers. Off as published: each is read between its four
    nearest pixels, whatever the scale."""

    flip: float = Field(default=0.5, ge=0, le=1)
    """Probability of mirroring an image."""

    drop_cuboid: float = Field(default=0.2, ge=0, lt=1)
    """Drop the points in a random cuboid of up to this share of the cloud's extent per axis; 0 drops none."""

    cuboid: Literal["published", "per_axis"] = "published"
    """`published`: one draw sets the share of all three axes, along the axes of the augmented cloud, in one try.
    `per_axis`: a draw for each axis, along those of the LiDAR, in up to `tries`."""

    min_pairs: int = Field(default=1024, ge=0)
    """A cuboid must leave every camera this many pairs; a cut must leave more than this, or more than `min_share`."""

    min_share: float = Field(default=0.75, ge=0, le=1)
    """See `min_pairs`."""

    tries: int = Field(default=10, ge=1)
    """Attempts at a cut, or at a `per_axis` cuboid; after them the whole image is used and no cuboid is dropped, so
    that a camera with few or no pairs cannot hold a run up."""


def cloud_transform(rng: np.random.Generator, config: CloudAugment) -> NDArray[np.float32]:
    """Draw a random linear map of the cloud.

    Returns:
        [3, 3] float32 `augmented_from_lidar`; the same number of draws whatever is switched on.
    """
    turn, mirror_x, mirror_y, scale = rng.random(4) * (1, 1, 1, 2)
    angle_rad = 2 * np.pi * turn if config.max_angle_rad is None else config.max_angle_rad * (2 * turn - 1)
    matrix = np.eye(3)
    if config.rotate:
        cos, sin = np.cos(angle_rad), np.sin(angle_rad)
        matrix[:2, :2] = [[cos, -sin], [sin, cos]]
    if config.flip:
        flip_x, flip_y = config.flip_axes == "xy" and mirror_x < 0.5, mirror_y < 0.5
        matrix = np.diag([-1 if flip_x else 1, -1 if flip_y else 1, 1]) @ matrix
    return np.asarray(matrix * (1 + config.scale * (scale - 1)), np.float32)


def cuboid_keep(
    points_m: NDArray[np.float32], pairs: Pairs, cameras: int, rng: np.random.Generator, config: ImageAugment
) -> NDArray[np.bool_]:
    """Draw a random cuboid and say which points lie outside it.

    Args:
        points_m: [N, 3] float32 points in the frame whose axes the cuboid follows, metres.
        pairs: the pairs of all cameras.
        cameras: number of cameras.
        rng: the sample's generator.
        config: size and conditions.

    Returns:
        [N] bool, true for points that stay; all true when no cuboid met the conditions or none was asked for.
    """
    everything = np.ones(len(points_m), np.bool_)
    if config.drop_cuboid == 0 or len(points_m) == 0:
        return everything
    extent = np.ptp(points_m, axis=0)
    together = config.cuboid == "published"
    for _ in range(1 if together else config.tries):
        center = points_m[rng.integers(len(points_m))]
        half = extent * rng.random(1 if together else 3) * config.drop_cuboid / 2
        x, y, z = (np.abs(points_m - center) < half).T
        keep: NDArray[np.bool_] = ~(x & y & z)
        left = np.bincount(pairs.camera[keep[pairs.point]], minlength=cameras)
        if (left >= config.min_pairs).all():
            return keep
    return everything


def drop_points(keep: NDArray[np.bool_], pairs: Pairs) -> Pairs:
    """Pairs after the points with `keep` [N] false are removed from the cloud, re-pointed to the rows that remain."""
    row = np.cumsum(keep) - 1
    remaining = pairs.select(keep[pairs.point])
    return Pairs(row[remaining.point], remaining.camera, remaining.uv, remaining.label)


@dataclass(frozen=True)
class Cut:
    """What is done to one image: a part is cut out, resized, and mirrored or not.

    Attributes:
        box: (left, top, right, bottom) of the part, whole pixels.
        size: (width, height) it is resized to.
        mirrored: left and right are exchanged.
        antialias: see `ImageAugment`.
    """

    box: tuple[int, int, int, int]
    size: tuple[int, int]
    mirrored: bool
    antialias: bool = False

    def image(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image [H, W, 3] as it becomes, [height, width, 3], interpolated bilinearly."""
        if self.antialias:
            return self._resized(Image.fromarray(pixels), Image.Resampling.BILINEAR)
        left, top, right, bottom = self.box
        part = torch.from_numpy(np.array(pixels[top:bottom, left:right])).permute(2, 0, 1)[None]
        width, height = self.size
        resized = F.interpolate(part.float(), (height, width), mode="bilinear", align_corners=False)
        return self._mirrored(resized[0].round().to(torch.uint8).permute(1, 2, 0).numpy())

    def segments(self, numbers: NDArray[np.int32]) -> NDArray[np.int32]:
        """Segment numbers [H, W] as they become, [height, width], each that of the nearest pixel."""
        return self._resized(Image.fromarray(numbers), Image.Resampling.NEAREST)

    def pairs(self, pairs: Pairs) -> Pairs:
        """The image's pairs as they become; those outside the part are dropped."""
        pairs = pairs.select(_within(pairs.uv, self.box))
        corner = np.array(self.box[:2])
        extent = np.array(self.box[2:]) - corner
        uv = (pairs.uv + 0.5 - corner) * (np.array(self.size) / extent) - 0.5
        if self.mirrored:
            uv[:, 0] = self.size[0] - 1 - uv[:, 0]
        uv = np.clip(uv, 0, np.array(self.size) - 1)
        return Pairs(pairs.point, pairs.camera, uv.astype(np.float32), pairs.label)

    def _resized(self, image: Image.Image, resampling: Image.Resampling) -> NDArray[Any]:
        return self._mirrored(np.asarray(image.resize(self.size, resampling, box=self.box)))

    def _mirrored(self, resized: NDArray[Any]) -> NDArray[Any]:
        return resized[:, ::-1] if self.mirrored else resized


def draw_cuts(
    sizes: Sequence[tuple[int, int]], pairs: Pairs, rng: np.random.Generator, config: ImageAugment
) -> list[Cut]:
    """Draw what is done to each image of a frame.

    Args:
        sizes: (width, height) of each camera's image, pixels.
        pairs: the pairs of all cameras.
        rng: the sample's generator.
        config: what to draw.
    """
    cuts = []
    for camera, (width, height) in enumerate(sizes):
        own = pairs.uv[pairs.camera == camera]
        box = _draw_cut(width, height, own, rng, config) if config.crop else None
        mirrored = bool(rng.random() < config.flip)
        cuts.append(Cut(box or (0, 0, width, height), config.size, mirrored, config.antialias))
    return cuts


def _draw_cut(
    width: int, height: int, uv: NDArray[np.float32], rng: np.random.Generator, config: ImageAugment
) -> tuple[int, int, int, int] | None:
    """A cut (left, top, right, bottom) that keeps enough pairs, or None when every try failed."""
    for _ in range(config.tries):
        area = width * height * rng.uniform(*config.crop_area)
        ratio = np.exp(rng.uniform(*np.log(config.crop_ratio)))
        cut_width, cut_height = round(float(np.sqrt(area * ratio))), round(float(np.sqrt(area / ratio)))
        if not (0 < cut_width <= width and 0 < cut_height <= height):
            continue
        left = int(rng.integers(width - cut_width + 1))
        top = int(rng.integers(height - cut_height + 1))
        box = (left, top, left + cut_width, top + cut_height)
        kept = int(_within(uv, box).sum())
        if kept > config.min_pairs or kept > config.min_share * len(uv):
            return box
    return None


def _within(uv: NDArray[np.float32], box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """[P] bool: pixel centres sit at integers, so a cut from column `left` starts at `left - 0.5`."""
    left, top, right, bottom = np.array(box) - 0.5
    u, v = uv.T
    return np.asarray((u >= left) & (u < right) & (v >= top) & (v < bottom))
