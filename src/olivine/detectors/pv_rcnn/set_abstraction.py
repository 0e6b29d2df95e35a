"""Voxel set abstraction: a scene as a few keypoints that know what is around them (Shi et al., arXiv 1912.13192, 3.2).

    points → furthest points ─┬─ the map seen from above, read there
                              ├─ raw points around           → joined → linear layer, batch norm, ReLU
                              └─ voxels of four scales around

Letters: B frames, N points, K keypoints a frame, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn.functional import pad

from olivine.backbones.voxelnet import STRIDE, VoxelScales
from olivine.config import Config
from olivine.data.voxelize import CartesianVoxels
from olivine.detectors.pv_rcnn.grouping import GroupingConfig
from olivine.host import counted, fetched, numbers_on, sent
from olivine.points import furthest_points
from olivine.points.layers import RowNorm
from olivine.rows import mix_rows
from olivine.sparse.grid import GridTensor

SCALE_CHANNELS = (16, 32, 64, 64)
"""Channels of the encoder's four scales (`VoxelScales`)."""
_SCALE_STRIDES = (1, 2, 4, 8)


class VoxelSetAbstractionConfig(Config):
    """Keypoints and what they look at; the defaults are the published ones for KITTI."""

    keypoints: PositiveInt = 2048
    """Keypoints of a frame; a frame of fewer points has some of them several times."""
    raw_points: GroupingConfig = GroupingConfig(radii_m=(0.4, 0.8), samples=(16, 16), mlps=((16, 16), (16, 16)))
    """Looking at the points themselves."""
    x_conv1: GroupingConfig = GroupingConfig(radii_m=(0.4, 0.8), samples=(16, 16), mlps=((16, 16), (16, 16)))
    """Looking at the encoder's finest voxels."""
    x_conv2: GroupingConfig = GroupingConfig(radii_m=(0.8, 1.2), samples=(16, 32), mlps=((32, 32), (32, 32)))
    """Looking at voxels twice as large."""
    x_conv3: GroupingConfig = GroupingConfig(radii_m=(1.2, 2.4), samples=(16, 32), mlps=((64, 64), (64, 64)))
    """Looking at voxels four times as large."""
    x_conv4: GroupingConfig = GroupingConfig(radii_m=(2.4, 4.8), samples=(16, 32), mlps=((64, 64), (64, 64)))
    """Looking at voxels eight times as large."""
    channels: PositiveInt = 128
    """Channels of a keypoint after fusion."""

    @property
    def scales(self) -> tuple[GroupingConfig, GroupingConfig, GroupingConfig, GroupingConfig]:
        """What looks at the four scales of voxels, from the finest on."""
        return self.x_conv1, self.x_conv2, self.x_conv3, self.x_conv4


@dataclass(frozen=True)
class Keypoints:
    """The keypoints of a batch. P of them: K for each frame that has points, none for one without.

    Attributes:
        xyz_m: [P, 3] where they are, metres; of the type of the points.
        offsets: [B + 1] int64 frame b owns the keypoints `offsets[b]:offsets[b + 1]`.
        features: [P, C] what they know before fusion: of the map, of raw points, of the scales from the finest on.
        fused: [P, C'] the same after fusion.
    """

    xyz_m: Tensor
    offsets: Tensor
    features: Tensor
    fused: Tensor


