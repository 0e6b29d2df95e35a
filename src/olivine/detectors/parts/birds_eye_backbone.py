"""The 2-D network of SECOND on the map seen from above: blocks of convolutions, brought to one size and stacked.

Modules carry the names of the published code. In evaluation a batch norm is a scale and a shift, which the convolution
before it applies; maps are stored pixel by pixel (channels last), which suits CPUs.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from olivine.backbones.voxelnet import NORM_EPS, NORM_MOMENTUM
from olivine.config import Config


class BirdsEyeConfig(Config):
    """The 2-D network. Each list has one number per block."""

    layers: tuple[int, ...] = (5, 5)
    """Convolutions of each block after its first."""
    strides: tuple[PositiveInt, ...] = (1, 2)
    """Stride of each block's first convolution."""
    channels: tuple[PositiveInt, ...] = (128, 256)
    """Channels of each block."""
    up_strides: tuple[PositiveInt, ...] = (1, 2)
    """Factor by which each block's map is enlarged before all are stacked."""
    up_channels: tuple[PositiveInt, ...] = (256, 256)
    """Channels that each block adds to the stack."""
    batch_norm_momentum: float = Field(default=NORM_MOMENTUM, gt=0, le=1)
    """Weight of a new batch in the running statistics of batch norms; 0.01 is published."""

    @model_validator(mode="after")
    def _one_size(self) -> BirdsEyeConfig:
        lists = (self.layers, self.strides, self.channels, self.up_strides, self.up_channels)
        if len({len(each) for each in lists}) != 1 or not self.layers or min(self.layers) < 0:
            raise ValueError("layers, strides, channels, up_strides and up_channels have one number per block each")
        sizes = {math.prod(self.strides[: i + 1]) / up for i, up in enumerate(self.up_strides)}
        if len(sizes) != 1:
            raise ValueError("up_strides must bring all blocks to one size: strides, multiplied up, over up_strides")
        return self

    @property
    def stride(self) -> int:
        """The number of pixels per pixel of the smallest map; both sides of the input are multiples of it."""
        return math.prod(self.strides)

    def out_shape(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of the stack, for a map whose sides are multiples of `stride`."""
        down, up = self.strides[0], self.up_strides[0]
        return rows // down * up, columns // down * up


class BirdsEyeBackbone(nn.Module):
    """Blocks of 3×3 convolutions, each block's map enlarged to one size, all stacked.

    Args:
        in_channels: channels of the map.
        config: the blocks.

    Attributes:
        out_channels: channels of the stack.
    """

    def __init__(self, in_channels: int, config: BirdsEyeConfig) -> None:
        super().__init__()
        momentum = config.batch_norm_momentum
        inputs = (in_channels, *config.channels[:-1])
        downs = zip(inputs, config.channels, config.strides, config.layers, strict=True)
        self.blocks = nn.ModuleList(_block(*down, momentum) for down in downs)
        ups = zip(config.channels, config.up_channels, config.up_strides, strict=True)
        self.deblocks = nn.ModuleList(_enlarging(*up, momentum) for up in ups)
        self.out_channels = sum(config.up_channels)

    def forward(self, map_: Tensor) -> Tensor:
        """[B, in_channels, Y, X] → [B, out_channels, Y', X'], the size of the first block's enlarged map."""
        enlarged = []
        for block, deblock in zip(self.blocks, self.deblocks, strict=True):
            map_ = _through(block, map_)
            enlarged.append(_through(deblock, map_))
        return torch.cat(enlarged, dim=1)


def _norm(channels: int, momentum: float) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=NORM_EPS, momentum=momentum)


def _block(in_channels: int, channels: int, stride: int, layers: int, momentum: float) -> nn.Sequential:
    """As published, the padding of the first convolution is a module of its own."""
    modules: list[nn.Module] = [
        nn.ZeroPad2d(1),
        nn.Conv2d(in_channels, channels, 3, stride, bias=False),
        _norm(channels, momentum),
        nn.ReLU(),
    ]
    for _ in range(layers):
        modules += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), _norm(channels, momentum), nn.ReLU()]
    return nn.Sequential(*modules)


def _enlarging(in_channels: int, channels: int, stride: int, momentum: float) -> nn.Sequential:
    enlarge = nn.ConvTranspose2d(in_channels, channels, stride, stride, bias=False)
    return nn.Sequential(enlarge, _norm(channels, momentum), nn.ReLU())


def _through(block: nn.Module, map_: Tensor) -> Tensor:
    """The block's output, with its norms folded into its convolutions where that gives the same."""
    if block.training or torch.is_grad_enabled() or torch.is_autocast_enabled(map_.device.type):
        out: Tensor = block(map_)
        return out
    modules = list(block.children())
    padding = 0
    for module, following in zip(modules, [*modules[1:], None], strict=True):
        if isinstance(module, nn.ZeroPad2d):
            padding = 1
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and isinstance(following, nn.BatchNorm2d):
            map_ = _folded(module, following, map_, padding).relu_()
            padding = 0
    return map_


def _folded(convolution: nn.Conv2d | nn.ConvTranspose2d, norm: nn.BatchNorm2d, map_: Tensor, padding: int) -> Tensor:
    """norm(convolution(map)) by running statistics; `padding` is added to the convolution's own."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    shift = norm.bias - mean * scale
    if isinstance(convolution, nn.ConvTranspose2d):
        weight = convolution.weight * scale[:, None, None]
        return nn.functional.conv_transpose2d(map_, weight, shift, convolution.stride)
    weight = convolution.weight * scale[:, None, None, None]
    own = convolution.padding[0]
    assert isinstance(own, int)
    return nn.functional.conv2d(map_, weight, shift, convolution.stride, own + padding)
