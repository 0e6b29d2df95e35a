"""From a frame to what a network sees: pairs, augmentation, voxels, and the collation of samples into a `Batch`.

`Prepare` is a picklable callable that loader processes run once per sample; it does only what it was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from olivine.config import Config
from olivine.data.augment import (
    CloudAugment,
    ImageAugment,
    augment_images,
    cloud_transform,
    cuboid_keep,
    drop_points,
)
from olivine.data.batch import Batch, Cloud, PixelPairs
from olivine.data.frame import Frame, Pairs, find_pairs
from olivine.data.voxelize import CartesianVoxels, CylindricalVoxels, Voxels, voxel_features, voxelize
from olivine.errors import UserError


class PairConfig(Config):
    """Which points count as seen by a camera."""

    min_depth_m: float = Field(default=1.0, gt=0)
    """Pairs must be deeper than this, metres."""

    border_px: float = Field(default=1.0, ge=0)
    """Pairs must lie strictly inside the image by this, pixels."""

    occlusion_m: float | None = Field(default=None, ge=0)
    """Drop points that lie this much behind others in their image neighbourhood, metres; null keeps all, as
    published."""

    drop_unseen: bool = False
    """Remove the points that no camera sees from the cloud. Off in the published recipe; where one camera looks ahead
    (SemanticKITTI) it leaves a fifth of the cloud, and pretraining is that much faster."""


@dataclass(frozen=True)
class Prepared:
    """One sample, ready to be collated. N points, V voxels, P pairs.

    Attributes:
        token: the frame's token.
        points_m: [N, 3] float32 augmented points, metres.
        voxels: their voxels.
        features: [V, C] float32 input features.
        labels: [N] uint8 training classes, or None.
        images: [cameras, H, W, 3] uint8, or None.
        pairs: the pairs, or None; every pair's point lies in a voxel.
        range_m: [P] float32 horizontal range of each pair's point before augmentation, metres, or None.
    """

    token: str
    points_m: NDArray[np.float32]
    voxels: Voxels
    features: NDArray[np.float32]
    labels: NDArray[np.uint8] | None
    images: NDArray[np.uint8] | None
    pairs: Pairs | None
    range_m: NDArray[np.float32] | None


@dataclass(frozen=True)
class Prepare:
    """Turn frames into samples.

    Attributes:
        voxels: the grid.
        cloud: cloud augmentation, or None for none.
        images: image augmentation where images and pairs are wanted, or None for a cloud alone.
        pairs: which points pair with pixels; used with `images` only.
        weak_labels: look the weak label of every pair up in the masks.
        labels: carry the 3-D labels. Pretraining leaves this off, so no method can see one.
    """

    voxels: CylindricalVoxels | CartesianVoxels
    cloud: CloudAugment | None = None
    images: ImageAugment | None = None
    pairs: PairConfig = field(default_factory=PairConfig)
    weak_labels: bool = False
    labels: bool = False

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Prepared:
        """Prepare one frame.

        Args:
            frame: the frame.
            rng: the generator keyed by (seed, epoch, sample).

        Raises:
            UserError: images are wanted and the frame has no camera;
                an image or a mask is missing, unreadable or of the wrong size, or a point is not finite or too
                far away for the grid.
        """
        _check_finite(frame)
        images, pairs = None, None
        if self.images is not None:
            frame, images, pairs = self._cameras(frame, rng, self.images)
        points_m = frame.points_lidar_m
        if self.cloud is not None:
            points_m = points_m @ cloud_transform(rng, self.cloud).T
        try:
            voxels = voxelize(points_m, self.voxels)
        except UserError as error:
            raise UserError(f"frame {frame.token!r}: {error}") from error
        range_m = None
        if pairs is not None:
            pairs = pairs.select(voxels.point_voxel[pairs.point] >= 0)
            range_m = np.hypot(*frame.points_lidar_m[pairs.point, :2].T)
        return Prepared(
            token=frame.token,
            points_m=points_m,
            voxels=voxels,
            features=voxel_features(frame, points_m, voxels, self.voxels),
            labels=frame.labels if self.labels else None,
            images=images,
            pairs=pairs,
            range_m=range_m,
        )

    def _cameras(
        self, frame: Frame, rng: np.random.Generator, config: ImageAugment
    ) -> tuple[Frame, NDArray[np.uint8], Pairs]:
        """Pairs and images, augmented together with the cloud."""
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
        if self.pairs.drop_unseen:
            seen = np.zeros(len(frame.points_lidar_m), np.bool_)
            seen[pairs.point] = True
            frame, pairs = _keep_points(seen, frame, pairs)
        keep = cuboid_keep(frame.points_lidar_m, pairs, len(frame.cameras), rng, config)
        frame, pairs = _keep_points(keep, frame, pairs)
        images, pairs = augment_images([camera.image() for camera in frame.cameras], pairs, rng, config)
        return frame, images, pairs


def _check_finite(frame: Frame) -> None:
    """Refuse a scan with NaN or infinite points: their voxel is undefined, and one spoils its whole neighbourhood."""
    finite = np.isfinite(frame.points_lidar_m).all(axis=1) & np.isfinite(frame.intensity)
    if not finite.all():
        raise UserError(
            f"frame {frame.token!r}: {int((~finite).sum())} of {len(finite)} points are not finite (position or "
            "intensity); remove them from the scan"
        )


def _keep_points(keep: NDArray[np.bool_], frame: Frame, pairs: Pairs) -> tuple[Frame, Pairs]:
    """The frame and its pairs without the points where `keep` [N] is false."""
    thinned = replace(
        frame,
        points_lidar_m=frame.points_lidar_m[keep],
        intensity=frame.intensity[keep],
        labels=None if frame.labels is None else frame.labels[keep],
    )
    return thinned, drop_points(keep, pairs)


def collate(samples: Sequence[Prepared], seed: int) -> Batch:
    """Join samples into a batch.

    Args:
        samples: at least one, all with or all without images, pairs and labels.
        seed: see `Batch.seed`.
    """
    voxel_start = _starts([len(sample.features) for sample in samples])
    point_start = _starts([len(sample.points_m) for sample in samples])
    coordinates = [np.insert(sample.voxels.coordinates, 0, index, axis=1) for index, sample in enumerate(samples)]
    point_voxel = [
        np.where(sample.voxels.point_voxel < 0, -1, sample.voxels.point_voxel + start)
        for sample, start in zip(samples, voxel_start, strict=False)
    ]
    labels = [sample.labels for sample in samples if sample.labels is not None]
    voxel_labels = [sample.labels[sample.voxels.first_point] for sample in samples if sample.labels is not None]
    cloud = Cloud(
        coordinates=_join(coordinates),
        features=_join([sample.features for sample in samples]),
        points_m=_join([sample.points_m for sample in samples]),
        point_voxel=_join(point_voxel),
        point_offsets=torch.from_numpy(point_start),
        voxel_labels=_join(voxel_labels).long() if labels else None,
        point_labels=_join(labels).long() if labels else None,
    )
    images = [sample.images for sample in samples if sample.images is not None]
    return Batch(
        tokens=tuple(sample.token for sample in samples),
        cloud=cloud,
        images=_join(images).permute(0, 3, 1, 2).contiguous().float().div_(255) if images else None,
        pairs=_collate_pairs(samples, point_start, cloud.point_voxel) if images else None,
        seed=seed,
    )


def _collate_pairs(samples: Sequence[Prepared], point_start: NDArray[np.int64], point_voxel: Tensor) -> PixelPairs:
    image_start = _starts([0 if sample.images is None else len(sample.images) for sample in samples])
    entries = [
        (sample.pairs, sample.range_m, point_start[index], image_start[index])
        for index, sample in enumerate(samples)
        if sample.pairs is not None and sample.range_m is not None
    ]
    point = _join([pairs.point + first for pairs, _, first, _ in entries])
    return PixelPairs(
        point=point,
        voxel=point_voxel[point],
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
