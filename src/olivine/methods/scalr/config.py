"""The settings of ScaLR; the defaults are the published ones (arXiv 2310.17504)."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from olivine.backbones import BackboneConfig
from olivine.methods.cross_modal import CrossModalConfig
from olivine.methods.scalr.losses import Distance
from olivine.methods.scalr.method import Scalr


class ScalrConfig(CrossModalConfig):
    """Distillation of a vision foundation model without negatives."""

    name: Literal["scalr"] = "scalr"
    """Chooses this method."""
    loss: Distance = "l2"
    """Distance of unit vectors (`l2`) or one minus their cosine (`cosine`)."""
    pairs: PositiveInt | None = None
    """Pairs drawn per step and process, to save memory; null takes all."""

    def build(self, backbone: BackboneConfig, in_channels: int, weak_classes: int) -> Scalr:  # noqa: ARG002
        """The method around a fresh backbone, whose head is as wide as the teacher's features.

        Args:
            backbone: which 3-D network to train.
            in_channels: input features per voxel.
            weak_classes: unused; no weak label is read.

        Raises:
            UserError: the teacher's weights cannot be read.
        """
        teacher = self.build_teacher()
        network = backbone.build(in_channels, teacher.channels, normalize=True)
        return Scalr(self, network, teacher)
