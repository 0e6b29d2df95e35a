"""ScaLR: the method, its settings and its loss."""

from olivine.methods.scalr.losses import distillation_loss
from olivine.methods.scalr.method import Scalr, ScalrConfig

__all__ = ["Scalr", "ScalrConfig", "distillation_loss"]
