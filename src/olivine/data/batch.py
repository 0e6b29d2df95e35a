"""The batch that every backbone and every method takes.

`olivine.data.prepare` makes one `Prepared` per frame (augmented, voxelised), `collate` joins them. Shape letters:
B frames, N points, V voxels, P pairs, M images, all summed over the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from olivine.sparse import SparseTensor
from olivine.streams import torch_stream

T = TypeVar("T")


@dataclass(frozen=True)
class Cloud:
    """The voxelised clouds of a batch.

    Attributes:
        coordinates: [V, 4] int32 (batch, x, y, z) voxel indices, distinct rows.
        features: [V, C] float32 input features of each voxel.
        points_m: [N, 3] float32 augmented points, metres, frames one after another in file order.
        point_voxel: [N] int64 the voxel (row of `coordinates`) each point lies in, -1 for a point outside the grid.
        point_offsets: [B + 1] int64 frame b owns the points `point_offsets[b]:point_offsets[b + 1]`.
        augmented_from_lidar: [B, 3, 3] float32 the linear map by which each frame's points were augmented.
        voxel_labels: [V] int64 training class of each voxel (0 = ignored), or None where unlabelled or not asked for.
        point_labels: [N] int64 training class of each point, or None likewise.
        intensity: [N] float32 intensity of each point, in the range that the voxels' features have it (see
            `voxels.intensity`), or None where not asked for.
    """

    coordinates: Tensor
    features: Tensor
    points_m: Tensor
    point_voxel: Tensor
    point_offsets: Tensor
    augmented_from_lidar: Tensor
    voxel_labels: Tensor | None = None
    point_labels: Tensor | None = None
    intensity: Tensor | None = None

    @cached_property
    def tensor(self) -> SparseTensor:
        """The voxels as a sparse tensor; the same one for all who ask, with the kernel maps that it has by then."""
        return SparseTensor(self.features, self.coordinates)


@dataclass(frozen=True)
class PixelPairs:
    """Voxel-to-pixel pairs of a batch.

    Attributes:
        point: [P] int64 row of `Cloud.points_m`.
        voxel: [P] int64 row of `Cloud.coordinates`.
        image: [P] int64 row of `Batch.images`.
        uv: [P, 2] float32 pixel (column, row) in the augmented image, pixel centres at integers.
        label: [P] int64 weak label, 255 unknown.
        range_m: [P] float32 horizontal distance √(x² + y²) of the point from the LiDAR, metres, not augmented.
    """

    point: Tensor
    voxel: Tensor
    image: Tensor
    uv: Tensor
    label: Tensor
    range_m: Tensor


@dataclass(frozen=True)
class Boxes:
    """The annotated boxes of a batch, of the categories that were asked for. M boxes.

    Attributes:
        values: [M, 7] float32 (x, y, z, dx, dy, dz, yaw) in the frame of the augmented points, metres and radians, the
            centre at the geometric centre, dx along the heading.
        label: [M] int64 class 1…C in the order of `Needs.boxes`.
        difficulty: [M] int64 by the dataset's own rule, from 0; -1 where that says nothing.
        frame: [M] int64 frame of the batch, ascending.
    """

    values: Tensor
    label: Tensor
    difficulty: Tensor
    frame: Tensor


@dataclass(frozen=True)
class SecondView:
    """Another view of each frame of a batch: the same scan augmented anew, or a neighbouring frame of its scene.

    Attributes:
        cloud: its voxelised clouds, frame b of them belonging to frame b of `Batch.cloud`.
        second_from_first: [B, 4, 4] float64 transform from the LiDAR frame of the first view to that of the second,
            both before augmentation; the identity where both are views of one scan.
        match: [Q, 2] int64 rows (of `Batch.cloud.coordinates`, of `cloud.coordinates`) of voxels that hold the same
            point, each pair once; None where the method asks for none.
    """

    cloud: Cloud
    second_from_first: Tensor
    match: Tensor | None


@dataclass(frozen=True)
class Batch:
    """One step's input, the same for every method.

    Attributes:
        tokens: [B] frame tokens.
        samples: [B] int64 place of each frame in the dataset.
        cloud: the voxelised clouds.
        seed: seeds every random choice a method makes in this step; it depends on (seed, epoch, step, rank) only.
        images: [M, 3, H, W] float32 RGB in 0…1, or None where the method asks for no images.
        pairs: the pairs, or None where the method asks for none.
        segments: [M, H, W] int32 superpixel of each pixel, numbered from 0 in each image, -1 in none; or None where
            the method asks for none.
        second: another view of each frame, or None where the method asks for none.
        boxes: the annotated boxes, or None where nothing asks for them.
    """

    tokens: tuple[str, ...]
    samples: Tensor
    cloud: Cloud
    seed: int
    images: Tensor | None = None
    pairs: PixelPairs | None = None
    segments: Tensor | None = None
    second: SecondView | None = None
    boxes: Boxes | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def generator(self) -> torch.Generator:
        """A fresh CPU generator for this step's random choices (CPU, so that every device draws the same)."""
        return torch_stream("method", self.seed)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with every tensor on `device`."""
        return _to(self, torch.device(device))


def _to(value: T, device: torch.device) -> T:
    """Move every tensor field of a (nested) batch dataclass."""
    moved = {}
    for entry in fields(value):  # type: ignore[arg-type]
        item = getattr(value, entry.name)
        if isinstance(item, Tensor):
            moved[entry.name] = item.to(device, non_blocking=True)
        elif is_dataclass(item):
            moved[entry.name] = _to(item, device)  # type: ignore[assignment]
    return replace(value, **moved)  # type: ignore[type-var]
