"""The batch that every backbone and every method takes.

`olivine.data.prepare` makes one `Prepared` per frame (augmented, voxelised), `collate` joins them. Shape letters:
B frames, N points, V voxels, P pairs, M images, all summed over the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

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
        voxel_labels: [V] int64 training class of each voxel (0 = ignored), or None where unlabelled or not asked for.
        point_labels: [N] int64 training class of each point, or None likewise.
    """

    coordinates: Tensor
    features: Tensor
    points_m: Tensor
    point_voxel: Tensor
    point_offsets: Tensor
    voxel_labels: Tensor | None = None
    point_labels: Tensor | None = None


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
class Batch:
    """One step's input, the same for every method.

    Attributes:
        tokens: [B] frame tokens.
        cloud: the voxelised clouds.
        images: [M, 3, H, W] float32 RGB in 0…1, or None where the method asks for no images.
        pairs: the pairs, or None where the method asks for none.
        seed: seeds every random choice a method makes in this step; it depends on (seed, epoch, step, rank) only.
    """

    tokens: tuple[str, ...]
    cloud: Cloud
    images: Tensor | None
    pairs: PixelPairs | None
    seed: int

    def __len__(self) -> int:
        return len(self.tokens)

    def generator(self) -> torch.Generator:
        """A fresh CPU generator for this step's random choices (CPU, so that every device draws the same)."""
        return torch.Generator().manual_seed(self.seed)

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
