"""ScaLR: distillation of a vision foundation model (Puy et al., "Three Pillars", CVPR 2024, arXiv 2310.17504).

The head of the 3-D backbone is as wide as the image teacher's features, and each point's feature is drawn to that of
its pixel. There are no negatives, nothing is trained on the image side, and no pair need be left out.

    images ─ teacher ─ sampled at pairs ─ normalised ─┬─ distance
    cloud ── backbone ────────────────────────────────┘
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn import functional

from olivine.backbones import Backbone, BackboneConfig
from olivine.data.batch import Batch
from olivine.data.needs import Inputs
from olivine.host import sent
from olivine.methods.parts.contrast import draw_uniform
from olivine.methods.parts.cross_modal import CrossModalConfig, CrossModalMethod
from olivine.methods.scalr.losses import Distance, distillation_loss
from olivine.teachers import Teacher


class ScalrConfig(CrossModalConfig):
    """Distillation of a vision foundation model without negatives."""

    name: Literal["scalr"] = "scalr"
    """Chooses this method."""
    loss: Distance = "l2"
    """Distance of unit vectors (`l2`) or one minus their cosine (`cosine`)."""
    pairs: PositiveInt | None = None
    """Pairs drawn per step and process, to save memory; null takes all."""

    def build(self, backbone: BackboneConfig, inputs: Inputs) -> Scalr:
        """The method around a fresh backbone, whose head is as wide as the teacher's features.

        Args:
            backbone: which 3-D network to train.
            inputs: what its input is.

        Raises:
            UserError: the teacher's weights cannot be read.
        """
        # First, since the head is as wide as what it says.
        teacher = self.build_teacher()
        return Scalr(self, backbone.build(inputs), teacher)


class Scalr(CrossModalMethod):
    """The method: the distance of unit point features from the teacher's own unit features.

    Args:
        config: the settings.
        backbone: the network that is taught.
        teacher: the frozen image encoder.
    """

    def __init__(self, config: ScalrConfig, backbone: Backbone, teacher: Teacher) -> None:
        super().__init__(config, backbone, lambda: teacher, teacher.channels)
        self.config = config

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Loss of one batch.

        Args:
            batch: with images and pairs; no labels are read.

        Returns:
            `loss`, and for the log the number of `pairs` in the batch, how many were drawn (`pairs_scalr`), and the
            diagnostics of the embedding (see `olivine.methods.parts.diagnostics`).

        Raises:
            ValueError: the batch holds no images or no pairs.
        """
        images, pairs = self.seen(batch)
        drawn = self._draw(len(pairs.voxel), batch.generator())
        with self.stage("teacher"):
            sampled = self.teacher.sample(images, pairs.host.image[drawn], pairs.host.uv[drawn])
            drawn = sent(drawn, images.device)
            q = functional.normalize(sampled, dim=1)
        with self.stage("backbone"):
            level = self.embed(batch.cloud)
        with self.stage("loss"):
            k = level.of_points(pairs.point[drawn])
            counts = {"pairs": torch.tensor(float(len(pairs.voxel))), "pairs_scalr": torch.tensor(float(len(drawn)))}
            counts |= self.learned_from("point-pixel pairs", len(drawn))
            return {"loss": distillation_loss(k, q, self.config.loss), **counts, **self.diagnostics(k, q)}

    def _draw(self, total: int, generator: torch.Generator) -> Tensor:
        """[S] int64 pairs to learn from, on the CPU."""
        if self.config.pairs is None:
            return torch.arange(total)
        return draw_uniform(total, self.config.pairs, generator)
