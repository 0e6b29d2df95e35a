"""PPKT: pixel-to-point knowledge transfer (Liu et al., arXiv 2104.04687).

A frozen image teacher and a 3-D backbone embed the two sides of each point-pixel pair, and each point must find its
own pixel among those drawn with it. The image side is a 1×1 convolution of the teacher's map, upsampled bilinearly.

    images ─ teacher ─ sampled at pairs ─ image_head ─┬─ InfoNCE
    cloud ── backbone ────────────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from olivine.backbones import Backbone, BackboneConfig
from olivine.data.batch import Batch
from olivine.data.needs import Inputs
from olivine.host import sent
from olivine.methods.parts.contrast import draw_uniform, info_nce
from olivine.methods.parts.cross_modal import CrossModalConfig, CrossModalMethod
from olivine.teachers import ImageHead, Teacher


class PpktConfig(CrossModalConfig):
    """Pixel-to-point knowledge transfer."""

    name: Literal["ppkt"] = "ppkt"
    """Chooses this method."""
    feature_dim: int = Field(default=64, ge=2)
    """Size of the embedding that points and pixels share."""
    temperature: PositiveFloat = 0.07
    """Temperature τ."""
    pairs: PositiveInt = 4096
    """Pairs drawn per step and process; all pairs where there are fewer."""

    def build(self, backbone: BackboneConfig, inputs: Inputs) -> Ppkt:
        """The method around a fresh backbone.

        Args:
            backbone: which 3-D network to train.
            inputs: what its input is.

        Raises:
            UserError: the teacher's weights cannot be read.
        """
        return Ppkt(self, backbone.build(inputs), self.build_teacher)


class Ppkt(CrossModalMethod):
    """The method: point-to-pixel InfoNCE over uniformly drawn pairs.

    With several processes each draws its pairs and contrasts them among themselves, as published.

    Args:
        config: the settings.
        backbone: the network that is taught.
        teacher: makes the frozen image encoder.

    Attributes:
        image_head: projects image features.
    """

    def __init__(self, config: PpktConfig, backbone: Backbone, teacher: Callable[[], Teacher]) -> None:
        super().__init__(config, backbone, teacher, config.feature_dim)
        self.config = config
        self.image_head = ImageHead(self.teacher.channels, config.feature_dim)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Loss of one batch.

        Args:
            batch: with images and pairs; no labels are read.

        Returns:
            `loss`, and for the log the number of `pairs` in the batch, how many were drawn (`pairs_ppkt`), and the
            diagnostics of the embedding (see `olivine.methods.parts.diagnostics`).

        Raises:
            ValueError: the batch holds no images or no pairs.
        """
        images, pairs = self.seen(batch)
        count = len(pairs.voxel)
        drawn = draw_uniform(count, self.config.pairs, batch.generator())
        with self.stage("teacher"):
            image_features = self.teacher.sample(images, pairs.host.image[drawn], pairs.host.uv[drawn])
            drawn = sent(drawn, images.device)
        with self.stage("backbone"):
            level = self.embed(batch.cloud)
        with self.stage("loss"):
            k, q = level.of_points(pairs.point[drawn]), self.image_head(image_features)
            counts = {"pairs": torch.tensor(float(count)), "pairs_ppkt": torch.tensor(float(len(drawn)))}
            counts |= self.learned_from("point-pixel pairs", len(drawn), least=2)
            return {"loss": info_nce(k, q, self.config.temperature), **counts, **self.diagnostics(k, q)}
