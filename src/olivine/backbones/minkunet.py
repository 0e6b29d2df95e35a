"""MinkUNet: the sparse residual U-Net that most image-to-LiDAR work trains (Choy et al., CVPR 2019, arXiv 1904.08755).

A stem at full resolution, four downsamplings by 2, four upsamplings by 2 with skip connections, and residual blocks at
each scale. Modules carry the names of the published MinkowskiEngine code (`conv1p1s2` goes from stride 1 by a factor 2,
and so on), so that published checkpoints load with a strict load (`olivine.weights.foreign`, which knows their heads).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from olivine.backbones.base import Backbone, VoxelEmbedding
from olivine.data.batch import Cloud
from olivine.sparse import BatchNorm, Convolution, ConvolutionTranspose, SparseTensor, cat, conv_bn

PRETRAINING_MOMENTUM = 0.05
"""Batch-norm momentum of the published pretraining."""
DOWNSTREAM_MOMENTUM = 0.02
"""Batch-norm momentum of the published fine-tuning."""
BLOCK_MOMENTUM = 0.1
"""Batch-norm momentum inside residual blocks, which the published code leaves at PyTorch's default in both."""

STEM = 32
PLANES_C = (32, 64, 128, 256, 256, 128, 96, 96)
PLANES_A = (32, 64, 128, 256, 128, 128, 96, 96)
LAYERS_34 = (2, 3, 4, 6, 2, 2, 2, 2)
LAYERS_18 = (2, 2, 2, 2, 2, 2, 2, 2)
LAYERS_14 = (1, 1, 1, 1, 1, 1, 1, 1)


class BasicBlock(nn.Module):
    """Residual block: two 3×3×3 convolutions with batch norm, and a shortcut (projected where channels change).

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        momentum: batch-norm momentum of the projected shortcut.
    """

    def __init__(self, in_channels: int, channels: int, momentum: float) -> None:
        super().__init__()
        self.conv1 = Convolution(in_channels, channels, 3)
        self.norm1 = BatchNorm(channels, momentum=BLOCK_MOMENTUM)
        self.conv2 = Convolution(channels, channels, 3)
        self.norm2 = BatchNorm(channels, momentum=BLOCK_MOMENTUM)
        self.downsample = (
            None
            if in_channels == channels
            else nn.Sequential(Convolution(in_channels, channels, 1), BatchNorm(channels, momentum=momentum))
        )

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """[N, in_channels] → [N, channels] on the same voxels."""
        shortcut = tensor if self.downsample is None else conv_bn(tensor, *self.downsample, relu=False)
        return conv_bn(conv_bn(tensor, self.conv1, self.norm1), self.conv2, self.norm2, residual=shortcut)


