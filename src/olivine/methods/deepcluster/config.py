"""The settings of DeepCluster; where nothing is said, the defaults are the published ones (arXiv 1807.05520)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from olivine.backbones import BackboneConfig
from olivine.config import Config
from olivine.methods.deepcluster.method import DeepCluster
from olivine.methods.deepcluster.regions import RegionConfig


class DeepClusterConfig(Config):
    """Deep clustering: group features, learn to predict the groups, group again."""

    name: Literal["deepcluster"] = "deepcluster"
    """Chooses this method."""
    regions: RegionConfig = Field(default_factory=RegionConfig)
    """What is clustered."""
    feature_dim: int = Field(default=64, ge=2)
    """Size of the features that are pooled and clustered."""
    clusters: int = Field(default=512, ge=2)
    """Number of clusters K; published are 10 000 for ImageNet's 1.3 million images, ten for each class."""
    components: PositiveInt | None = 32
    """Principal components of the features that k-means sees, whitened; null keeps all (published: 256 of 4096)."""
    iterations: PositiveInt = 20
    """Iterations of k-means."""
    fit_regions: PositiveInt = 131_072
    """At most so many regions, drawn at random, settle the centroids; all regions are then assigned to them. The
    default is 256 per cluster; more changes centroids little and takes longer."""

    def build(self, backbone: BackboneConfig, in_channels: int, weak_classes: int) -> DeepCluster:  # noqa: ARG002
        """The method around a fresh backbone.

        Args:
            backbone: which 3-D network to train.
            in_channels: input features per voxel.
            weak_classes: not used; no label is looked at.
        """
        return DeepCluster(self, backbone.build(in_channels, self.feature_dim))
