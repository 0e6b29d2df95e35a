"""Sparse 3-D networks: the voxelised clouds of a batch in, an embedding out that is read at voxels or points."""

from olivine.backbones.base import Backbone, Embedder, Embedding, Head, OwnBackboneConfig, VoxelEmbedding
from olivine.backbones.config import BackboneConfig, MinkUNetConfig
from olivine.backbones.minkunet import (
    DOWNSTREAM_MOMENTUM,
    PRETRAINING_MOMENTUM,
    MinkUNet,
    set_batch_norm_momentum,
)
from olivine.backbones.voxelnet import VoxelBackBone8x, VoxelNet, VoxelNetConfig, VoxelScales

__all__ = [
    "DOWNSTREAM_MOMENTUM",
    "PRETRAINING_MOMENTUM",
    "Backbone",
    "BackboneConfig",
    "Embedder",
    "Embedding",
    "Head",
    "MinkUNet",
    "MinkUNetConfig",
    "OwnBackboneConfig",
    "VoxelBackBone8x",
    "VoxelEmbedding",
    "VoxelNet",
    "VoxelNetConfig",
    "VoxelScales",
    "set_batch_norm_momentum",
]
