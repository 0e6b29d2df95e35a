"""The seam between a backbone and everything that uses one.

A backbone takes the voxelised clouds of a batch and returns an `Embedding`, which is read wherever features are
needed: at voxels or at points. It knows no heads; those are `Head`s of the method or task that wants other features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from olivine.components import OwnConfig
from olivine.data.batch import Cloud
from olivine.data.needs import Inputs
from olivine.rows import take_rows
from olivine.sparse import Pointwise


class Head(Pointwise):
    """A linear map of features, one row at a time.

    Args:
        in_channels: channels of what it maps.
        out_channels: channels of the result.
        unit: whether what is read of the result has length 1.
        bias: whether the map has a learned bias.
    """

    def __init__(self, in_channels: int, out_channels: int, *, unit: bool = False, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, bias=bias)
        self.unit = unit

    def finish(self, rows: Tensor) -> Tensor:
        """[N, C] rows as they are handed out: of length 1 where that is asked for.

        A row of zeros, where a network saw nothing, stays one; there is no other epsilon.
        """
        if not self.unit:
            return rows
        norms: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        return rows / (norms + (norms == 0))


class Embedding(ABC):
    """Features of the clouds of a batch, to be read where they are needed."""

    @abstractmethod
    def project(self, head: Head) -> Embedding:
        """What a head makes of it, on the same clouds."""

    @abstractmethod
    def of_voxels(self) -> Tensor:
        """[V, C] the feature of every voxel, in the order of `Cloud.coordinates`."""

    @abstractmethod
    def of_points(self, points: Tensor) -> Tensor:
        """Features of points.

        Args:
            points: [P] int64 rows of `Cloud.points_m`, of points that lie in a voxel.

        Returns:
            [P, C].
        """


class Backbone(nn.Module, ABC):
    """A network on voxelised clouds.

    Attributes:
        channels: C of its embeddings.
    """

    channels: int

    @abstractmethod
    def forward(self, cloud: Cloud) -> Embedding:
        """Features of the clouds of a batch."""

    def pretraining_head(self, out_channels: int, *, unit: bool = False) -> Head:
        """A head as the published pretraining has it for this network.

        Args:
            out_channels: channels of the embedding that it projects to.
            unit: as of `Head`.

        Raises:
            UserError: the network has no head of so many channels.
        """
        return Head(self.channels, out_channels, unit=unit)


class VoxelEmbedding(Embedding):
    """A feature per voxel; a point has that of its voxel.

    Args:
        rows: [V, C] features.
        point_voxel: [N] int64 the voxel of each point, -1 outside the grid.
    """

    def __init__(self, rows: Tensor, point_voxel: Tensor) -> None:
        self._rows, self._point_voxel = rows, point_voxel

    def project(self, head: Head) -> VoxelEmbedding:
        """What a head makes of every voxel."""
        return VoxelEmbedding(head.finish(head(self._rows)), self._point_voxel)

    def of_voxels(self) -> Tensor:
        """[V, C] the feature of every voxel."""
        return self._rows

    def of_points(self, points: Tensor) -> Tensor:
        """[P, C] the feature of the voxel that each point lies in."""
        return take_rows(self._rows, self._point_voxel[points])


class Embedder(nn.Module):
    """A backbone and a head as one network, for what has to be copied or averaged together.

    Args:
        backbone: the backbone.
        head: the head.
    """

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, cloud: Cloud) -> Embedding:
        """What the head makes of the backbone's embedding."""
        embedding: Embedding = self.backbone(cloud)
        return embedding.project(self.head)


class OwnBackboneConfig(OwnConfig):
    """Base of a backbone of your own, `name: module:Class`; the class adds the backbone's settings."""

    @abstractmethod
    def build(self, inputs: Inputs) -> Backbone:
        """The network, initialised from torch's generator.

        Raises:
            UserError: it cannot take such inputs.
        """
