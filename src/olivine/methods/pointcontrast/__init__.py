"""PointContrast: the method, its settings, and its draw of matches."""

from olivine.methods.pointcontrast.matches import draw_matches
from olivine.methods.pointcontrast.method import PointContrast, PointContrastConfig

__all__ = ["PointContrast", "PointContrastConfig", "draw_matches"]
