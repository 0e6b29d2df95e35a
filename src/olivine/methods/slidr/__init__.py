"""SLidR: the method, its settings, and how it pools over superpixels."""

from olivine.methods.slidr.method import Slidr, SlidrConfig
from olivine.methods.slidr.superpixels import Superpixels, find_superpixels, head_at_pixels, segment_means

__all__ = ["Slidr", "SlidrConfig", "Superpixels", "find_superpixels", "head_at_pixels", "segment_means"]
