"""PointContrast (Xie et al., arXiv 2007.10985): matching voxels of two views get the same feature, others do not.

first view ── backbone ─ features at the matches ─┬─ InfoNCE
second view ─ backbone ─ features at the matches ─┘
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from olivine.backbones import Backbone, BackboneConfig
from olivine.config import Config
from olivine.data.batch import Batch
from olivine.data.needs import Inputs, Needs
from olivine.host import sent
from olivine.methods.base import Method
from olivine.methods.parts.contrast import info_nce
from olivine.methods.pointcontrast.matches import draw_matches
from olivine.rows import take_rows


class PointContrastConfig(Config):
    """Contrast between matching voxels of two views."""

    name: Literal["pointcontrast"] = "pointcontrast"
    """Chooses this method."""
    second: Literal["scan", "frame"] = "scan"
    """The second view: the same `scan` cut and augmented anew, or a neighbouring `frame` matched by the poses, which
    comes nearer to the partial views of the paper but takes what moves for something else."""
    feature_dim: int = Field(default=32, ge=2)
    """Size of the embedding."""
    temperature: PositiveFloat = 0.4
    """Temperature τ."""
    matches: PositiveInt = 4096
    """Matches drawn per step and process; all where there are fewer."""

    def build(self, backbone: BackboneConfig, inputs: Inputs) -> PointContrast:
        """The method around a fresh backbone.

        Args:
            backbone: which 3-D network to train.
            inputs: what its input is.
        """
        return PointContrast(self, backbone.build(inputs))


class PointContrast(Method):
    """The method: PointInfoNCE over the drawn matches, each voxel of the first view against those of the second.

    As published, the negatives are those of this process, and each view goes through the backbone by itself, so that
    each is normalised by its own statistics.

    Args:
        config: the settings.
        backbone: the network that is trained.
    """

    def __init__(self, config: PointContrastConfig, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.needs = Needs(second=config.second, match=True)
        self.backbone = backbone
        self.heads = nn.ModuleDict({"point": backbone.pretraining_head(config.feature_dim, unit=True)})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Loss of one batch.

        Args:
            batch: with a second view and its matches.

        Returns:
            `loss`, and for the log the number of `matches` in the batch, how many were drawn (`matches_drawn`), and
            the diagnostics of the embedding.

        Raises:
            ValueError: the batch holds no second view or no matches.
        """
        second = batch.second
        if second is None or second.match is None:
            raise ValueError("PointContrast learns from two views and their matches (see PointContrast.needs)")
        known = second.host.match
        assert known is not None
        drawn = sent(draw_matches(known, self.config.matches, batch.generator()), second.match.device)
        with self.stage("backbone"):
            k = take_rows(self.embed(batch.cloud).of_voxels(), drawn[:, 0])
            q = take_rows(self.embed(second.cloud).of_voxels(), drawn[:, 1])
        with self.stage("loss"):
            loss = info_nce(k, q, self.config.temperature)
            counts = {"matches": len(second.match), "matches_drawn": len(drawn)}
            logged = {name: torch.tensor(float(count)) for name, count in counts.items()}
            taught = self.learned_from("matches of two views", len(drawn), least=2)
            return {"loss": loss} | logged | self.diagnostics(k, q) | taught
