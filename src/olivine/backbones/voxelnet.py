"""VoxelBackBone8x: the sparse encoder of SECOND and PV-RCNN (Yan et al., Sensors 2018; Shi et al., CVPR 2020).

Four scales, each half as fine as the one before, of submanifold convolutions; a last convolution halves the height
alone. Modules carry the names of the published spconv code, so that published checkpoints load with a strict load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from olivine.sparse.coordinates import Triple, triple
from olivine.sparse.grid import GridTensor
from olivine.sparse.grid_layers import GridSequential, SparseConv3d, SubMConv3d

NORM_EPS = 1e-3
"""Added to the variance in every batch norm of the published network."""
NORM_MOMENTUM = 0.01
"""Weight of a new batch in the running statistics of the published network."""


@dataclass(frozen=True)
class VoxelScales:
    """What the encoder computes: the features of every scale, and its output.

    Attributes:
        x_conv1: 16 channels on the input's voxels.
        x_conv2: 32 channels at half the resolution.
        x_conv3: 64 channels at a quarter.
        x_conv4: 64 channels at an eighth.
        encoded: 128 channels at an eighth, the first axis (height) halved once more.
    """

    x_conv1: GridTensor
    x_conv2: GridTensor
    x_conv3: GridTensor
    x_conv4: GridTensor
    encoded: GridTensor


class VoxelBackBone8x(nn.Module):
    """Sparse encoder of voxelised sweeps, eight times coarser at its end.

    Args:
        in_channels: channels of the input voxels.
        spatial_shape: cells (z, y, x) of the input grid; (41, 1600, 1408) for KITTI's published voxels.
        eps: added to the variance in every batch norm.
        momentum: weight of a new batch in the running statistics.

    Attributes:
        out_channels: channels of the encoded output.
        encoded_shape: cells (z, y, x) of the encoded output's grid.

    Raises:
        ValueError: `spatial_shape` is not three positive integers, or too small for the network.
    """

    def __init__(
        self,
        in_channels: int,
        spatial_shape: Sequence[int],
        *,
        eps: float = NORM_EPS,
        momentum: float = NORM_MOMENTUM,
    ) -> None:
        super().__init__()

        def block(conv: SubMConv3d | SparseConv3d) -> GridSequential:
            return GridSequential(conv, nn.BatchNorm1d(conv.out_channels, eps=eps, momentum=momentum), nn.ReLU())

        def submanifold(inputs: int, outputs: int) -> GridSequential:
            return block(SubMConv3d(inputs, outputs, 3, bias=False))

        def strided(inputs: int, outputs: int, padding: int | Triple, key: str) -> GridSequential:
            return block(SparseConv3d(inputs, outputs, 3, 2, padding, bias=False, indice_key=key))

        self.spatial_shape = triple(spatial_shape, "spatial_shape")
        self.in_channels, self.out_channels = in_channels, 128
        self.conv_input = submanifold(in_channels, 16)
        self.conv1 = GridSequential(submanifold(16, 16))
        self.conv2 = GridSequential(strided(16, 32, 1, "spconv2"), submanifold(32, 32), submanifold(32, 32))
        self.conv3 = GridSequential(strided(32, 64, 1, "spconv3"), submanifold(64, 64), submanifold(64, 64))
        self.conv4 = GridSequential(strided(64, 64, (0, 1, 1), "spconv4"), submanifold(64, 64), submanifold(64, 64))
        self.conv_out = block(
            SparseConv3d(64, 128, (3, 1, 1), (2, 1, 1), 0, bias=False, indice_key="spconv_down2"),
        )
        self.encoded_shape = self._encoded_shape()

    def forward(self, tensor: GridTensor) -> VoxelScales:
        """Encode a batch of voxelised clouds.

        Args:
            tensor: [N, in_channels] on the grid of `spatial_shape`.

        Returns:
            All scales and the encoded output.

        Raises:
            ValueError: the tensor is on another grid or has another number of channels.
        """
        if tensor.spatial_shape != self.spatial_shape:
            raise ValueError(f"the network is for a grid of shape {self.spatial_shape}, got {tensor.spatial_shape}")
        x_conv1 = self.conv1(self.conv_input(tensor))
        x_conv2 = self.conv2(x_conv1)
        x_conv3 = self.conv3(x_conv2)
        x_conv4 = self.conv4(x_conv3)
        return VoxelScales(x_conv1, x_conv2, x_conv3, x_conv4, self.conv_out(x_conv4))

    def _encoded_shape(self) -> Triple:
        shape = self.spatial_shape
        for module in self.modules():
            if isinstance(module, SparseConv3d):
                shape = module.geometry.output_shape(shape)
        return shape
