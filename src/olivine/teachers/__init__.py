"""Frozen image encoders that teach: their configuration, their features at pixels, and the head that projects them."""

from typing import Annotated

from olivine.components import Open
from olivine.teachers.base import Encoder, OwnTeacherConfig, Teacher
from olivine.teachers.cache import CachedTeacher, FeatureCache, TeacherCacheConfig, with_cache
from olivine.teachers.efficientnet_lite import EfficientNetLite0Config
from olivine.teachers.prepare import prepare_teacher
from olivine.teachers.random import RandomTeacherConfig
from olivine.teachers.resnet import ResNet50Config
from olivine.teachers.sampling import ImageHead, sample_features
from olivine.teachers.vit import VitConfig

TeacherConfig = Annotated[
    ResNet50Config | EfficientNetLite0Config | VitConfig | RandomTeacherConfig | OwnTeacherConfig,
    Open(),
]
"""The choice of teacher in a recipe, told apart by `name`; each has `build() -> Teacher`."""

__all__ = [
    "CachedTeacher",
    "EfficientNetLite0Config",
    "Encoder",
    "FeatureCache",
    "ImageHead",
    "OwnTeacherConfig",
    "RandomTeacherConfig",
    "ResNet50Config",
    "Teacher",
    "TeacherCacheConfig",
    "TeacherConfig",
    "VitConfig",
    "prepare_teacher",
    "sample_features",
    "with_cache",
]
