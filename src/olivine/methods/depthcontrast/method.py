"""DepthContrast (Zhang et al., arXiv 2101.02691): momentum contrast between whole scenes, in two formats.

    first view ─┬─ voxels ─ backbone ────── max ─ voxel head ─┐
                └─ points ─ point encoder ─────── point head ─┴─ queries ─┐
    second view, through momentum copies of the same networks ─── keys ───┴─ loss within and across formats
                                                                   └─ queues of negatives, one per format

The backbone and the point encoder learn together; only the backbone is exported.
"""

from __future__ import annotations

from itertools import product
from typing import Literal, cast

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from olivine.backbones import Backbone, BackboneConfig, Embedder
from olivine.config import Config
from olivine.data.batch import Batch, Cloud
from olivine.data.needs import Inputs, Needs
from olivine.methods.base import Method
from olivine.methods.depthcontrast.losses import scene_contrast
from olivine.methods.depthcontrast.point_encoder import PointEncoder, PointEncoderConfig, draw_points
from olivine.methods.parts.momentum import MomentumCopy
from olivine.methods.parts.pooling import pool_frames
from olivine.methods.parts.queue import FeatureQueue
from olivine.points.layers import mlp

_STAGES = {"voxel": "backbone", "point": "points"}


class FormatWeights(Config):
    """Weights of the terms of the loss, used as given whichever formats are on."""

    within: NonNegativeFloat = 0.5
    """Of each term whose query and key have the same format."""
    across: NonNegativeFloat = 0.5
    """Of each term whose query and key have different formats."""


class DepthContrastConfig(Config):
    """Contrast between scenes, with a queue and a momentum encoder, within and across two formats."""

    name: Literal["depthcontrast"] = "depthcontrast"
    """Chooses this method."""
    formats: Literal["both", "voxel"] = "both"
    """Voxels and points, or voxels alone. Only the network of the voxels is exported."""
    feature_dim: PositiveInt = 256
    """Channels of the backbone's last layer, of which the largest value in a scene is taken."""
    embedding_dim: int = Field(default=128, ge=2)
    """Size of a scene's embedding."""
    temperature: PositiveFloat = 0.1
    """Temperature τ."""
    momentum: float = Field(default=0.999, ge=0, le=1)
    """Momentum m of the encoders that give the keys."""
    queue: PositiveInt = 131072
    """Keys of earlier scenes that are kept as negatives, of each format."""
    weights: FormatWeights = Field(default_factory=FormatWeights)
    """Weights of the terms."""
    point_encoder: PointEncoderConfig = Field(default_factory=PointEncoderConfig)
    """The network of the point format."""

    def build(self, backbone: BackboneConfig, inputs: Inputs) -> DepthContrast:
        """The method around a fresh backbone.

        Args:
            backbone: which 3-D network to train.
            inputs: what its input is.
        """
        return DepthContrast(self, backbone.build(inputs), inputs.channels)


class VoxelFormat(nn.Module):
    """The networks of the voxel format: backbone, its last layer, and head.

    Args:
        features: backbone and last layer.
        head: embeds the largest values of a scene's features.
    """

    def __init__(self, features: Embedder, head: nn.Module) -> None:
        super().__init__()
        self.features, self.head = features, head

    def forward(self, cloud: Cloud) -> Tensor:
        """[B, D] unit embeddings of the clouds."""
        rows = self.features(cloud).of_voxels()
        frames = len(cloud.point_offsets) - 1
        return _unit(self.head(pool_frames(rows, cloud.host.coordinates[:, 0].long(), frames)))


