"""A random teacher: a small convolutional network whose weights were never trained.

For tests and dry runs, which must not need weights. Its features depend on colour and local texture and on nothing
that was learned; numbers obtained with it say nothing about a method.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from olivine.streams import torch_stream
from olivine.teachers.base import IMAGENET_MEAN, IMAGENET_STD, Encoder, FrozenConfig, Teacher


class RandomEncoder(Encoder):
    """3×3 convolutions of stride 2, each followed by a ReLU and returned as a level.

    Args:
        channels: output channels of each convolution.
        seed: draws the weights.

    Attributes:
        level_channels: `channels`.
    """

    def __init__(self, channels: tuple[int, ...], seed: int) -> None:
        super().__init__()
        self.level_channels = channels
        generator = torch_stream("untrained teacher", seed)
        inputs = (3, *channels[:-1])
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in zip(inputs, channels, strict=True)
        )
        for parameter in self.parameters():
            bound = (6 / parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else 0.1
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images [M, 3, H, W] → maps [M, C_l, ⌈H / 2ˡ⌉, ⌈W / 2ˡ⌉], for l = 1, 2 and so on."""
        maps: list[Tensor] = []
        for convolution in self.convolutions:
            maps.append(F.relu(convolution(maps[-1] if maps else images)))
        return maps


class RandomTeacherConfig(FrozenConfig):
    """A small untrained teacher, for tests and dry runs only."""

    name: Literal["random"] = "random"
    """Chooses this teacher."""
    channels: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1)] = (8, 16, 32)
    """Channels of its levels, of strides 2, 4, 8, …"""
    seed: int = 0
    """Draws the weights."""

    def build(self) -> Teacher:
        """The teacher."""
        encoder = RandomEncoder(self.channels, self.seed)
        source = f"random convolutions, seed {self.seed}, never trained"
        return Teacher(encoder, mean=IMAGENET_MEAN, std=IMAGENET_STD, source=source)
