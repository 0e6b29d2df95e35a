"""Small batches with all that methods and detectors ask for, made from a seed, and backbones that take little time."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from olivine.backbones import Backbone, VoxelEmbedding, VoxelNet
from olivine.data.batch import Batch, Cloud, PixelPairs, SecondView
from olivine.data.collate import collate
from olivine.data.frame import Boxes, Frame
from olivine.data.needs import Needs
from olivine.data.prepare import Prepare
from olivine.data.voxelize import CartesianVoxels
from olivine.streams import stream

_FINE_M = (0.1 / 8, 0.1 / 8, 0.1 / 3)
VOXELNET_GRID = CartesianVoxels(size_m=_FINE_M, bounds_m=(0, 0, 0, 128 * _FINE_M[0], 128 * _FINE_M[1], 40 * _FINE_M[2]))
"""The grid of `toy_voxelnet`."""


def toy_batch(
    *,
    frames: int = 2,
    voxels: int = 60,
    pairs: int = 40,
    images: int = 2,
    classes: int = 4,
    size: tuple[int, int] = (32, 24),
    seed: int = 0,
    draw_seed: int = 0,
    labelled: bool = True,
) -> Batch:
    """A batch of `frames` clouds of `voxels` voxels, `pairs` pairs in all and `images` images a frame.

    Each image has 12 superpixels, tiles of a 4 × 3 grid. The second view of a frame has the same voxels in another
    order and other features; `pairs` of them match.

    Args:
        frames: number of clouds.
        voxels: voxels of each.
        pairs: point-pixel pairs, and matches of each second view.
        images: images of each frame.
        classes: number of weak classes.
        size: (width, height) of the images.
        seed: draws the content.
        draw_seed: `Batch.seed`.
        labelled: draw weak labels, a tenth of them unknown; otherwise all are unknown.
    """
    generator = torch.Generator().manual_seed(seed)
    cloud = _cloud(torch.cat([_voxels(frame, voxels, generator) for frame in range(frames)]), frames, generator)
    count = len(cloud.coordinates)
    voxel = torch.randint(count, (pairs,), generator=generator)
    label = torch.randint(classes, (pairs,), generator=generator)
    label[torch.rand(pairs, generator=generator) < (0.1 if labelled else 2.0)] = 255
    return Batch(
        tokens=tuple(str(frame) for frame in range(frames)),
        samples=torch.arange(frames),
        cloud=cloud,
        images=torch.rand(frames * images, 3, size[1], size[0], generator=generator),
        pairs=PixelPairs(
            point=voxel,
            voxel=voxel,
            # Each voxel's pixels lie in the images of its own frame.
            image=cloud.coordinates[voxel, 0].long() * images + torch.randint(images, (pairs,), generator=generator),
            uv=torch.rand(pairs, 2, generator=generator) * (torch.tensor(size) - 1),
            label=label,
            range_m=1 + 50 * torch.rand(pairs, generator=generator) ** 2,
        ),
        segments=_tiles(size).repeat(frames * images, 1, 1),
        second=_second(cloud, frames, pairs, generator),
        seed=draw_seed,
    )


def _cloud(coordinates: torch.Tensor, frames: int, generator: torch.Generator) -> Cloud:
    """A cloud of one point a voxel, with random features."""
    count = len(coordinates)
    return Cloud(
        coordinates=coordinates,
        features=torch.rand(count, 1, generator=generator),
        points_m=coordinates[:, 1:].float() * 0.1,
        point_voxel=torch.arange(count),
        point_offsets=torch.arange(frames + 1) * (count // frames),
        augmented_from_lidar=torch.eye(3).repeat(frames, 1, 1),
    )


def _second(first: Cloud, frames: int, matches: int, generator: torch.Generator) -> SecondView:
    """The voxels of a cloud in another order within each frame."""
    count = len(first.coordinates) // frames
    order = torch.cat([torch.randperm(count, generator=generator) + frame * count for frame in range(frames)])
    match = torch.stack([order, torch.arange(len(order))], dim=1)
    return SecondView(
        cloud=_cloud(first.coordinates[order], frames, generator),
        second_from_first=torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1),
        match=match[torch.randperm(len(match), generator=generator)[:matches]],
    )


def _tiles(size: tuple[int, int]) -> torch.Tensor:
    """[1, H, W] int32 number of the tile each pixel lies in."""
    column, row = torch.arange(size[0]) * 4 // size[0], torch.arange(size[1]) * 3 // size[1]
    return (row[:, None] * 4 + column)[None].int()


def _voxels(frame: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """[count, 4] distinct voxels of one frame."""
    side = max(4, round(2 * count ** (1 / 3)))
    flat = torch.randperm(side**3, generator=generator)[:count]
    xyz = torch.stack([flat // side**2, flat // side % side, flat % side], dim=1)
    return torch.cat([torch.full((count, 1), frame), xyz], dim=1).int()


class ToyBackbone(Backbone):
    """A backbone that looks at one voxel at a time: fast, with batch statistics."""

    channels = 16

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(4, self.channels), nn.BatchNorm1d(self.channels), nn.ReLU())

    def forward(self, cloud: Cloud) -> VoxelEmbedding:
        """A feature for every voxel."""
        position = cloud.coordinates[:, 1:].to(cloud.features.dtype) / 10
        return VoxelEmbedding(self.stem(torch.cat([cloud.features, position], dim=1)), cloud.point_voxel)


_PIXEL_VOXELS = torch.tensor((1, 8, 8, 3))
"""Voxels of a toy VoxelNet's grid along (batch, x, y, z) for one of a toy batch: a pixel of its map wide."""


