"""STRL: spatio-temporal self-supervised representation learning (Huang et al., arXiv 2109.00179).

Two frames that follow one another show the same scene from elsewhere and a moment later. From each, the online network
predicts what a slowly moving copy of itself, the target network, makes of the other (BYOL, arXiv 2006.07733). There
are no negatives.

    frame t ── backbone ── max pool ── projector ── predictor ─┐
    frame t′ ─ its copy ── max pool ── its copy ───────────────┴─ 2 − 2 cos,   and the same with t and t′ exchanged
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from olivine.backbones import Backbone, BackboneConfig, Embedder, Embedding
from olivine.config import Config
from olivine.data.batch import Batch, Cloud
from olivine.data.needs import Inputs, Needs
from olivine.errors import OlivineWarning
from olivine.host import waiting
from olivine.methods.base import Method
from olivine.methods.parts.momentum import MomentumCopy, cosine_momentum
from olivine.methods.parts.pooling import pool_frames
from olivine.methods.strl.losses import regression_loss
from olivine.points.layers import mlp


class StrlConfig(Config):
    """Spatio-temporal representation learning: BYOL between neighbouring frames."""

    name: Literal["strl"] = "strl"
    """Chooses this method."""
    feature_dim: int = Field(default=256, ge=2)
    """Size of the features that are pooled over a frame."""
    hidden_dim: PositiveInt = 4096
    """Hidden layer of projector and predictor."""
    projection_dim: int = Field(default=256, ge=2)
    """Size of the projections that are compared."""
    momentum: float = Field(default=0.996, ge=0, le=1)
    """How much of itself the target network keeps per step, at the start; it rises to 1 along a cosine."""
    batch_norm: bool = True
    """Normalise hidden layers over the frames of a process's batch, which needs more than one frame there."""

    def build(self, backbone: BackboneConfig, inputs: Inputs) -> Strl:
        """The method around a fresh backbone.

        Args:
            backbone: which 3-D network to train.
            inputs: what its input is.
        """
        return Strl(self, backbone.build(inputs))


class Strl(Method):
    """The method.

    The target network follows the online one once after every optimizer step, when `set_progress` tells that it was
    done; `target_step` says up to which step it has followed.

    Args:
        config: the settings.
        backbone: the network that is trained.

    Attributes:
        projector: makes a projection of a frame's pooled features.
        predictor: makes the projection of the other view of it.
        target_backbone: the slow copy of the backbone and its head.
        target_projector: the slow copy of the projector.
        target_step: int64, the step up to which the copies have followed.
    """

    target_step: Tensor

    def __init__(self, config: StrlConfig, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.needs = Needs(second="frame")
        self.backbone = backbone
        self.heads = nn.ModuleDict({"point": backbone.pretraining_head(config.feature_dim)})
        hidden, size, norm = config.hidden_dim, config.projection_dim, config.batch_norm
        self.projector = mlp([config.feature_dim, hidden, size], batch_norm=norm)
        self.predictor = mlp([size, hidden, size], batch_norm=norm)
        self.target_backbone, self.target_projector = MomentumCopy(self._online()), MomentumCopy(self.projector)
        self.register_buffer("target_step", torch.zeros((), dtype=torch.int64))
        self._done: int | None = 0  # what `target_step` says, for the host

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._done = None

    def set_progress(self, step: int, total_steps: int) -> None:
        """Told before each optimizer step: `step` are done of `total_steps`; the target network catches up with them.

        Saying the same step twice moves it once, so that a restored run goes on where it was saved.
        """
        if self._done is None:
            with waiting("where a restored run stands", self.target_step.device):
                self._done = int(self.target_step)
        if step <= self._done:
            return
        self._done = step
        momentum = cosine_momentum(self.config.momentum, step, total_steps)
        self.target_backbone.update(self._online(), momentum)
        self.target_projector.update(self.projector, momentum)
        self.target_step.fill_(step)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch.

        Args:
            batch: with a second view; where that shows another frame and how far off, the method does not ask.

        Returns:
            `loss`, the sum of both directions (0…8, 4 for unrelated features), and the diagnostics of the predictions
            against their targets (see `olivine.methods.parts.diagnostics`), which tell a collapse.

        Raises:
            ValueError: the batch holds no second view.

        Warns (`OlivineWarning`): with batch norm and a single frame, which has nothing to be normalised over.
        """
        if batch.second is None:
            raise ValueError("STRL learns from two frames, and the batch holds no second view (see Strl.needs)")
        if self.config.batch_norm and self.training and len(batch) < 2:
            warnings.warn(
                "method.batch_norm normalises over the frames that a process has at a time, and this is one frame; "
                "raise train.batch_size, or set method.batch_norm=false",
                OlivineWarning,
                stacklevel=2,
            )
        views = (batch.cloud, batch.second.cloud)
        with self.stage("target"):
            first, second = (self.target_projector(_pooled(self.target_backbone(view), view)) for view in views)
        with self.stage("backbone"):
            pooled = [_pooled(self.embed(view), view) for view in views]
        with self.stage("loss"):
            # One view at a time, as published: batch statistics are those of one view.
            of_second, of_first = (self.predictor(self.projector(view)) for view in pooled)
            loss = regression_loss(of_second, second) + regression_loss(of_first, first)
            return {"loss": loss, **self.diagnostics(of_second, second)}

    def _online(self) -> Embedder:
        """The network that is trained as one module, put together anew, since its parts are parts of the method."""
        return Embedder(self.backbone, self.head("point"))


def _pooled(embedding: Embedding, cloud: Cloud) -> Tensor:
    """[B, D] largest feature of each frame, channel by channel."""
    frames = len(cloud.point_offsets) - 1
    return pool_frames(embedding.of_voxels(), cloud.host.coordinates[:, 0].long(), frames, "max")
