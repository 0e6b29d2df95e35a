"""A small DepthContrast for toy batches."""

from torch import nn

from olivine.backbones import Backbone
from olivine.methods.depthcontrast import (
    DepthContrast,
    DepthContrastConfig,
    PointEncoderConfig,
    SetAbstractionConfig,
)
from olivine.toys import ToyBackbone

ENCODER = PointEncoderConfig(
    points=32,
    layers=(
        SetAbstractionConfig(centres=8, radius_m=0.3, samples=4, channels=(8,)),
        SetAbstractionConfig(centres=4, radius_m=0.6, samples=4, channels=(8, 12)),
    ),
)


def small(backbone: Backbone | None = None, **settings) -> DepthContrast:
    """Ten dimensions, a queue of seven, and quick momentum."""
    base = {"feature_dim": 8, "embedding_dim": 10, "queue": 7, "momentum": 0.9, "point_encoder": ENCODER}
    config = DepthContrastConfig(**base | settings)
    return DepthContrast(config, backbone or ToyBackbone(), 1)


def without_batch_statistics(method: DepthContrast) -> DepthContrast:
    """The same method, in which a scene's embedding is its own, whatever else is in its batch."""
    for module in method.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()
    return method
