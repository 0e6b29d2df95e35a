"""PointContrast: the method, its settings, and its draw of matches."""

from olivine.methods.pointcontrast.config import PointContrastConfig
from olivine.methods.pointcontrast.matches import draw_matches
from olivine.methods.pointcontrast.method import PointContrast

__all__ = ["PointContrast", "PointContrastConfig", "draw_matches"]
