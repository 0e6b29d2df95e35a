"""The settings of PPKT; the defaults are those it is compared with (arXiv 2203.16258)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from olivine.backbones import BackboneConfig
from olivine.methods.cross_modal import CrossModalConfig
from olivine.methods.ppkt.method import Ppkt


class PpktConfig(CrossModalConfig):
    """Pixel-to-point knowledge transfer."""

    name: Literal["ppkt"] = "ppkt"
    """Chooses this method."""
    feature_dim: int = Field(default=64, ge=2)
    """Size of the embedding that points and pixels share."""
    temperature: PositiveFloat = 0.07
    """Temperature τ."""
    pairs: PositiveInt = 4096
    """Pairs drawn per step and process; all pairs where there are fewer."""

    def build(self, backbone: BackboneConfig, in_channels: int, weak_classes: int) -> Ppkt:  # noqa: ARG002
        """The method around a fresh backbone.

        Args:
            backbone: which 3-D network to train.
            in_channels: input features per voxel.
            weak_classes: unused; no weak label is read.

        Raises:
            UserError: the teacher's weights cannot be read.
        """
        network = backbone.build(in_channels, self.feature_dim, normalize=True)
        return Ppkt(self, network, self.build_teacher())