class MinkUNet(Backbone):
    """Sparse residual U-Net.

    Args:
        in_channels: channels of the input voxels.
        planes: channels of the eight stages, four down and four up.
        layers: residual blocks of the eight stages.
        width: factor on all planes and on the stem (rounded, at least 1).
        stem: kernel sizes of the one or two convolutions at full resolution that come before everything else.
        momentum: batch-norm momentum outside the residual blocks.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        planes: Sequence[int] = PLANES_C,
        layers: Sequence[int] = LAYERS_34,
        width: float = 1.0,
        stem: Sequence[int] = (3,),
        momentum: float = PRETRAINING_MOMENTUM,
    ) -> None:
        super().__init__()
        if len(planes) != 8 or len(layers) != 8 or len(stem) not in (1, 2):
            raise ValueError(
                "planes and layers are eight numbers each, and stem one or two, "
                f"got {len(planes)}, {len(layers)} and {len(stem)}"
            )
        self.in_channels = in_channels
        first, *p = (max(1, round(plane * width)) for plane in (STEM, *planes))
        self.conv0p1s1, self.bn0 = Convolution(in_channels, first, stem[0]), BatchNorm(first, momentum=momentum)
        self.stem2 = _more_stem(first, stem[1], momentum) if len(stem) == 2 else None
        self.conv1p1s2, self.bn1 = _down(first, momentum)
        self.block1 = _blocks(first, p[0], layers[0], momentum)
        self.conv2p2s2, self.bn2 = _down(p[0], momentum)
        self.block2 = _blocks(p[0], p[1], layers[1], momentum)
        self.conv3p4s2, self.bn3 = _down(p[1], momentum)
        self.block3 = _blocks(p[1], p[2], layers[2], momentum)
        self.conv4p8s2, self.bn4 = _down(p[2], momentum)
        self.block4 = _blocks(p[2], p[3], layers[3], momentum)
        self.convtr4p16s2, self.bntr4 = _up(p[3], p[4], momentum)
        self.block5 = _blocks(p[4] + p[2], p[4], layers[4], momentum)
        self.convtr5p8s2, self.bntr5 = _up(p[4], p[5], momentum)
        self.block6 = _blocks(p[5] + p[1], p[5], layers[5], momentum)
        self.convtr6p4s2, self.bntr6 = _up(p[5], p[6], momentum)
        self.block7 = _blocks(p[6] + p[0], p[6], layers[6], momentum)
        self.convtr7p2s2, self.bntr7 = _up(p[6], p[7], momentum)
        self.block8 = _blocks(p[7] + first, p[7], layers[7], momentum)
        self.channels = p[7]

    def forward_features(self, tensor: SparseTensor) -> SparseTensor:
        """Features of a sparse tensor of one's own.

        Args:
            tensor: [N, in_channels] at stride 1.

        Returns:
            [N, channels] on the same voxels in the same order.
        """
        p1 = conv_bn(tensor, self.conv0p1s1, self.bn0)
        if self.stem2 is not None:
            p1 = conv_bn(p1, *self.stem2)
        p2: SparseTensor = self.block1(conv_bn(p1, self.conv1p1s2, self.bn1))
        p4: SparseTensor = self.block2(conv_bn(p2, self.conv2p2s2, self.bn2))
        p8: SparseTensor = self.block3(conv_bn(p4, self.conv3p4s2, self.bn3))
        out: SparseTensor = self.block4(conv_bn(p8, self.conv4p8s2, self.bn4))
        out = self.block5(cat([conv_bn(out, self.convtr4p16s2, self.bntr4), p8]))
        out = self.block6(cat([conv_bn(out, self.convtr5p8s2, self.bntr5), p4]))
        out = self.block7(cat([conv_bn(out, self.convtr6p4s2, self.bntr6), p2]))
        result: SparseTensor = self.block8(cat([conv_bn(out, self.convtr7p2s2, self.bntr7), p1]))
        return result

    def forward(self, cloud: Cloud) -> VoxelEmbedding:
        """A feature for every voxel of the clouds of a batch."""
        return VoxelEmbedding(self.forward_features(cloud.tensor).features, cloud.point_voxel)


def set_batch_norm_momentum(network: nn.Module, momentum: float) -> None:
    """Change the batch-norm momentum of a MinkUNet as the published code does: everywhere but inside the blocks.

    Args:
        network: the network, or a module that contains one; changed in place.
        momentum: `PRETRAINING_MOMENTUM`, `DOWNSTREAM_MOMENTUM` or your own.
    """
    inside = {
        norm for block in network.modules() if isinstance(block, BasicBlock) for norm in (block.norm1, block.norm2)
    }
    for module in network.modules():
        if isinstance(module, BatchNorm) and module not in inside:
            module.bn.momentum = momentum


def _more_stem(channels: int, size: int, momentum: float) -> nn.Sequential:
    return nn.Sequential(Convolution(channels, channels, size), BatchNorm(channels, momentum=momentum))


def _down(channels: int, momentum: float) -> tuple[Convolution, BatchNorm]:
    return Convolution(channels, channels, 2, stride=2), BatchNorm(channels, momentum=momentum)


def _up(in_channels: int, channels: int, momentum: float) -> tuple[ConvolutionTranspose, BatchNorm]:
    return ConvolutionTranspose(in_channels, channels, 2, stride=2), BatchNorm(channels, momentum=momentum)


def _blocks(in_channels: int, channels: int, count: int, momentum: float) -> nn.Sequential:
    sizes = [in_channels] + [channels] * (count - 1)
    return nn.Sequential(*(BasicBlock(size, channels, momentum) for size in sizes))
