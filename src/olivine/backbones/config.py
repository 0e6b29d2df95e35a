"""Which backbone to build, as configuration."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from olivine.backbones.base import OwnBackboneConfig
from olivine.backbones.minkunet import (
    LAYERS_14,
    LAYERS_18,
    LAYERS_34,
    PLANES_A,
    PLANES_C,
    PRETRAINING_MOMENTUM,
    MinkUNet,
)
from olivine.backbones.voxelnet import VoxelNetConfig
from olivine.components import Open
from olivine.config import Config
from olivine.data.needs import Inputs

_SHAPES = {
    "minkunet14a": (PLANES_A, LAYERS_14),
    "minkunet18a": (PLANES_A, LAYERS_18),
    "minkunet18": (PLANES_C, LAYERS_18),
    "minkunet34c": (PLANES_C, LAYERS_34),
}
MinkUNetName: TypeAlias = Literal["minkunet34c", "minkunet18", "minkunet18a", "minkunet14a"]


class MinkUNetConfig(Config):
    """A sparse residual U-Net."""

    name: MinkUNetName = "minkunet34c"
    """Depth and planes: 34c is the published backbone, 18 is shallower, and 18a and 14a are narrower too."""
    width: float = Field(default=1.0, gt=0)
    """Factor on the channels of every stage; 1.0 is the published width."""
    stem: tuple[Literal[3, 5], ...] = Field(default=(3,), min_length=1, max_length=2)
    """Kernel sizes of the convolutions before the first stage: `[3]` is published for images to LiDAR, `[5]` is
    MinkowskiEngine's and Pointcept's network, `[3, 3]` that of SPVNAS and mmdetection3d."""
    batch_norm_momentum: float = Field(default=PRETRAINING_MOMENTUM, gt=0, le=1)
    """Batch-norm momentum outside the residual blocks: published are 0.05 for pretraining, 0.02 for fine-tuning."""

    def build(self, inputs: Inputs) -> MinkUNet:
        """The network, initialised from torch's generator; it takes voxels of any grid."""
        return self.of_channels(inputs.channels)

    def of_channels(self, in_channels: int) -> MinkUNet:
        """The network for voxels of so many input features."""
        planes, layers = _SHAPES[self.name]
        return MinkUNet(
            in_channels,
            planes=planes,
            layers=layers,
            width=self.width,
            stem=self.stem,
            momentum=self.batch_norm_momentum,
        )


BackboneConfig: TypeAlias = Annotated[MinkUNetConfig | VoxelNetConfig | OwnBackboneConfig, Open()]
"""The choice of backbone in a recipe, told apart by `name`; each has `build(inputs)`."""
