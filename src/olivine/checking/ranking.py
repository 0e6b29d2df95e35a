"""Ranks frames, images and masks by how strange they look beside the others of their dataset, the worst first.

A `Ranking` is given every frame as a check reads it and then says what stands out: images that are dark, white,
blurred or repeated, clouds with holes, doubled points or swapped axes, masks of one class or unlike their image. What
can be told from a frame alone is; the rest is told from at least four others of its scene or dataset. These remarks are
warnings and no problems: a foggy morning is a blurred one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.checking.traits import (
    FLIPS,
    SECTOR_DEG,
    CloudTraits,
    ImageTraits,
    MaskTraits,
    cloud_traits,
    image_traits,
    mask_traits,
)
from olivine.data.frame import Camera, Frame
from olivine.data.pairs import find_pairs
from olivine.geometry import transform_points

FEWEST = 4
"""Images of a camera in a scene, or clouds of a dataset, from which on they are compared with each other."""

FEWEST_PIXELS = 10_000
"""Smaller pictures than this are not judged by what is in them."""

MOST_POINTS_IN_SIGHT = 500
"""Clouds with fewer points than this say nothing about a ground, sectors or beams."""

DARK_LIGHT, DARK_SHARE = 40.0, 0.4
WHITE, WHITE_MORE = 0.6, 0.35
DEEP = 3.0
"""An image whose points are this many times as far as others of it shows more than a wall."""

BLURRED, BLURRED_SHARE, CRISP = 0.15, 0.55, 0.3
ONE_CLASS = 0.995
UNLIKE, UNLIKE_SHARE, FLIPPED_BY, FLIPPED_LEAST = 0.2, 0.35, 0.2, 0.3
DOUBLED = 0.3
UPRIGHT_SLAB, UPRIGHT_TIMES = 0.3, 1.5
CEILING_M = 0.5
"""No ground lies this high above a LiDAR."""

HOLE_DEG, BEAMS_SHARE, USUAL_POINTS, MISSING_SHARE = 20.0, 0.06, 15, 0.1
COMMON = 0.5
"""What so many images of a camera, or clouds, have in common is said once."""


@dataclass(frozen=True)
class Remark:
    """Something that looks wrong.

    Attributes:
        fault: what kind it is, e.g. `"blurred image"`.
        text: one line that names the file or frame and says what was seen.
        severity: how far beyond what is usual, from 1; remarks are ranked by it.
        index: which frame of the dataset shows it.
        camera: which camera, or None for a cloud.
    """

    fault: str
    text: str
    severity: float
    index: int
    camera: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Ready for `json.dumps`."""
        return {
            "fault": self.fault,
            "text": self.text,
            "severity": round(self.severity, 2),
            "index": self.index,
            "camera": self.camera,
        }


@dataclass(frozen=True)
class _Seen:
    """An image, or the cloud, of one frame."""

    index: int
    scene: str
    where: str
    token: str
    camera: str | None = None
    image: ImageTraits | None = None
    mask: MaskTraits | None = None
    cloud: CloudTraits | None = None
    deep: bool = False


@dataclass
class Ranking:
    """What is remembered of the frames of a dataset: some numbers for each image and cloud."""

    seen: list[_Seen] = field(default_factory=list)

    def add_cloud(self, index: int, frame: Frame) -> None:
        """Look at the cloud of a frame."""
        if len(frame.points_lidar_m) >= MOST_POINTS_IN_SIGHT:
            where = f"frame {frame.token} of {frame.scene}"
            traits = cloud_traits(frame.points_lidar_m)
            self.seen.append(_Seen(index, frame.scene, where, frame.token, cloud=traits))

    def add_image(
        self, index: int, frame: Frame, camera: Camera, pixels: NDArray[np.uint8], mask: NDArray[np.uint8] | None
    ) -> None:
        """Look at an image [H, W, 3] of a frame, and its mask [H, W] where there is one."""
        if pixels.shape[0] * pixels.shape[1] >= FEWEST_PIXELS:
            seen = _Seen(index, frame.scene, str(camera.image_path), frame.token, camera.name, image_traits(pixels))
            masked = None if mask is None else mask_traits(pixels, mask)
            deep = masked is not None and masked.top > ONE_CLASS and _is_deep(frame, camera)
            self.seen.append(replace(seen, mask=masked, deep=deep))

    def remarks(self) -> list[Remark]:
        """What stands out, the worst first."""
        found = [*self._of_images(), *self._of_clouds()]
        return sorted(found, key=lambda remark: (-remark.severity, remark.index, remark.text))

    def _of_images(self) -> Iterator[Remark]:
        for camera in sorted({each.camera for each in self.seen if each.camera is not None}):
            here = [each for each in self.seen if each.camera == camera]  # night scenes are dark throughout
            usual = {scene: _usual_image(images) for scene, images in _by_scene(here).items()}
            found = [remark for each in here for remark in _image_remarks(each, usual[each.scene])]
            yield from _said_once([*found, *_repeated(here, "image")], len(here), camera)

    def _of_clouds(self) -> Iterator[Remark]:
        here = [each for each in self.seen if each.cloud is not None]
        usual = _usual([each.cloud for each in here if each.cloud is not None])
        found = [remark for each in here for remark in _cloud_remarks(each, usual)]
        yield from _said_once([*found, *_repeated(here, "cloud")], len(here), None)


