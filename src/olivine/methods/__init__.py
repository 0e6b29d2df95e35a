"""Pretraining methods, one folder each, and the choice between them."""

from typing import Annotated, TypeAlias

from olivine.components import Open
from olivine.methods.base import Method, OwnMethodConfig
from olivine.methods.deepcluster.method import DeepClusterConfig
from olivine.methods.depthcontrast.method import DepthContrastConfig
from olivine.methods.olivine.method import OlivineConfig
from olivine.methods.pointcontrast.method import PointContrastConfig
from olivine.methods.ppkt.method import PpktConfig
from olivine.methods.scalr.method import ScalrConfig
from olivine.methods.slidr.method import SlidrConfig
from olivine.methods.strl.method import StrlConfig

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
"""The choice of method in a recipe, told apart by `name`; each has `build(backbone, inputs)`."""

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
]
