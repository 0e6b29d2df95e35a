"""What DeepCluster clusters: regions of a scan that are the same whichever way it is augmented.

An image has one subject, a scan of a street has many; clustering whole scans would tell little more than one street
from another. A region is therefore a square cell of the ground around the sensor, laid out before augmentation, so
that a rotated, mirrored or scaled scan still has the same cells. Letters: V voxels, R regions of a batch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from olivine.config import Config
from olivine.data.batch import Batch, Cloud
from olivine.host import sent
from olivine.rows import take_rows


class RegionConfig(Config):
    """Which parts of a scan are clustered."""

    cell_m: PositiveFloat | None = 8.0
    """Side of the square cells of the ground, metres; null takes the whole scan as one region, as images are."""
    radius_m: PositiveFloat = Field(default=48.0)
    """Voxels farther from the sensor than this, measured on the ground, belong to no cell, metres."""
    min_voxels: PositiveInt = 8
    """A cell with fewer voxels is left out: too little is seen of it."""


class Regions(NamedTuple):
    """The regions of a batch; what is said of them is on the CPU.

    Attributes:
        keys: [R] int64 names of the regions, ascending; a place keeps its name in every epoch and augmentation.
        voxels: [W] int64 voxels that lie in a region, those of one region together, in the order of `keys`.
        sizes: [R] int64 voxels of each region.
    """

    keys: Tensor
    voxels: Tensor
    sizes: Tensor

    def mean(self, features: Tensor) -> Tensor:
        """Mean feature of each region; the same numbers in every run.

        Args:
            features: [V, D] features of the voxels.

        Returns:
            [R, D] float32 or wider, differentiable.
        """
        device = features.device
        rows = take_rows(features, sent(self.voxels, device)).to(torch.promote_types(features.dtype, torch.float32))
        if len(self.keys) == 0:
            return rows
        # The sizes are what they should be; to look whether they are, the host would wait for a GPU.
        safe = device.type == "cpu"
        pooled: Tensor = torch.segment_reduce(rows, "mean", lengths=sent(self.sizes, device), unsafe=not safe)
        return pooled


def regions(batch: Batch, config: RegionConfig) -> Regions:
    """The regions of a batch and the voxels in each.

    Args:
        batch: any batch; only its cloud and `samples` are looked at, on the CPU.
        config: how regions are laid out.
    """
    batch = batch.host
    cloud = batch.cloud
    frame = cloud.coordinates[:, 0].long()
    if config.cell_m is None:
        key, inside = batch.samples[frame], torch.ones_like(frame, dtype=torch.bool)
    else:
        # A cell's name counts rows and columns of a square of `side` cells that holds the whole circle.
        half = math.ceil(config.radius_m / config.cell_m)
        side = 2 * half
        xy_m = lidar_xy(cloud)
        cell = torch.floor(xy_m / config.cell_m).long() + half
        key = (batch.samples[frame] * side + cell[:, 0]) * side + cell[:, 1]
        inside = xy_m.norm(dim=1) < config.radius_m
    voxels = inside.nonzero()[:, 0]
    order = key[voxels].argsort(stable=True)
    keys, sizes = torch.unique_consecutive(key[voxels[order]], return_counts=True)
    enough = sizes >= config.min_voxels
    return Regions(keys[enough], voxels[order][enough.repeat_interleave(sizes)], sizes[enough])


def lidar_xy(cloud: Cloud) -> Tensor:
    """Where each voxel lies on the ground, before augmentation: the place of its first point.

    Args:
        cloud: the clouds of a batch; every voxel holds a point.

    Returns:
        [V, 2] float64 x and y in the LiDAR frame, metres.
    """
    rows = torch.arange(len(cloud.point_voxel), device=cloud.point_voxel.device)
    inside = cloud.point_voxel >= 0
    first = torch.full((len(cloud.coordinates),), len(rows), device=rows.device)
    first = first.scatter_reduce(0, cloud.point_voxel[inside], rows[inside], "amin")
    lidar_from_augmented = torch.linalg.inv(cloud.augmented_from_lidar.double())[cloud.coordinates[:, 0].long(), :2]
    xy_m: Tensor = (lidar_from_augmented * cloud.points_m[first].double()[:, None]).sum(2)
    return xy_m
