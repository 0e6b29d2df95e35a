"""DepthContrast: the method, its settings, its loss and the encoder of its second format."""

from olivine.methods.depthcontrast.losses import scene_contrast
from olivine.methods.depthcontrast.method import DepthContrast, DepthContrastConfig, FormatWeights
from olivine.methods.depthcontrast.point_encoder import PointEncoder, PointEncoderConfig, SetAbstractionConfig

__all__ = [
    "DepthContrast",
    "DepthContrastConfig",
    "FormatWeights",
    "PointEncoder",
    "PointEncoderConfig",
    "SetAbstractionConfig",
    "scene_contrast",
]