@dataclass(frozen=True)
class _UsualImage:
    """Medians of the images of a camera in a scene; NaN, which nothing is below or above, where they are too few."""

    mean: float
    white: float
    sharpness: float
    agreement: float


def _image_remarks(image: _Seen, usual: _UsualImage) -> Iterator[Remark]:
    assert image.image is not None
    traits = image.image

    def remark(fault: str, what: str, severity: float) -> Remark:
        return Remark(fault, f"{image.where}: {what}", max(severity, 1.0), image.index, image.camera)

    if traits.light < DARK_LIGHT:
        yield remark(
            "dark image",
            f"nothing in it is light (grey value {traits.light:.0f} of 255)",
            DARK_LIGHT / max(traits.light, 4),
        )
    elif traits.mean < DARK_SHARE * usual.mean:
        yield remark(
            "dark image",
            f"dark beside those around it (mean {traits.mean:.0f}, theirs {usual.mean:.0f})",
            DARK_SHARE * usual.mean / max(traits.mean, 1),
        )
    if traits.white > WHITE or traits.white > usual.white + WHITE_MORE:
        yield remark("overexposed image", f"{traits.white:.0%} of it is white", 1 + 2 * (traits.white - WHITE_MORE))
    soft = traits.sharpness < CRISP and traits.sharpness < BLURRED_SHARE * usual.sharpness
    if traits.light >= DARK_LIGHT and (traits.sharpness < BLURRED or soft):
        yield remark(
            "blurred image", f"blurred (sharpness {traits.sharpness:.2f})", BLURRED / max(traits.sharpness, 0.05)
        )
    if image.mask is not None:
        yield from _mask_remarks(image.mask, image.deep, usual, remark)


def _mask_remarks(
    mask: MaskTraits, deep: bool, usual: _UsualImage, remark: Callable[[str, str, float], Remark]
) -> Iterator[Remark]:
    if not mask.known:
        yield remark("empty mask", "its mask knows nothing", 1.5)
    elif mask.top > ONE_CLASS:
        if deep:
            yield remark("mask of one class", f"its mask is of class {mask.top_class} alone", 1.5)
    elif max(mask.flipped) > max(mask.agreement + FLIPPED_BY, FLIPPED_LEAST):
        how = FLIPS[int(np.argmax(mask.flipped))]
        yield remark("flipped mask", f"its mask would fit it {how}", 1 + max(mask.flipped) - mask.agreement)
    elif mask.agreement < UNLIKE or mask.agreement < UNLIKE_SHARE * usual.agreement:
        what = f"its mask has its borders elsewhere than the image (agreement {mask.agreement:.2f})"
        yield remark("mask unlike its image", what, 1 + UNLIKE - min(mask.agreement, UNLIKE))


def _is_deep(frame: Frame, camera: Camera) -> bool:
    """Whether points that fall into an image lie at quite different depths."""
    points = find_pairs(replace(frame, cameras=(camera,)), labels=False).point
    depth_m = transform_points(camera.camera_from_lidar, frame.points_lidar_m[points])[:, 2]
    return len(depth_m) > 0 and bool(np.quantile(depth_m, 0.9) > DEEP * np.quantile(depth_m, 0.1))


