"""What every image teacher is: a frozen encoder behind one interface.

Camera images come in as the batch holds them (RGB, 0…1); feature maps go out, one per level of the encoder, for
`olivine.teachers.sampling` to read at the pixels that points fall on. An encoder is a plain module; `Teacher` is what
freezes it and normalises its input, so that a new encoder cannot forget either.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from olivine.components import OwnConfig
from olivine.config import Config
from olivine.host import fetched, sent
from olivine.teachers.sampling import sample_features

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's pixels, RGB in 0…1, by which torchvision and the self-supervised ResNets normalise."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's pixels, likewise."""


Precision = Literal["fp32", "bf16"]
"""What a teacher's encoder computes in."""


class FrozenConfig(Config):
    """The settings that every teacher has."""

    precision: Precision = "fp32"
    """What the encoder computes in. `bf16` gives other features, near those of `fp32`; it is faster where the
    processor has it (see `olivine doctor`) and over ten times slower where it has not."""
    compile: bool = False
    """Let `torch.compile` make the encoder's kernels, which takes a minute or more at the start and rounds otherwise.
    Whether it pays was not measured."""


class Encoder(nn.Module, ABC):
    """An image network that a `Teacher` freezes.

    Attributes:
        level_channels: channels C_l of each feature map it returns.
        patch: side of the square patches that its cells are, pixels; None where the outermost cells lie on the image's
            corner pixels, as published for convolutional teachers.
    """

    level_channels: tuple[int, ...]
    patch: int | None = None

    @abstractmethod
    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images [M, 3, H, W] → maps [M, C_l, h_l, w_l], one per level."""


class Teacher(nn.Module):
    """A frozen image encoder.

    Its parameters need no gradient, it stays in eval mode whatever `train()` is told, and its maps carry no graph.

    Args:
        encoder: the network, its weights in place.
        mean: [3] per-channel mean the encoder was trained with, RGB in 0…1.
        std: [3] per-channel standard deviation, likewise.
        source: one line that says what the weights are and where they came from.

    Attributes:
        channels: the sum of all levels' channels, the width of sampled features.
        source: as given; for logs and reports.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: Encoder, *, mean: Sequence[float], std: Sequence[float], source: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.source = source
        self.channels: int = sum(encoder.level_channels)
        # The statistics belong to the encoder's code, not to its weights.
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)
        # Convolutions over few channels and the reading of whole feature vectors are both faster this way round.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval()

    def train(self, mode: bool = True) -> Teacher:  # noqa: ARG002
        """Stay in eval mode: a frozen teacher's batch statistics must not drift. `mode` is ignored."""
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of images.

        Args:
            images: [M, 3, H, W] float32 RGB in 0…1.

        Returns:
            One map [M, C_l, h_l, w_l] per level, without a graph.
        """
        normalised = (images - self.mean) / self.std
        dtype = next((parameter.dtype for parameter in self.encoder.parameters()), images.dtype)
        maps = self.encoder(normalised.to(dtype).contiguous(memory_format=torch.channels_last))
        return [level.to(images.dtype) for level in maps] if dtype == torch.bfloat16 else list(maps)

    @torch.no_grad()
    def digest(self) -> str:
        """SHA-256 of the names, types, shapes and values of every parameter and buffer, in hexadecimal."""
        digest = hashlib.sha256()
        for name, value in (*self.named_parameters(), *self.named_buffers()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @torch.no_grad()
    def sample(self, images: Tensor, image: Tensor, uv: Tensor, *, images_at_once: int = 4) -> Tensor:
        """Features at pixels, with the maps of only a few images in memory at any time.

        The same numbers as `sample_features(self(images), image, uv, size, patch=self.encoder.patch)`. A stride-4
        ResNet-50 map takes 48 MB per 224 × 416 image, which a batch of 16 frames with 6 cameras multiplies by 96.

        Args:
            images: [M, 3, H, W] float32 RGB in 0…1.
            image: [P] int64 row of `images` each pixel lies in; best on the CPU, since the host has to know.
            uv: [P, 2] float pixel (column, row), pixel centres at integers; on either.
            images_at_once: how many images go through the encoder together.

        Returns:
            [P, channels] features.
        """
        size, patch = (images.shape[3], images.shape[2]), self.encoder.patch
        features = images.new_empty(len(image), self.channels)
        known = fetched(image, "which image each pixel lies in")
        order = (known // images_at_once).argsort(stable=True)
        ends = torch.searchsorted(known[order], torch.arange(0, len(images) + images_at_once, images_at_once)).tolist()
        place, rows = sent(known[order], images.device), sent(order, images.device)
        pixels = sent(uv, images.device)[rows]
        for chunk, (first, end) in enumerate(pairwise(ends)):
            if end > first:
                start, part = chunk * images_at_once, slice(first, end)
                maps = self(images[start : start + images_at_once])
                sampled = sample_features(maps, place[part] - start, pixels[part], size, patch=patch)
                features[rows[part]] = sampled.to(features.dtype)
        return features


class OwnTeacherConfig(OwnConfig):
    """Base of a teacher of your own, `name: module:Class`; the class adds the teacher's settings."""

    precision: Precision = "fp32"
    """See `FrozenConfig`."""
    compile: bool = False
    """See `FrozenConfig`."""

    @abstractmethod
    def build(self) -> Teacher:
        """The teacher, the same at every call.

        Raises:
            UserError: its weights cannot be read.
        """