def toy_voxelnet() -> VoxelNet:
    """A VoxelNet for batches that are `seen_from_above`, with a pixel of its map for every column of their voxels.

    Voxels above the ninth of a column are too high for it, as on the published grid.
    """
    return VoxelNet(1, VOXELNET_GRID, momentum=0.1)


def seen_from_above(batch: Batch) -> Batch:
    """A toy batch on the grid of `toy_voxelnet`: the same points, in voxels of another size."""
    second = batch.second
    return replace(
        batch,
        cloud=_on_fine_voxels(batch.cloud),
        second=None if second is None else replace(second, cloud=_on_fine_voxels(second.cloud)),
    )


def _on_fine_voxels(cloud: Cloud) -> Cloud:
    return replace(cloud, coordinates=(cloud.coordinates * _PIXEL_VOXELS).int())


def toy_objects(
    voxels: CartesianVoxels,
    needs: Needs,
    *,
    seeds: tuple[int, ...] = (0, 1),
    points: int = 400,
    objects: int = 3,
) -> Batch:
    """A batch of a frame for each seed: points ahead of the sensor, up to 20 m away, and objects as large as cars.

    Args:
        voxels: the grid.
        needs: what the batch holds; `boxes` are the classes of the objects, drawn at random.
        seeds: draw the content; the first is `Batch.seed` too.
        points: points of each frame.
        objects: objects of each.
    """
    classes, prepare, samples = needs.boxes or (), Prepare(voxels, needs=needs), []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        xyz = rng.uniform((-1, -14, -3), (20, 14, 1), (points, 3)).astype(np.float32)
        centres, yaws = rng.uniform((3, -9, -2), (18, 9, 0), (objects, 3)), rng.uniform(-3, 3, (objects, 1))
        boxes = np.concatenate((centres, np.tile((3.9, 1.6, 1.6), (objects, 1)), yaws), axis=1)
        names = tuple(classes[row] for row in rng.integers(len(classes), size=objects))
        intensity = rng.random(points).astype(np.float32)
        frame = Frame(str(seed), "scene", xyz, intensity, 1.0, seed, boxes=Boxes(boxes, names))
        samples.append(prepare(frame, stream("none")))
    return collate(samples, seed=seeds[0])
