"""PPKT: the method and its settings."""

from olivine.methods.ppkt.method import Ppkt, PpktConfig

__all__ = ["Ppkt", "PpktConfig"]
