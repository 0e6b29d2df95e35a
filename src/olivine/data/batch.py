"""The batch that every backbone and every method takes.

`olivine.data.prepare` makes one `Prepared` per frame (augmented, voxelised), `collate` joins them. Shape letters:
B frames, N points, V voxels, P pairs, M images, all summed over the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from olivine.host import sent, waiting
from olivine.sparse import SparseTensor
from olivine.streams import torch_stream

T = TypeVar("T", bound="_Placed")


class _Placed:
    """Tensors of one place, some of which may be parts of the same kind."""

    @property
    def host(self: T) -> T:
        """The same on the CPU, for what is drawn, counted or sorted there: itself, or what was moved by `to`.

        What was made on a device, or changed there by `dataclasses.replace`, is copied, for which the host waits.
        """
        kept: T | None = getattr(self, "_host", None)
        if kept is not None:
            return kept
        if all(value.device.type == "cpu" for value in self.tensors()):
            return self
        with waiting("a batch that was made on a device"):
            copied = self.to("cpu")
        object.__setattr__(self, "_host", copied)
        return copied

    def to(self: T, device: torch.device | str) -> T:
        """The same with every tensor on `device`; from the CPU to a GPU without waiting where they are pinned."""
        place = torch.device(device)
        moved = self._each(lambda name, value: _moved(name, value, place))
        if place.type != "cpu" and all(value.device.type == "cpu" for value in self.tensors()):
            object.__setattr__(moved, "_host", self)
        return moved

    def pin_memory(self: T) -> T:
        """The same in memory from which a GPU reads while the host goes on; PyTorch's loader calls this."""
        return self._each(lambda _, value: value.pin_memory())

    def tensors(self) -> Iterator[Tensor]:
        """All its tensors, those of its parts included."""
        for entry in fields(self):  # type: ignore[arg-type]
            item = getattr(self, entry.name)
            if isinstance(item, Tensor):
                yield item
            elif isinstance(item, _Placed):
                yield from item.tensors()

    def _each(self: T, change: Callable[[str, Any], Any]) -> T:
        changed = {}
        for entry in fields(self):  # type: ignore[arg-type]
            item = getattr(self, entry.name)
            if isinstance(item, Tensor | _Placed):
                changed[entry.name] = change(entry.name, item)
        return replace(self, **changed)  # type: ignore[type-var]


def _moved(name: str, value: Tensor | _Placed, device: torch.device) -> Tensor | _Placed:
    if isinstance(value, _Placed):
        return value.to(device)
    moved = sent(value, device)
    return in_numbers(moved) if name == "images" else moved


def in_numbers(images: Tensor) -> Tensor:
    """Images as float32 RGB in 0…1, which travel as bytes (uint8 RGB in 0…255): a quarter of the way."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images


@dataclass(frozen=True)
class Cloud(_Placed):
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
        return SparseTensor(self.features, self.coordinates, trusted=self.coordinates.device.type != "cpu")


@dataclass(frozen=True)
class PixelPairs(_Placed):
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
class Boxes(_Placed):
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
class SecondView(_Placed):
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
class Batch(_Placed):
    """One step's input, the same for every method.

    Attributes:
        tokens: [B] frame tokens.
        samples: [B] int64 place of each frame in the dataset.
        cloud: the voxelised clouds.
        seed: seeds every random choice a method makes in this step; it depends on (seed, epoch, step, rank) only.
        images: [M, 3, H, W] float32 RGB in 0…1, or None where the method asks for no images; uint8 in 0…255 as a loader
            hands them out, until the batch is moved by `to`, also to the CPU.
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
