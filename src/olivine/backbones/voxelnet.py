"""VoxelBackBone8x: the sparse encoder of SECOND and PV-RCNN (Yan et al., Sensors 2018; Shi et al., CVPR 2020).

Four scales, each half as fine as the one before, of submanifold convolutions; a last convolution halves the height
alone. Modules carry the names of the published spconv code, so that published checkpoints load with a strict load.
`VoxelNet` puts it behind the seam of backbones: its output, seen from above, is read where points are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from olivine.backbones.base import Backbone, Head
from olivine.backbones.birds_eye import BirdsEyeEmbedding, Sites
from olivine.config import Config
from olivine.data.batch import Cloud
from olivine.data.needs import Inputs
from olivine.data.voxelize import CartesianVoxels
from olivine.errors import UserError
from olivine.host import numbers_on
from olivine.sparse.coordinates import Triple, triple
from olivine.sparse.grid import GridTensor, swapped
from olivine.sparse.grid_layers import GridSequential, SparseConv3d, SubMConv3d

NORM_EPS = 1e-3
"""Added to the variance in every batch norm of the published network."""
NORM_MOMENTUM = 0.01
"""Weight of a new batch in the running statistics of the published network."""
STRIDE = 8
"""Voxels per pixel of the map that the network makes."""


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


class VoxelNet(Backbone):
    """The encoder with its output seen from above: 128 channels at each of the heights that are left, stacked.

    The published pretraining (SLidR, OLIVINE) encodes its 40 rows of voxels as they are, which leaves one height. The
    convolutions of the coarse scales do not reach the uppermost rows: a column that has points above 1 m alone (in
    nuScenes, 2.8 m above the road) is empty on the map. SECOND and PV-RCNN add a row, and two heights are left.

    Args:
        in_channels: channels of the input voxels.
        voxels: the grid.
        momentum: weight of a new batch in the running statistics.
        extra_row: whether a row of cells is added above the grid.

    Attributes:
        encoder: the sparse encoder; its entries are those of a detector's, under the published names.
        heights: rows of cells that its output has.

    Raises:
        UserError: the grid has no bounds, or is too small for the network.
    """

    def __init__(
        self,
        in_channels: int,
        voxels: CartesianVoxels,
        *,
        momentum: float = NORM_MOMENTUM,
        extra_row: bool = True,
    ) -> None:
        super().__init__()
        x, y, z = voxels.cells
        try:
            self.encoder = VoxelBackBone8x(in_channels, (z + extra_row, y, x), momentum=momentum)
        except ValueError as error:
            raise UserError(
                f"voxels: {x} × {y} × {z} cells are too few for backbone voxelnet, which takes {25 - extra_row} "
                f"at least along z ({error}); widen voxels.bounds_m or set a smaller voxels.size_m"
            ) from error
        self.heights = self.encoder.encoded_shape[0]
        self.channels = self.encoder.out_channels * self.heights
        low, size = voxels.bounds_m or (0.0,) * 6, voxels.size_m
        self._low_m, self._pixel_m = (low[0], low[1]), (size[0] * STRIDE, size[1] * STRIDE)

    def forward(self, cloud: Cloud) -> BirdsEyeEmbedding:
        """Features seen from above of the clouds of a batch."""
        return BirdsEyeEmbedding(_sites(self.scales(cloud).encoded), cloud, self._pixels, STRIDE)

    def scales(self, cloud: Cloud) -> VoxelScales:
        """All that the encoder computes of the clouds of a batch, for detectors that stand on it."""
        frames = len(cloud.point_offsets) - 1
        indices = swapped(cloud.coordinates)
        trusted = indices.device.type != "cpu"
        tensor = GridTensor(cloud.features, indices, self.encoder.spatial_shape, frames, trusted=trusted)
        scales: VoxelScales = self.encoder(tensor)
        return scales

    def map_of(self, scales: VoxelScales) -> Tensor:
        """[B, channels, Y, X] the encoder's output seen from above; see `Sites.map`."""
        return _sites(scales.encoded).map()

    def pretraining_head(self, out_channels: int, *, unit: bool = False) -> Head:
        """A head of the cells' channels, shared by all heights and without a bias, as published for this network.

        Raises:
            UserError: so many channels cannot be shared out among the heights.
        """
        if out_channels % self.heights:
            raise UserError(f"backbone voxelnet stacks {self.heights} heights; {out_channels} features are no multiple")
        return Head(self.encoder.out_channels, out_channels // self.heights, unit=unit, bias=False)

    def _pixels(self, xy_m: Tensor) -> Tensor:
        """[P, 2] points, metres → [P, 2] pixels (column, row) of the map."""
        low, pixel = (numbers_on(xy_m.device, each, xy_m.dtype) for each in (self._low_m, self._pixel_m))
        return (xy_m - low) / pixel


def _sites(encoded: GridTensor) -> Sites:
    return Sites(encoded.features, encoded.indices, encoded.spatial_shape, encoded.batch_size)


class VoxelNetConfig(Config):
    """The sparse encoder of SECOND and PV-RCNN, read from above."""

    name: Literal["voxelnet"] = "voxelnet"
    """Chooses this backbone. It needs `voxels.name=cartesian` with bounds."""
    batch_norm_momentum: float = Field(default=NORM_MOMENTUM, gt=0, le=1)
    """Weight of a new batch in the running statistics of batch norms; 0.01 is published."""
    extra_row: bool = True
    """Add a row of cells above the grid, as SECOND and PV-RCNN do: 41 rows leave two heights of 128 channels, 40 leave
    one. The published pretraining adds none, and its recipes say so; the encoder's weights fit either way."""

    def build(self, inputs: Inputs) -> VoxelNet:
        """The network, initialised from torch's generator.

        Raises:
            UserError: the voxels are not Cartesian, have no bounds, or are too few.
        """
        voxels = inputs.voxels
        if not isinstance(voxels, CartesianVoxels) or voxels.bounds_m is None:
            raise UserError(
                "backbone voxelnet is for a bounded Cartesian grid; set voxels.name=cartesian and voxels.bounds_m, "
                "e.g. [-51.2,-51.2,-5,51.2,51.2,3] with voxels.size_m=[0.1,0.1,0.2]"
            )
        return VoxelNet(inputs.channels, voxels, momentum=self.batch_norm_momentum, extra_row=self.extra_row)
