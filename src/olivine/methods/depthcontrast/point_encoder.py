"""The encoder of DepthContrast's point format: set abstractions in the manner of PointNet++ (arXiv 1706.02413).

A fixed number of points is drawn from every frame. Each layer picks centres among its points, looks at a few points
around each of them, and keeps the largest value of every channel there. Letters: B frames, N points and S centres a
frame, K points around a centre, C channels.
"""

from __future__ import annotations

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from olivine.config import Config
from olivine.data.batch import Cloud
from olivine.host import sent
from olivine.points import ball_query, furthest_points, group
from olivine.points.layers import mlp


class SetAbstractionConfig(Config):
    """One layer of the point encoder."""

    centres: PositiveInt
    """Centres that are kept of a frame's points."""
    radius_m: PositiveFloat
    """How far around a centre it looks, metres."""
    samples: PositiveInt
    """Points that it looks at there, at most."""
    channels: tuple[PositiveInt, ...] = Field(min_length=1)
    """Sizes of the layers that all points pass; the last is the layer's output."""


class PointEncoderConfig(Config):
    """The encoder of the point format; the defaults are the larger of the published scales for LiDAR."""

    points: PositiveInt = 16384
    """Points drawn of a frame; of a smaller frame, some are drawn again."""
    layers: tuple[SetAbstractionConfig, ...] = Field(
        default=(
            SetAbstractionConfig(centres=4096, radius_m=0.5, samples=32, channels=(32, 32, 64)),
            SetAbstractionConfig(centres=1024, radius_m=1.0, samples=32, channels=(64, 96, 128)),
            SetAbstractionConfig(centres=256, radius_m=2.0, samples=32, channels=(128, 196, 256)),
            SetAbstractionConfig(centres=64, radius_m=4.0, samples=32, channels=(256, 384, 512)),
        ),
        min_length=1,
    )
    """The set abstractions, one after another."""

    @model_validator(mode="after")
    def _shrinks(self) -> PointEncoderConfig:
        points = self.points
        for number, layer in enumerate(self.layers):
            if layer.centres > points:
                raise ValueError(f"layers.{number}.centres={layer.centres} is more than the {points} points it gets")
            points = layer.centres
        return self


def draw_points(cloud: Cloud, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw the same number of points from every frame.

    Args:
        cloud: the clouds of B frames.
        count: N; a frame of fewer points gives each of them as evenly often as it can, one without any gives zeros.
        generator: source of randomness, on the CPU.

    Returns:
        [B, N, 3] float32 augmented points in random order, metres, and [B, N, C] the input features of the voxel that
        each lies in, 0 outside the grid.
    """
    offsets, device = cloud.host.point_offsets, cloud.points_m.device
    starts, sizes = offsets[:-1], offsets.diff()
    total, frames = len(cloud.points_m), len(sizes)
    frame = torch.arange(frames).repeat_interleave(sizes)
    order = (frame + torch.rand(total, generator=generator, dtype=torch.float64)).argsort()
    place = starts[:, None] + torch.arange(count) % sizes.clamp_min(1)[:, None]
    nowhere = order.new_tensor([total])
    row = sent(torch.cat([order, nowhere])[torch.where(sizes[:, None] > 0, place, total)], device)
    voxel = torch.cat([cloud.point_voxel, cloud.point_voxel.new_full((1,), -1)])[row]
    return _with_blank(cloud.points_m)[row], _with_blank(cloud.features)[voxel]


def _with_blank(rows: Tensor) -> Tensor:
    """The rows and a last one of zeros."""
    return torch.cat([rows, rows.new_zeros(1, rows.shape[1])])


class SetAbstraction(nn.Module):
    """Centres, what lies around each of them through a small network, and the largest value of every channel.

    Args:
        config: the layer's settings.
        in_channels: channels of the points.

    Attributes:
        out_channels: channels of the centres.
    """

    def __init__(self, config: SetAbstractionConfig, in_channels: int) -> None:
        super().__init__()
        self.config = config
        self.out_channels = config.channels[-1]
        self.network = mlp([3 + in_channels, *config.channels], batch_norm=True, last_norm=True)

    def forward(self, xyz: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """[B, N, 3] points and their [B, N, C] features → [B, S, 3] centres and their [B, S, out_channels] features."""
        config, (frames, points) = self.config, xyz.shape[:2]
        flat, offsets = xyz.flatten(0, 1), torch.arange(frames + 1) * points
        picked = furthest_points(flat, offsets, config.centres).flatten()
        centres, centre_offsets = flat[picked], torch.arange(frames + 1) * config.centres
        members = ball_query(flat, offsets, centres, centre_offsets, config.radius_m, config.samples)
        offset = (flat[members] - centres[:, None]) / config.radius_m
        rows = torch.cat([offset, group(features.flatten(0, 1), members)], dim=2)
        out: Tensor = self.network(rows.flatten(0, 1))
        largest = torch.relu(out).view(frames, config.centres, config.samples, -1).amax(2)
        return centres.view(frames, -1, 3), largest


class PointEncoder(nn.Module):
    """From points to one feature per frame: set abstractions, then the largest value of every channel.

    Args:
        config: the settings.
        in_channels: channels of the points besides their place.

    Attributes:
        out_channels: channels of a frame's feature.
    """

    def __init__(self, config: PointEncoderConfig, in_channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        self.out_channels = in_channels
        for layer in config.layers:
            self.layers.append(SetAbstraction(layer, self.out_channels))
            self.out_channels = layer.channels[-1]

    def forward(self, xyz: Tensor, features: Tensor) -> Tensor:
        """[B, N, 3] points and their [B, N, C] features → [B, out_channels]."""
        for layer in self.layers:
            xyz, features = layer(xyz, features)
        return features.amax(1)
