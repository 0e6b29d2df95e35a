"""From a frame to what a network sees: pairs, augmentation, voxels, and the collation of samples into a `Batch`.

`Prepare` is a picklable callable that loader processes run once per sample; it does only what it was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from olivine.config import Config
from olivine.data.augment import (
    CloudAugment,
    Cut,
    ImageAugment,
    cloud_transform,
    cuboid_keep,
    draw_cuts,
    drop_points,
)
from olivine.data.batch import Batch, Cloud, PixelPairs, SecondView
from olivine.data.frame import Frame, Pairs, find_pairs
from olivine.data.second_view import ViewConfig, cut_view, same_places, same_rows, voxel_matches
from olivine.data.voxelize import CartesianVoxels, CylindricalVoxels, Voxels, voxel_features, voxelize
from olivine.errors import UserError
from olivine.geometry import invert, transform_points


class PairConfig(Config):
    """Which points count as seen by a camera."""

    min_depth_m: float = Field(default=1.0, gt=0)
    """Pairs must be deeper than this, metres."""

    border_px: NonNegativeFloat | tuple[NonNegativeFloat, NonNegativeFloat] = 1.0
    """Pairs must lie strictly inside the image by this, pixels: 1 < u < width − 1, the rule of the nuScenes devkit. Two
    numbers are for the left and upper border and for the right and lower one; [0, 1] is the published rule,
    0 < u < width − 1."""

    occlusion_m: float | None = Field(default=None, ge=0)
    """Drop points that others surround in the image which are nearer by this much, metres; null keeps all, as
    published."""

    drop_unseen: bool = False
    """Remove the points that no camera sees from the cloud. Off in the published recipe; where one camera looks ahead
    (SemanticKITTI) it leaves a fifth of the cloud, and pretraining is that much faster."""


@dataclass(frozen=True)
class PreparedCloud:
    """One view of one cloud, voxelised. N points, V voxels.

    Attributes:
        points_m: [N, 3] float32 augmented points, metres.
        row: [N] int64 row of the frame's cloud that each point is, ascending.
        augmented_from_lidar: [3, 3] float32 how they were augmented.
        voxels: their voxels.
        features: [V, C] float32 input features.
        labels: [N] uint8 training classes, or None.
    """

    points_m: NDArray[np.float32]
    row: NDArray[np.int64]
    augmented_from_lidar: NDArray[np.float32]
    voxels: Voxels
    features: NDArray[np.float32]
    labels: NDArray[np.uint8] | None


@dataclass(frozen=True)
class PreparedSecond:
    """The second view of a sample.

    Attributes:
        cloud: the view.
        second_from_first: [4, 4] float64 transform between the LiDAR frames; NaN where a frame has no pose.
        match: [Q, 2] int64 voxels (of the first view, of this one) that hold the same point, or None.
    """

    cloud: PreparedCloud
    second_from_first: NDArray[np.float64]
    match: NDArray[np.int64] | None


@dataclass(frozen=True)
class Prepared:
    """One sample, ready to be collated. P pairs.

    Attributes:
        token: the frame's token.
        cloud: the cloud.
        images: [cameras, H, W, 3] uint8, or None.
        segments: [cameras, H, W] int32 superpixels, or None.
        pairs: the pairs, or None; every pair's point lies in a voxel.
        range_m: [P] float32 horizontal range of each pair's point before augmentation, metres, or None.
        second: another view, or None.
    """

    token: str
    cloud: PreparedCloud
    images: NDArray[np.uint8] | None = None
    segments: NDArray[np.int32] | None = None
    pairs: Pairs | None = None
    range_m: NDArray[np.float32] | None = None
    second: PreparedSecond | None = None


@dataclass(frozen=True)
class _Seen:
    """What the cameras see of a frame: the points that are kept, the images and the pairs."""

    row: NDArray[np.int64]
    images: NDArray[np.uint8]
    segments: NDArray[np.int32] | None
    pairs: Pairs


@dataclass(frozen=True)
class Prepare:
    """Turn frames into samples.

    Attributes:
        voxels: the grid.
        cloud: cloud augmentation, or None for none.
        images: image augmentation where images and pairs are wanted, or None for a cloud alone.
        pairs: which points pair with pixels; used with `images` only.
        weak_labels: look the weak label of every pair up in the masks.
        segments: read the superpixels; used with `images` only.
        labels: carry the 3-D labels. Pretraining leaves this off, so no method can see one.
        views: how two views of a cloud come about, or None for one view of the whole cloud.
        match: find the voxels of the two views that hold the same point.
    """

    voxels: CylindricalVoxels | CartesianVoxels
    cloud: CloudAugment | None = None
    images: ImageAugment | None = None
    pairs: PairConfig = field(default_factory=PairConfig)
    weak_labels: bool = False
    segments: bool = False
    labels: bool = False
    views: ViewConfig | None = None
    match: bool = False

    def __call__(self, frame: Frame, rng: np.random.Generator, other: Frame | None = None) -> Prepared:
        """Prepare one frame.

        Args:
            frame: the frame.
            rng: the generator keyed by (seed, epoch, sample).
            other: with `views`, the frame that the second view shows; None is `frame` itself.

        Raises:
            UserError: images are wanted and the frame has no camera; an image, a mask or superpixels are missing,
                unreadable or of the wrong size; labels are wanted and hold ids of no class; a point is not finite or
                too far away for the grid; matches are wanted between frames without poses.
        """
        _check_finite(frame)
        if self.labels and frame.label_fault is not None:
            raise UserError(frame.label_fault)
        matrix = self._matrix(rng)
        seen = None if self.images is None else self._look(frame, rng, self.images, matrix)
        row = np.arange(len(frame.points_lidar_m)) if seen is None else seen.row
        cloud = self._cloud(frame, row, rng, matrix)
        second = None if self.views is None else self._second(frame, other or frame, cloud, rng)
        if seen is None:
            return Prepared(frame.token, cloud, second=second)
        pairs = seen.pairs if len(cloud.row) == len(row) else drop_points(np.isin(row, cloud.row), seen.pairs)
        pairs = pairs.select(cloud.voxels.point_voxel[pairs.point] >= 0)
        range_m = np.hypot(*frame.points_lidar_m[cloud.row[pairs.point], :2].T)
        return Prepared(frame.token, cloud, seen.images, seen.segments, pairs, range_m, second)

    def _matrix(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """[3, 3] how a view of a cloud is rotated, mirrored and scaled."""
        return np.eye(3, dtype=np.float32) if self.cloud is None else cloud_transform(rng, self.cloud)

    def _cloud(
        self, frame: Frame, row: NDArray[np.int64], rng: np.random.Generator, matrix: NDArray[np.float32]
    ) -> PreparedCloud:
        """One view of some rows of a frame's cloud: cut where there are two views, augmented, voxelised."""
        if self.views is not None:
            row = row[cut_view(frame.points_lidar_m[row], rng, self.views)]
        shown = _rows(frame, row)
        points_m = shown.points_lidar_m if self.cloud is None else shown.points_lidar_m @ matrix.T
        try:
            voxels = voxelize(points_m, self.voxels)
        except UserError as error:
            raise UserError(f"frame {frame.token!r}: {error}") from error
        features = voxel_features(shown, points_m, voxels, self.voxels)
        return PreparedCloud(points_m, row, matrix, voxels, features, shown.labels if self.labels else None)

    def _second(self, frame: Frame, other: Frame, first: PreparedCloud, rng: np.random.Generator) -> PreparedSecond:
        """The second view, and what it has in common with the first."""
        if other is not frame:
            _check_finite(other)
        cloud = self._cloud(other, np.arange(len(other.points_lidar_m)), rng, self._matrix(rng))
        second_from_first = _between(frame, other)
        if not self.match:
            return PreparedSecond(cloud, second_from_first, None)
        if other is frame:
            points = same_rows(first.row, cloud.row)
        else:
            points = self._same_places(frame.points_lidar_m[first.row], other.points_lidar_m[cloud.row],
                                       second_from_first, other.token)  # fmt: skip
        match = voxel_matches(points, first.voxels.point_voxel, cloud.voxels.point_voxel)
        return PreparedSecond(cloud, second_from_first, match)

    def _same_places(
        self,
        first_m: NDArray[np.float32],
        second_m: NDArray[np.float32],
        second_from_first: NDArray[np.float64],
        token: str,
    ) -> NDArray[np.int64]:
        assert self.views is not None
        if not np.isfinite(second_from_first).all():
            raise UserError(f"frame {token!r} or its neighbour has no pose, and matching two frames needs both")
        moved_m = transform_points(second_from_first, first_m)
        return same_places(moved_m, second_m.astype(np.float64), self.views.match_m)

    def _look(self, frame: Frame, rng: np.random.Generator, config: ImageAugment, matrix: NDArray[np.float32]) -> _Seen:
        """Pairs and images, augmented together with the cloud, which `matrix` is going to turn."""
        if not frame.cameras:
            raise UserError(
                f"frame {frame.token} of {frame.scene} has no camera images, and learning from images needs them; "
                "leave its scene out of train_split"
            )
        pairs = find_pairs(
            frame,
            labels=self.weak_labels,
            min_depth_m=self.pairs.min_depth_m,
            border_px=self.pairs.border_px,
            occlusion_m=self.pairs.occlusion_m,
        )
        row = np.arange(len(frame.points_lidar_m))
        if self.pairs.drop_unseen:
            seen = np.zeros(len(row), np.bool_)
            seen[pairs.point] = True
            row, pairs = row[seen], drop_points(seen, pairs)
        points_m = frame.points_lidar_m[row]
        turned_m = points_m @ matrix.T if config.cuboid == "published" else points_m
        keep = cuboid_keep(turned_m, pairs, len(frame.cameras), rng, config)
        row, pairs = row[keep], drop_points(keep, pairs)
        cuts = draw_cuts([camera.size for camera in frame.cameras], pairs, rng, config)
        images = np.stack([cut.image(camera.image()) for cut, camera in zip(cuts, frame.cameras, strict=True)])
        segments = _segments(frame, cuts) if self.segments else None
        parts = [cut.pairs(pairs.select(pairs.camera == index)) for index, cut in enumerate(cuts)]
        return _Seen(row, images, segments, Pairs.concatenate(parts))


