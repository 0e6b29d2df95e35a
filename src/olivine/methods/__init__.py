"""Pretraining methods, one folder each, and the choice between them."""

from typing import Annotated, TypeAlias

from olivine.components import Open
from olivine.methods.base import Method, OwnMethodConfig, Views
from olivine.methods.deepcluster.config import DeepClusterConfig
from olivine.methods.depthcontrast.config import DepthContrastConfig
from olivine.methods.olivine.config import OlivineConfig
from olivine.methods.pointcontrast.config import PointContrastConfig
from olivine.methods.ppkt.config import PpktConfig
from olivine.methods.scalr.config import ScalrConfig
from olivine.methods.slidr.config import SlidrConfig
from olivine.methods.strl.config import StrlConfig

MethodConfig: TypeAlias = Annotated[
    DeepClusterConfig
    | DepthContrastConfig
    | OlivineConfig
    | PointContrastConfig
    | PpktConfig
    | ScalrConfig
    | SlidrConfig
    | StrlConfig
    | OwnMethodConfig,
    Open(),
]
"""The choice of method in a recipe, told apart by `name`; each has `build(backbone, in_channels, weak_classes)`."""

__all__ = [
    "DeepClusterConfig",
    "DepthContrastConfig",
    "Method",
    "MethodConfig",
    "OlivineConfig",
    "OwnMethodConfig",
    "PointContrastConfig",
    "PpktConfig",
    "ScalrConfig",
    "SlidrConfig",
    "StrlConfig",
    "Views",
]