class PointFormat(nn.Module):
    """The networks of the point format: encoder and head.

    Args:
        encoder: the point encoder.
        embedding_dim: D.
    """

    def __init__(self, encoder: PointEncoder, embedding_dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = mlp([encoder.out_channels, encoder.out_channels, embedding_dim], batch_norm=False)

    def forward(self, xyz: Tensor, features: Tensor) -> Tensor:
        """[B, N, 3] points and their [B, N, C] features → [B, D] unit embeddings."""
        return _unit(self.head(self.encoder(xyz, features)))


class DepthContrast(Method):
    """The method: for each pair of formats, queries of the first view find their keys of the second in the queue.

    As published, the loss has one direction (the second view is never a query), the negatives are the queue's alone,
    and keys enter it after the loss. Every forward pass in training mode first moves the momentum copies and in the
    end pushes its keys; in evaluation mode both stay as they are. The copies normalise by the statistics of the
    process's own batch; scans are not shuffled between GPUs for it.

    Args:
        config: the settings.
        backbone: the network of the voxel format, which is trained.
        in_channels: input features per voxel, which the points get, too.

    Attributes:
        voxel_head: embeds the pooled features of the backbone.
        point: the networks of the point format, None where `config.formats` is `"voxel"`.
        slow: momentum copies of the networks of all formats.
        queues: keys of earlier scenes, by format.
    """

    def __init__(self, config: DepthContrastConfig, backbone: Backbone, in_channels: int) -> None:
        super().__init__()
        self.config = config
        self.needs = Needs(second="scan")
        self.backbone = backbone
        self.heads = nn.ModuleDict({"point": backbone.pretraining_head(config.feature_dim)})
        self.voxel_head = mlp([config.feature_dim, config.feature_dim, config.embedding_dim], batch_norm=False)
        self.point: PointFormat | None = None
        if config.formats == "both":
            self.point = PointFormat(PointEncoder(config.point_encoder, in_channels), config.embedding_dim)
        self.slow = MomentumCopy(self.networks())
        self.queues = nn.ModuleDict(
            {name: FeatureQueue(config.queue, config.embedding_dim) for name in self.networks()}
        )

    def networks(self) -> nn.ModuleDict:
        """The networks that are trained, by format; put together anew, since `backbone` is a part by itself."""
        formats: dict[str, nn.Module] = {
            "voxel": VoxelFormat(Embedder(self.backbone, self.head("point")), self.voxel_head)
        }
        return nn.ModuleDict(formats if self.point is None else formats | {"point": self.point})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Loss of one batch.

        Args:
            batch: with a second view of each frame; matches are not read.

        Returns:
            `loss`; its terms `loss_<format of the query>_<format of the key>` before weighting; the number of
            `negatives` in a queue; and the diagnostics of the voxels' embedding.

        Raises:
            ValueError: the batch holds no second view.
        """
        if batch.second is None:
            raise ValueError("DepthContrast learns from two views of each frame (see DepthContrast.needs)")
        generator, networks = batch.generator(), self.networks()
        first, second = (self._inputs(cloud, generator) for cloud in (batch.cloud, batch.second.cloud))
        with self.stage("target"), torch.no_grad():
            if self.training:
                self.slow.update(networks, self.config.momentum)
            keys = {name: network(*second[name]) for name, network in self.slow.module.named_children()}
        queries = {}
        for name, network in networks.items():
            with self.stage(_STAGES[name]):
                queries[name] = network(*first[name])
        with self.stage("loss"):
            losses = self._losses(queries, keys)
            if self.training:
                for name, key in keys.items():
                    self._queue(name).push(key)
            return losses | self.diagnostics(queries["voxel"], keys["voxel"])

    def _queue(self, name: str) -> FeatureQueue:
        return cast("FeatureQueue", self.queues[name])

    def _inputs(self, cloud: Cloud, generator: torch.Generator) -> dict[str, tuple[Cloud] | tuple[Tensor, Tensor]]:
        """What the network of each format takes of a view."""
        if self.point is None:
            return {"voxel": (cloud,)}
        return {"voxel": (cloud,), "point": draw_points(cloud, self.config.point_encoder.points, generator)}

    def _losses(self, queries: dict[str, Tensor], keys: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss, its terms, and how many negatives there were."""
        negatives = {name: self._queue(name).features() for name in keys}
        terms, weighted = {}, []
        for asks, answers in product(queries, keys):
            term = scene_contrast(queries[asks], keys[answers], negatives[answers], self.config.temperature)
            weight = self.config.weights.within if asks == answers else self.config.weights.across
            terms[f"loss_{asks}_{answers}"] = term.detach()
            weighted.append(weight * term)
        count = torch.tensor(float(len(negatives["voxel"])))
        return {"loss": torch.stack(weighted).sum(), **terms, "negatives": count}


def _unit(features: Tensor) -> Tensor:
    """Rows of length 1, in float32 or wider."""
    return functional.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=1)
