"""OLIVINE: the method, its settings, and the formulas it is made of."""

from olivine.methods.olivine.losses import weakly_supervised_contrastive
from olivine.methods.olivine.method import LossWeights, Olivine, OlivineConfig
from olivine.methods.olivine.sampling import density_category_weights
from olivine.methods.olivine.vmf import ClassStatistics, VmfConfig, vmf_log_normalizer

__all__ = [
    "ClassStatistics",
    "LossWeights",
    "Olivine",
    "OlivineConfig",
    "VmfConfig",
    "density_category_weights",
    "vmf_log_normalizer",
    "weakly_supervised_contrastive",
]
