"""ScaLR: the method, its settings and its loss."""

from olivine.methods.scalr.config import ScalrConfig
from olivine.methods.scalr.losses import distillation_loss
from olivine.methods.scalr.method import Scalr

__all__ = ["Scalr", "ScalrConfig", "distillation_loss"]
