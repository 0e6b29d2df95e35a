"""The settings of DepthContrast; the defaults are the published ones of joint training (arXiv 2101.02691)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from olivine.backbones import BackboneConfig
from olivine.config import Config
from olivine.methods.depthcontrast.method import DepthContrast
from olivine.methods.depthcontrast.point_encoder import PointEncoderConfig


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

    def build(self, backbone: BackboneConfig, in_channels: int, weak_classes: int) -> DepthContrast:  # noqa: ARG002
        """The method around a fresh backbone.

        Args:
            backbone: which 3-D network to train.
            in_channels: input features per voxel.
            weak_classes: not used.
        """
        return DepthContrast(self, backbone.build(in_channels, self.feature_dim), in_channels)
