"""The settings of STRL; the defaults are those of its published code (arXiv 2109.00179)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from olivine.backbones import BackboneConfig
from olivine.config import Config
from olivine.methods.strl.method import Strl


class StrlConfig(Config):
    """Spatio-temporal representation learning: BYOL between neighbouring frames."""

    name: Literal["strl"] = "strl"
    """Chooses this method."""
    feature_dim: int = Field(default=256, ge=2)
    """Size of the features that are pooled over a frame."""
    hidden_dim: PositiveInt = 4096
    """Hidden layer of projector and predictor."""
    projection_dim: int = Field(default=256, ge=2)
    """Size of the projections that are compared."""
    momentum: float = Field(default=0.996, ge=0, le=1)
    """How much of itself the target network keeps per step, at the start; it rises to 1 along a cosine."""
    batch_norm: bool = True
    """Normalise hidden layers over the frames of a process's batch, which needs more than one frame there."""

    def build(self, backbone: BackboneConfig, in_channels: int, weak_classes: int) -> Strl:  # noqa: ARG002
        """The method around a fresh backbone.

        Args:
            backbone: which 3-D network to train.
            in_channels: input features per voxel.
            weak_classes: not used; no label is looked at.
        """
        return Strl(self, backbone.build(in_channels, self.feature_dim))
