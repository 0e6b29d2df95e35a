"""Sparse 3-D networks: a `SparseTensor` in, features on the same voxels out."""

from olivine.backbones.config import BackboneConfig, MinkUNetConfig
from olivine.backbones.minkunet import (
    DOWNSTREAM_MOMENTUM,
    PRETRAINING_MOMENTUM,
    MinkUNet,
    MinkUNet34C,
    set_batch_norm_momentum,
)
from olivine.backbones.voxelnet import VoxelBackBone8x, VoxelScales

__all__ = [
    "DOWNSTREAM_MOMENTUM",
    "PRETRAINING_MOMENTUM",
    "BackboneConfig",
    "MinkUNet",
    "MinkUNet34C",
    "MinkUNetConfig",
    "VoxelBackBone8x",
    "VoxelScales",
    "set_batch_norm_momentum",
]