class VoxelSetAbstraction(nn.Module):
    """From the encoder's output to keypoints. Layers carry the names of the published code.

    Args:
        config: the settings.
        voxels: the grid of the encoder's input.
        map_channels: channels of the map seen from above.
        scale_channels: channels of the encoder's four scales.

    Attributes:
        channels_before_fusion: channels of `Keypoints.features`.
        out_channels: channels of `Keypoints.fused`.
    """

    def __init__(
        self,
        config: VoxelSetAbstractionConfig,
        voxels: CartesianVoxels,
        map_channels: int,
        scale_channels: Sequence[int] = SCALE_CHANNELS,
    ) -> None:
        super().__init__()
        assert voxels.bounds_m is not None, "the encoder's grid has bounds"
        self._low_m, self._voxel_m, self._count = voxels.bounds_m[:3], voxels.size_m, config.keypoints
        of_scales = [scale.build(inputs) for scale, inputs in zip(config.scales, scale_channels, strict=True)]
        self.SA_layers = nn.ModuleList(of_scales)
        self.SA_rawpoints = config.raw_points.build(1)
        layers = (self.SA_rawpoints, *of_scales)
        self.channels_before_fusion = map_channels + sum(layer.out_channels for layer in layers)
        self.out_channels = config.channels
        self.vsa_point_feature_fusion = nn.Sequential(
            nn.Linear(self.channels_before_fusion, config.channels, bias=False), RowNorm(config.channels), nn.ReLU()
        )

    def forward(
        self, points_m: Tensor, intensity: Tensor, offsets: Tensor, scales: VoxelScales, map_: Tensor
    ) -> Keypoints:
        """Keypoints of a batch.

        Args:
            points_m: [N, 3] float32 or float64 raw points in the grid's range along x and y, whatever their height.
            intensity: [N, 1] theirs.
            offsets: [B + 1] int64 frame b owns the points `offsets[b]:offsets[b + 1]`; it may own none.
            scales: what the encoder made of the same frames.
            map_: [B, map_channels, Y, X] its output seen from above.

        Raises:
            ValueError: voxels that are not in the order of their frames.
        """
        rows, own = keypoint_rows(points_m, offsets, self._count)
        xyz = points_m[rows]
        frame = sent(torch.repeat_interleave(own.diff()), points_m.device)
        parts = [
            read_map(map_, frame, self._pixels(xyz)),
            self.SA_rawpoints(points_m, offsets, xyz, own, intensity.to(map_.dtype)),
        ]
        levels = (scales.x_conv1, scales.x_conv2, scales.x_conv3, scales.x_conv4)
        for layer, level, stride in zip(self.SA_layers, levels, _SCALE_STRIDES, strict=True):
            centres = self.voxel_centres(level.indices, stride, points_m.dtype)
            parts.append(layer(centres, frame_offsets(level), xyz, own, level.features))
        features = torch.cat(parts, dim=1)
        return Keypoints(xyz, own, features, self.vsa_point_feature_fusion(features))

    def voxel_centres(self, indices: Tensor, stride: int, dtype: torch.dtype) -> Tensor:
        """[V, 4] int32 (batch, z, y, x) voxels of a scale → [V, 3] the middle of each, x, y, z in metres."""
        size = numbers_on(indices.device, self._voxel_m, dtype) * stride
        low = numbers_on(indices.device, self._low_m, dtype)
        return (indices[:, 1:].flip(1).to(dtype) + 0.5) * size + low

    def _pixels(self, xyz: Tensor) -> Tensor:
        """[P, 3] points, metres → [P, 2] pixels (column, row) of the map."""
        size, low = (numbers_on(xyz.device, each[:2], xyz.dtype) for each in (self._voxel_m, self._low_m))
        return (xyz[:, :2] - low) / size / STRIDE


def keypoint_rows(points_m: Tensor, offsets: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The points that become keypoints, by furthest-point sampling; its distances are of float32, as published.

    Args:
        points_m: [N, 3] points of B frames.
        offsets: [B + 1] int64 theirs, best on the CPU.
        count: K, of every frame that has points.

    Returns:
        [P] int64 their rows, frame after frame, and their own offsets [B + 1] int64.
    """
    filled = offsets.diff() > 0
    rows = furthest_points(points_m.float(), torch.cat((offsets[:1], offsets[1:][filled])), count)
    return rows.flatten(), pad((filled * count).cumsum(0), (1, 0))


def frame_offsets(level: GridTensor) -> Tensor:
    """[B + 1] int64: frame b owns the voxels `offsets[b]:offsets[b + 1]`.

    Raises:
        ValueError: the voxels are not in the order of their frames.
    """
    frame = level.indices[:, 0].long()
    sizes, falling = counted(frame, level.batch_size), (frame.diff() < 0).any()
    known = fetched(torch.cat((sizes, falling[None].long())), "how many voxels each frame has")
    if int(known[-1]):
        raise ValueError("voxels stand in the order of their frames; sort their rows by the first column")
    return pad(known[:-1].cumsum(0), (1, 0))


def read_map(map_: Tensor, frame: Tensor, pixels: Tensor) -> Tensor:
    """Read a map seen from above between pixels, bilinearly, as published (`bilinear_interpolate_torch` of OpenPCDet).

    A pixel's place is its lower corner, and weights are taken from corners that were moved onto the map: beyond the
    last column or row they cancel, and zeros are read.

    Args:
        map_: [B, C, Y, X].
        frame: [P] int64 which map.
        pixels: [P, 2] where (column, row).

    Returns:
        [P, C].
    """
    _, channels, rows, columns = map_.shape
    last = numbers_on(pixels.device, (columns - 1, rows - 1))
    low = pixels.floor().long()
    low, high = (torch.minimum(corner.clamp(min=0), last) for corner in (low, low + 1))
    shares = torch.stack((high - pixels, pixels - low), dim=-1)  # [P, (x, y), (low, high)]
    corners = torch.stack((low, high), dim=-1)
    index = (frame[:, None, None] * rows + corners[:, 1, None, :]) * columns + corners[:, 0, :, None]
    share = shares[:, 0, :, None] * shares[:, 1, None, :]
    return mix_rows(map_.permute(0, 2, 3, 1).reshape(-1, channels), index.flatten(1), share.flatten(1))