def _cloud_remarks(cloud: _Seen, usual: tuple[NDArray[np.float64], NDArray[np.float64]] | None) -> Iterator[Remark]:
    assert cloud.cloud is not None
    traits = cloud.cloud

    def remark(fault: str, what: str, severity: float) -> Remark:
        return Remark(fault, f"{cloud.where}: {what}", max(severity, 1.0), cloud.index)

    if traits.doubled > DOUBLED:
        yield remark("doubled points", f"{traits.doubled:.0%} of its points are there twice", 1 + traits.doubled)
    x, y, z = traits.slabs
    if max(x, y) > max(UPRIGHT_SLAB, UPRIGHT_TIMES * z):
        axis = "x" if x > y else "y"
        yield remark("swapped axes", f"the ground lies across its {axis} axis; z must point up", 3.0)
    elif z > UPRIGHT_SLAB and traits.level_m > CEILING_M and traits.above < traits.below:
        yield remark("swapped axes", "the ground lies above the rest; z must point up", 3.0)
    elif usual is not None:
        yield from _hole_remarks(traits, usual, remark)


def _hole_remarks(
    traits: CloudTraits,
    usual: tuple[NDArray[np.float64], NDArray[np.float64]],
    remark: Callable[[str, str, float], Remark],
) -> Iterator[Remark]:
    sectors, beams = usual
    gone = (sectors >= USUAL_POINTS) & (traits.sectors < MISSING_SHARE * sectors)
    missing_deg = float(gone.sum() * SECTOR_DEG)
    if missing_deg >= HOLE_DEG:
        what = f"{missing_deg:g}° of directions that others fill are empty"
        yield remark("hole in cloud", what, 1 + missing_deg / 90)
    present = ~gone.all() and traits.sectors[~gone].sum() / max(sectors[~gone].sum(), 1)
    expected = beams * max(float(present), 1e-6) if missing_deg >= HOLE_DEG else beams
    lost = (expected >= USUAL_POINTS) & (traits.beams < MISSING_SHARE * expected)
    share = float(expected[lost].sum() / max(expected.sum(), 1))
    if share >= BEAMS_SHARE:
        yield remark("missing beams", f"beams that hold {share:.0%} of the points of others are empty", 1 + share)


def _usual(clouds: Sequence[CloudTraits]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """[72] and [180] points by sector and beam that three of four clouds have, or None where there are too few."""
    if len(clouds) <= FEWEST:
        return None
    return (
        np.quantile(np.stack([cloud.sectors for cloud in clouds]), 0.25, axis=0),
        np.quantile(np.stack([cloud.beams for cloud in clouds]), 0.25, axis=0),
    )


def _repeated(seen: Sequence[_Seen], what: str) -> Iterator[Remark]:
    """Images, or clouds, that are those of an earlier frame to the last bit, though their files are others."""
    first: dict[tuple[str, bytes], _Seen] = {}
    for each in seen:
        traits = each.image if what == "image" else each.cloud
        assert traits is not None
        other = first.setdefault((each.scene, traits.digest), each)
        if other.where != each.where:
            text = f"{each.where}: the same {what} as in frame {other.token}; is the sensor frozen?"
            yield Remark(f"repeated {what}", text, 2.0, each.index, each.camera)


def _said_once(remarks: Sequence[Remark], count: int, camera: str | None) -> Iterator[Remark]:
    """What most images of a camera, or most clouds, have in common is one remark: it is how they are."""
    of = defaultdict(list)
    for remark in remarks:
        of[remark.fault].append(remark)
    for fault, here in of.items():
        if count > FEWEST and len(here) > COMMON * count:
            worst = max(here, key=lambda remark: remark.severity)
            what = f"images of {camera}" if camera else "clouds"
            text = f"{len(here)} of {count} {what} have this: {fault}; e.g. {worst.text}"
            yield Remark(fault, text, worst.severity, worst.index, camera)
        else:
            yield from here


def _by_scene(seen: Sequence[_Seen]) -> dict[str, list[_Seen]]:
    of = defaultdict(list)
    for each in seen:
        of[each.scene].append(each)
    return of


def _usual_image(images: Sequence[_Seen]) -> _UsualImage:
    traits = [each.image for each in images if each.image is not None]
    return _UsualImage(
        _median([each.mean for each in traits]),
        _median([each.white for each in traits]),
        _median([each.sharpness for each in traits]),
        _median([each.mask.agreement for each in images if each.mask is not None]),
    )


def _median(values: Sequence[float]) -> float:
    numbers = [value for value in values if np.isfinite(value)]
    return float(np.median(numbers)) if len(numbers) >= FEWEST else float("nan")
