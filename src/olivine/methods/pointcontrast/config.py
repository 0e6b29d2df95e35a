"""The settings of PointContrast; the defaults are the published ones (arXiv 2007.10985, PointInfoNCE)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from olivine.backbones import BackboneConfig
from olivine.config import Config
from olivine.methods.pointcontrast.method import PointContrast


class PointContrastConfig(Config):
    """Contrast between matching voxels of two views."""

    name: Literal["pointcontrast"] = "pointcontrast"
    """Chooses this method."""
    second: Literal["scan", "frame"] = "scan"
    """The second view: the same `scan` cut and augmented anew, or a neighbouring `frame` matched by the poses, which
    comes nearer to the partial views of the paper but takes what moves for something else."""
    feature_dim: int = Field(default=32, ge=2)
    """Size of the embedding."""
    temperature: PositiveFloat = 0.4
    """Temperature τ."""
    matches: PositiveInt = 4096
    """Matches drawn per step and process; all where there are fewer."""

    def build(self, backbone: BackboneConfig, in_channels: int, weak_classes: int) -> PointContrast:  # noqa: ARG002
        """The method around a fresh backbone.

        Args:
            backbone: which 3-D network to train.
            in_channels: input features per voxel.
            weak_classes: not used.
        """
        return PointContrast(self, backbone.build(in_channels, self.feature_dim, normalize=True))