def _segments(frame: Frame, cuts: Sequence[Cut]) -> NDArray[np.int32]:
    """[cameras, H, W] superpixels of a frame's images, cut like them."""
    parts = []
    for camera, cut in zip(frame.cameras, cuts, strict=True):
        numbers = camera.segments()
        if numbers is None:
            raise UserError(f"{camera.image_path}: has no superpixels; make them with olivine label label_slic")
        parts.append(cut.segments(numbers))
    return np.stack(parts)


def _between(first: Frame, second: Frame) -> NDArray[np.float64]:
    """[4, 4] second_from_first of the frames' LiDARs; NaN where a pose is unknown."""
    if first is second:
        return np.eye(4)
    if first.global_from_lidar is None or second.global_from_lidar is None:
        return np.full((4, 4), np.nan)
    return invert(second.global_from_lidar) @ first.global_from_lidar


def _check_finite(frame: Frame) -> None:
    """Refuse a scan with NaN or infinite points: their voxel is undefined, and one spoils its whole neighbourhood."""
    x, y, z = np.isfinite(frame.points_lidar_m).T
    finite = x & y & z & np.isfinite(frame.intensity)
    if not finite.all():
        raise UserError(
            f"frame {frame.token!r}: {int((~finite).sum())} of {len(finite)} points are not finite (position or "
            "intensity); remove them from the scan"
        )


