"""From samples to a batch: the joining of what `olivine.data.prepare` made of each frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from olivine.data.batch import Batch, Boxes, Cloud, PixelPairs, SecondView
from olivine.data.prepare import Prepared, PreparedBoxes, PreparedCloud, PreparedSecond
from olivine.errors import UserError


def collate(samples: Sequence[Prepared], seed: int, places: Sequence[int] | None = None) -> Batch:
    """Join samples into a batch.

    Args:
        samples: at least one, all with or all without images, pairs, superpixels, labels, intensities and
            second views.
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
        images=_join(images).permute(0, 3, 1, 2).contiguous() if images else None,
        pairs=_collate_pairs(samples, cloud) if images else None,
        segments=_join(segments) if segments else None,
        second=_collate_second([sample.second for sample in samples if sample.second is not None], cloud),
        boxes=_collate_boxes([sample.boxes for sample in samples if sample.boxes is not None]),
    )


def _collate_clouds(clouds: Sequence[PreparedCloud]) -> Cloud:
    voxel_start = _starts([len(cloud.features) for cloud in clouds])
    coordinates = [np.insert(cloud.voxels.coordinates, 0, index, axis=1) for index, cloud in enumerate(clouds)]
    point_voxel = [
        np.where(cloud.voxels.point_voxel < 0, -1, cloud.voxels.point_voxel + start)
        for cloud, start in zip(clouds, voxel_start, strict=False)
    ]
    labels = [cloud.labels for cloud in clouds if cloud.labels is not None]
    intensities = [cloud.intensity for cloud in clouds if cloud.intensity is not None]
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
        intensity=_join(intensities) if intensities else None,
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


def _collate_boxes(boxes: Sequence[PreparedBoxes]) -> Boxes | None:
    if not boxes:
        return None
    counts = [len(each.label) for each in boxes]
    return Boxes(
        values=_join([each.values.astype(np.float32) for each in boxes]),
        label=_join([each.label for each in boxes]),
        difficulty=_join([each.difficulty for each in boxes]),
        frame=torch.from_numpy(np.repeat(np.arange(len(boxes)), counts)),
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
