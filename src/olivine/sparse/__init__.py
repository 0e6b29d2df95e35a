"""Sparse convolution on voxels, in pure PyTorch, with MinkowskiEngine's meaning and parameter layout.

    from olivine.sparse import Convolution, SparseTensor

    tensor = SparseTensor(features, coordinates)        # [N, C] float32, [N, 4] int32 (batch, x, y, z)
    coarse = Convolution(C, 32, 2, stride=2)(tensor)    # coarse.features, coarse.coordinates, coarse.tensor_stride

The package needs PyTorch alone. Layers share voxel sets and kernel maps through the tensor's coordinate manager; the
arithmetic is in `olivine.sparse.kernels`.
"""

from olivine.sparse.layers import BatchNorm, Convolution, ConvolutionTranspose, Pointwise, ReLU, conv_bn
from olivine.sparse.pooling import AveragePooling, MaxPooling, SumPooling
from olivine.sparse.tensor import SparseTensor, cat

__all__ = [
    "AveragePooling",
    "BatchNorm",
    "Convolution",
    "ConvolutionTranspose",
    "MaxPooling",
    "Pointwise",
    "ReLU",
    "SparseTensor",
    "SumPooling",
    "cat",
    "conv_bn",
]
