"""The layer of PointNet++ that PV-RCNN is made of: what lies around centres, through a small network, at several radii.

    points in a ball → (offset from the centre, features) → 1×1 convolution, batch norm, ReLU, … → largest of the ball

A ball has a fixed number of places. Where it holds fewer points, its first one is taken for the places left, and where
it holds none, zeros are (offset and features): both count in the statistics of batch norm. Neither needs to be computed
more than once: a row of the network is one point of one ball, or the empty ball, and has the number of places that it
stands for as its weight. On KITTI's frames that is half to nine tenths of the places.

Letters: N points, M centres, S places of a ball, Q rows, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn.functional import linear

from olivine.config import Config
from olivine.detectors.pv_rcnn.weighted import largest_of_each, running_statistics, weighted_batch_norm
from olivine.host import waiting
from olivine.points import ball_queries, group


class GroupingConfig(Config):
    """What lies around centres: how far to look, at how many points, and the networks that see them."""

    radii_m: tuple[PositiveFloat, ...] = Field(min_length=1)
    """How far to look around a centre, metres; one radius or several."""
    samples: tuple[PositiveInt, ...]
    """How many points to look at for each radius: the first in their order, the very first again for want of others."""
    mlps: tuple[tuple[PositiveInt, ...], ...]
    """Channels of the network's layers for each radius."""

    @model_validator(mode="after")
    def _one_of_each(self) -> GroupingConfig:
        if not len(self.radii_m) == len(self.samples) == len(self.mlps):
            raise ValueError(
                f"samples and mlps have one entry for each of the {len(self.radii_m)} radii_m, "
                f"not {len(self.samples)} and {len(self.mlps)}"
            )
        if not all(self.mlps):
            raise ValueError("a network of mlps has at least one layer")
        return self

    def build(self, in_channels: int) -> MultiScaleGrouping:
        """The layer for points of `in_channels` channels, initialised from torch's generator."""
        return MultiScaleGrouping(in_channels, self.radii_m, self.samples, self.mlps)


class MultiScaleGrouping(nn.Module):
    """The layer, for several radii around the same centres.

    The networks carry the names of the published code: `mlps.<radius>.<layer>`, with the weights of 1×1 convolutions.

    Args:
        in_channels: channels of the points, their places left out.
        radii_m: how far to look around a centre, metres.
        samples: places of a ball at each radius.
        mlps: channels of the layers at each radius.

    Attributes:
        out_channels: channels of the result, those of all radii one after another.

    Raises:
        ValueError: not as many radii, samples and networks.
    """

    def __init__(
        self, in_channels: int, radii_m: Sequence[float], samples: Sequence[int], mlps: Sequence[Sequence[int]]
    ) -> None:
        super().__init__()
        if not len(radii_m) == len(samples) == len(mlps):
            raise ValueError(f"{len(radii_m)} radii, {len(samples)} samples and {len(mlps)} networks; one of each")
        self.in_channels = in_channels
        self.radii_m, self.samples = tuple(radii_m), tuple(samples)
        self.mlps = nn.ModuleList(_shared_mlp([3 + in_channels, *channels]) for channels in mlps)
        self.out_channels = sum(channels[-1] for channels in mlps)

    def forward(
        self, xyz: Tensor, offsets: Tensor, centres: Tensor, centre_offsets: Tensor, features: Tensor
    ) -> Tensor:
        """What lies around the centres.

        Args:
            xyz: [N, 3] float32 or float64 points of B frames, metres; no gradient reaches them.
            offsets: [B + 1] int64 frame b owns the points `offsets[b]:offsets[b + 1]`; it may own none.
            centres: [M, 3] of the same type, metres; no gradient reaches them.
            centre_offsets: [B + 1] int64 the same of the centres.
            features: [N, in_channels] of the points.

        Returns:
            [M, out_channels]. In training the running statistics of the norms are updated.
        """
        found = ball_queries(xyz, offsets, centres, centre_offsets, self.radii_m, self.samples)
        parts = [_seen(mlp, _balls(rows), xyz, centres, features) for mlp, rows in zip(self.mlps, found, strict=True)]
        return torch.cat(parts, dim=1)

    def extra_repr(self) -> str:
        """Radii and samples, for printing."""
        return f"radii_m={self.radii_m}, samples={self.samples}"


@dataclass(frozen=True)
class _Balls:
    """The rows that a network has to see for M balls: their points, ball after ball, and a last one, the empty ball.

    Attributes:
        point: [Q] int64 row of the points, -1 in the last.
        ball: [Q] int64 which ball, M in the last.
        weight: [Q] float32 how many places the row stands for; 0 in the last where no ball is empty.
        empty: [M] bool which balls are empty.
    """

    point: Tensor
    ball: Tensor
    weight: Tensor
    empty: Tensor


def _balls(rows: Tensor) -> _Balls:
    """[M, S] as `olivine.points.ball_query` returns them → what is different among them."""
    balls, places = rows.shape
    empty = rows[:, 0] < 0
    other = rows != rows[:, :1]
    weight = other.float()
    other[:, 0] = ~empty
    weight[:, 0] = places - weight.sum(1)
    with waiting("how many points balls hold", rows.device):
        ball, place = other.nonzero().unbind(1)
    blank = ball.new_full((1,), -1)
    return _Balls(
        torch.cat((rows[ball, place], blank)),
        torch.cat((ball, blank + balls + 1)),
        torch.cat((weight[ball, place], (empty.sum() * places).to(weight.dtype)[None])),
        empty,
    )


def _shared_mlp(channels: Sequence[int]) -> nn.Sequential:
    """1×1 convolutions of [B, C, M, S], each with a norm and a ReLU, initialised as published (He et al. 2015)."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        convolution = nn.Conv2d(inputs, outputs, 1, bias=False)
        nn.init.kaiming_normal_(convolution.weight)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def _seen(mlp: nn.Module, balls: _Balls, xyz: Tensor, centres: Tensor, features: Tensor) -> Tensor:
    """[M, C] the largest values of each ball behind a network: `mlp` on [1, C, M, S], then the maximum over S."""
    assert isinstance(mlp, nn.Sequential)
    rows = _offsets(balls, xyz, centres).to(features.dtype)
    for first in range(0, len(mlp), 3):
        convolution, norm = mlp[first], mlp[first + 1]
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        matrix, shift = _matrix(convolution, norm)
        if first == 0:
            # The features' part is linear in the points: it is computed once for each, not for every ball it lies in.
            near = group(linear(features, matrix[:, 3:]), balls.point[:, None])[:, 0]
            rows = linear(rows, matrix[:, :3], shift) + near
        else:
            rows = linear(torch.relu(rows), matrix, shift)
        if norm.training:
            rows = weighted_batch_norm(rows, balls.weight, norm)
    largest = torch.relu(largest_of_each(rows, balls.ball, len(centres) + 1))
    return torch.where(balls.empty[:, None], largest[-1], largest[:-1])


@torch.no_grad()
def _offsets(balls: _Balls, xyz: Tensor, centres: Tensor) -> Tensor:
    """[Q, 3] from the centre to the point, zeros for the empty ball."""
    offsets = xyz.new_zeros(len(balls.point), 3)
    torch.sub(xyz[balls.point[:-1]], centres[balls.ball[:-1]], out=offsets[:-1])
    return offsets


def _matrix(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor | None]:
    """[C_out, C_in] the convolution's weight, and [C_out] what is added; in evaluation the norm is part of both."""
    matrix = convolution.weight.flatten(1)
    if norm.training:
        return matrix, None
    mean, variance = running_statistics(norm)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return matrix * scale[:, None], norm.bias - mean * scale
