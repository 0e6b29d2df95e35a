"""The settings of OLIVINE; the defaults are the published ones (arXiv 2405.14271, MinkUNet)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from olivine.backbones import BackboneConfig
from olivine.config import Config
from olivine.methods.cross_modal import CrossModalConfig
from olivine.methods.olivine.losses import SupervisedForm
from olivine.methods.olivine.method import Olivine
from olivine.methods.olivine.sampling import Sampling
from olivine.methods.olivine.vmf import VmfConfig


class LossWeights(Config):
    """Weight of each term of the loss, used as given whichever terms are on."""

    ppkt: NonNegativeFloat = 0.5
    """Point-pixel InfoNCE."""
    sup: NonNegativeFloat = 0.5
    """Weakly-supervised contrastive loss."""
    vmf: NonNegativeFloat = 1.0
    """Consistency with the class densities."""


class OlivineConfig(CrossModalConfig):
    """Fine-grained image-to-LiDAR contrastive distillation."""

    name: Literal["olivine"] = "olivine"
    """Chooses this method."""
    feature_dim: int = Field(default=64, ge=2)
    """Size of the embedding that points and pixels share."""
    temperature: PositiveFloat = 0.07
    """Temperature τ of both contrastive losses."""
    pairs: PositiveInt = 4096
    """Pairs drawn per step and process for each contrastive loss; all pairs where there are fewer."""
    supervised: bool = True
    """Learn from weak labels; without, only the point-pixel InfoNCE is left, and no masks are read."""
    supervised_form: SupervisedForm = "published_code"
    """Sum over positives inside the logarithm (`published_code`) or their mean (`paper`); the gradients are equal."""
    sampling: Sampling = "density_category"
    """What the draw for the weakly-supervised loss evens out: range and class, one of them, or nothing."""
    range_bin_m: PositiveFloat = 0.1
    """Width of the range bins of the density, metres: 0.1 for MinkUNet, 1 for VoxelNet."""
    vmf: VmfConfig = Field(default_factory=VmfConfig)
    """Class statistics."""
    weights: LossWeights = Field(default_factory=LossWeights)
    """Weight of each term."""

    def build(self, backbone: BackboneConfig, in_channels: int, weak_classes: int) -> Olivine:
        """The method around a fresh backbone.

        Args:
            backbone: which 3-D network to train.
            in_channels: input features per voxel.
            weak_classes: number of classes of the mask manifest, 0 without masks.

        Raises:
            UserError: `supervised` without weak classes, or the teacher's weights cannot be read.
        """
        network = backbone.build(in_channels, self.feature_dim, class_head=self.supervised, normalize=True)
        return Olivine(self, network, self.build_teacher(), weak_classes)