def _rows(frame: Frame, row: NDArray[np.int64]) -> Frame:
    """The frame with some of its points."""
    if len(row) == len(frame.points_lidar_m):
        return frame
    return replace(
        frame,
        points_lidar_m=frame.points_lidar_m[row],
        intensity=frame.intensity[row],
        labels=None if frame.labels is None else frame.labels[row],
    )


def collate(samples: Sequence[Prepared], seed: int, places: Sequence[int] | None = None) -> Batch:
    """Join samples into a batch.

    Args:
        samples: at least one, all with or all without images, pairs, superpixels, labels and second views.
        seed: see `Batch.seed`.
        places: place of each in its dataset; by default they are counted.

    Raises:
        UserError: some have labels and some have none.
    """
    unlabelled = [sample.token for sample in samples if sample.cloud.labels is None]
    if 0 < len(unlabelled) < len(samples):
        raise UserError(f"{unlabelled[0]}: no labels, though other frames of the split have some; leave it out")
    cloud = _collate_clouds([sample.cloud for sample in samples])
    images = [sample.images for sample in samples if sample.images is not None]
    segments = [sample.segments for sample in samples if sample.segments is not None]
    return Batch(
        tokens=tuple(sample.token for sample in samples),
        samples=torch.tensor(range(len(samples)) if places is None else places),
        cloud=cloud,
        seed=seed,
        images=_join(images).permute(0, 3, 1, 2).contiguous().float().div_(255) if images else None,
        pairs=_collate_pairs(samples, cloud) if images else None,
        segments=_join(segments) if segments else None,
        second=_collate_second([sample.second for sample in samples if sample.second is not None], cloud),
    )


