"""STRL: the method, its settings and its loss."""

from olivine.methods.strl.losses import regression_loss
from olivine.methods.strl.method import Strl, StrlConfig

__all__ = ["Strl", "StrlConfig", "regression_loss"]
