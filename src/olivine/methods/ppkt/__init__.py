"""PPKT: the method and its settings."""

from olivine.methods.ppkt.config import PpktConfig
from olivine.methods.ppkt.method import Ppkt

__all__ = ["Ppkt", "PpktConfig"]
