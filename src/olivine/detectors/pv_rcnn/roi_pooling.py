"""Grid pooling of PV-RCNN (Shi et al., CVPR 2020, arXiv 1912.13192, 3.3): what keypoints know about a proposal."""

from __future__ import annotations

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from olivine.detectors.pv_rcnn.grouping import GroupingConfig, MultiScaleGrouping
from olivine.detectors.pv_rcnn.roi_frame import rotated


class RoiGridConfig(GroupingConfig):
    """Grids in proposals, and what lies around their points; the defaults are the published ones."""

    points: PositiveInt = 6
    """Points of a grid along each side of a proposal."""
    radii_m: tuple[PositiveFloat, ...] = Field(default=(0.8, 1.6), min_length=1)
    """How far to look around a point of a grid, metres; one radius or several."""
    samples: tuple[PositiveInt, ...] = (16, 16)
    """How many keypoints to look at for each radius: the first in their order, the first of all for want of others."""
    mlps: tuple[tuple[PositiveInt, ...], ...] = ((64, 64), (64, 64))
    """Channels of the network's layers for each radius."""


class RoiGridPool(MultiScaleGrouping):
    """The grouping layer with the points of grids in proposals as its centres.

    Args:
        in_channels: channels of the keypoints.
        config: the grid and the layer.

    Attributes:
        points: G, points of a grid along each side.
        pooled_channels: numbers that are known of a proposal.
    """

    def __init__(self, in_channels: int, config: RoiGridConfig) -> None:
        super().__init__(in_channels, config.radii_m, config.samples, config.mlps)
        self.points = config.points
        self.pooled_channels = self.out_channels * config.points**3

    def in_rois(self, xyz_m: Tensor, offsets: Tensor, features: Tensor, rois: Tensor) -> Tensor:
        """What keypoints know about the proposals of a batch.

        Args:
            xyz_m: [N, 3] float32 or float64 keypoints of B frames, metres.
            offsets: [B + 1] int64 frame b owns the keypoints `offsets[b]:offsets[b + 1]`; it may own none.
            features: [N, in_channels] of the keypoints.
            rois: [B, R, 7] (x, y, z, dx, dy, dz, yaw) of the type of the keypoints, metres and radians.

        Returns:
            [B, R, out_channels, G³], the points of a grid as `grid_points` has them.
        """
        frames, count, _ = rois.shape
        grids = grid_points(rois, self.points)
        starts = torch.arange(frames + 1, device=rois.device) * (count * self.points**3)
        pooled: Tensor = self(xyz_m, offsets, grids.flatten(0, 2), starts, features)
        return pooled.view(frames, count, -1, self.out_channels).transpose(2, 3)


def grid_points(rois: Tensor, size: int) -> Tensor:
    """The points of a regular grid in each proposal.

    Args:
        rois: [..., 7] (x, y, z, dx, dy, dz, yaw), metres and radians.
        size: G, points along each side; they stand in the middles of as many equal cells.

    Returns:
        [..., G³, 3] metres, in the frame of the proposals' boxes; the point along the heading changes slowest, the one
        along z fastest.
    """
    steps = (torch.arange(size, dtype=rois.dtype, device=rois.device) + 0.5) / size - 0.5
    places = torch.cartesian_prod(steps, steps, steps) * rois[..., None, 3:6]
    return rotated(places, rois[..., None, 6]) + rois[..., None, :3]