def _collate_clouds(clouds: Sequence[PreparedCloud]) -> Cloud:
    voxel_start = _starts([len(cloud.features) for cloud in clouds])
    coordinates = [np.insert(cloud.voxels.coordinates, 0, index, axis=1) for index, cloud in enumerate(clouds)]
    point_voxel = [
        np.where(cloud.voxels.point_voxel < 0, -1, cloud.voxels.point_voxel + start)
        for cloud, start in zip(clouds, voxel_start, strict=False)
    ]
    labels = [cloud.labels for cloud in clouds if cloud.labels is not None]
    voxel_labels = [cloud.labels[cloud.voxels.first_point] for cloud in clouds if cloud.labels is not None]
    return Cloud(
        coordinates=_join(coordinates),
        features=_join([cloud.features for cloud in clouds]),
        points_m=_join([cloud.points_m for cloud in clouds]),
        point_voxel=_join(point_voxel),
        point_offsets=torch.from_numpy(_starts([len(cloud.points_m) for cloud in clouds])),
        augmented_from_lidar=torch.from_numpy(np.stack([cloud.augmented_from_lidar for cloud in clouds])),
        voxel_labels=_join(voxel_labels).long() if labels else None,
        point_labels=_join(labels).long() if labels else None,
    )


def _collate_second(seconds: Sequence[PreparedSecond], first: Cloud) -> SecondView | None:
    if not seconds:
        return None
    cloud = _collate_clouds([second.cloud for second in seconds])
    starts = np.stack([_voxel_starts(each, len(seconds)) for each in (first, cloud)], axis=1)
    matches = [second.match + start for second, start in zip(seconds, starts, strict=True) if second.match is not None]
    return SecondView(
        cloud=cloud,
        second_from_first=torch.from_numpy(np.stack([second.second_from_first for second in seconds])),
        match=_join(matches) if matches else None,
    )


def _voxel_starts(cloud: Cloud, frames: int) -> NDArray[np.int64]:
    """[B] first voxel of each frame."""
    return _starts(torch.bincount(cloud.coordinates[:, 0].long(), minlength=frames).tolist())[:-1]


def _collate_pairs(samples: Sequence[Prepared], cloud: Cloud) -> PixelPairs:
    image_start = _starts([0 if sample.images is None else len(sample.images) for sample in samples])
    entries = [
        (sample.pairs, sample.range_m, int(cloud.point_offsets[index]), image_start[index])
        for index, sample in enumerate(samples)
        if sample.pairs is not None and sample.range_m is not None
    ]
    point = _join([pairs.point + first for pairs, _, first, _ in entries])
    return PixelPairs(
        point=point,
        voxel=cloud.point_voxel[point],
        image=_join([pairs.camera + first for pairs, _, _, first in entries]),
        uv=_join([pairs.uv for pairs, _, _, _ in entries]),
        label=_join([pairs.label for pairs, _, _, _ in entries]).long(),
        range_m=_join([range_m for _, range_m, _, _ in entries]),
    )


def _starts(lengths: Sequence[int]) -> NDArray[np.int64]:
    """[B + 1] running start of each sample's rows."""
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)


def _join(arrays: Sequence[NDArray[np.generic]]) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays))
