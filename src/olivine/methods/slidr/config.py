"""The settings of SLidR; the defaults are the published ones (arXiv 2203.16258)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from olivine.backbones import BackboneConfig
from olivine.methods.cross_modal import CrossModalConfig
from olivine.methods.slidr.method import Slidr


class SlidrConfig(CrossModalConfig):
    """Superpixel-driven image-to-LiDAR distillation. The superpixels are made by `olivine label`."""

    name: Literal["slidr"] = "slidr"
    """Chooses this method."""
    feature_dim: int = Field(default=64, ge=2)
    """Size of the embedding that superpoints and superpixels share."""
    temperature: PositiveFloat = 0.07
    """Temperature τ."""
    pixel_stride: PositiveInt = 1
    """Average over every n-th pixel of every n-th row: 1 is every pixel, as published; 4 takes a sixteenth of the time
    and memory that they need."""

    def build(self, backbone: BackboneConfig, in_channels: int, weak_classes: int) -> Slidr:  # noqa: ARG002
        """The method around a fresh backbone.

        Args:
            backbone: which 3-D network to train.
            in_channels: input features per voxel.
            weak_classes: unused; no weak label is read.

        Raises:
            UserError: the teacher's weights cannot be read.
        """
        network = backbone.build(in_channels, self.feature_dim, normalize=True)
        return Slidr(self, network, self.build_teacher())
