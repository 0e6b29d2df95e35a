"""Which backbone to build, as configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from olivine.backbones.minkunet import (
    LAYERS_14,
    LAYERS_18,
    LAYERS_34,
    PLANES_A,
    PLANES_C,
    PRETRAINING_MOMENTUM,
    MinkUNet,
)
from olivine.config import Config

_SHAPES = {
    "minkunet14a": (PLANES_A, LAYERS_14),
    "minkunet18a": (PLANES_A, LAYERS_18),
    "minkunet34c": (PLANES_C, LAYERS_34),
}


class MinkUNetConfig(Config):
    """A sparse residual U-Net."""

    name: Literal["minkunet34c", "minkunet18a", "minkunet14a"] = "minkunet34c"
    """Depth and planes: 34c is the published backbone, 18a and 14a are shallower."""
    width: float = Field(default=1.0, gt=0)
    """Factor on the channels of every stage; 1.0 is the published width."""
    batch_norm_momentum: float = Field(default=PRETRAINING_MOMENTUM, gt=0, le=1)
    """Batch-norm momentum outside the residual blocks: published are 0.05 for pretraining, 0.02 for fine-tuning."""

    def build(
        self, in_channels: int, out_channels: int, *, class_head: bool = False, normalize: bool = False
    ) -> MinkUNet:
        """Make the network, freshly initialised.

        Args:
            in_channels: channels of the input voxels.
            out_channels: channels of each head.
            class_head: whether to add the class-level head.
            normalize: whether heads end in L2-normalised rows.

        Returns:
            The network.
        """
        planes, layers = _SHAPES[self.name]
        return MinkUNet(
            in_channels,
            out_channels,
            planes=planes,
            layers=layers,
            width=self.width,
            class_head=class_head,
            normalize=normalize,
            momentum=self.batch_norm_momentum,
        )


BackboneConfig = MinkUNetConfig
"""Every backbone's configuration; a further one joins as a union told apart by `name`."""
