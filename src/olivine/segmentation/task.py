"""What the training loop trains downstream: a backbone and a linear head that gives class scores per voxel.

The loop knows a task by `forward(batch)` and `parameter_groups`; evaluation by `predict(batch)`.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from olivine.backbones import Backbone, Embedding, Head
from olivine.data.batch import Batch
from olivine.data.labels import IGNORED
from olivine.engine.config import AdamWConfig, SGDConfig
from olivine.engine.taught import LEARNED_FROM
from olivine.errors import UserError
from olivine.host import waiting
from olivine.segmentation.losses import cross_entropy, lovasz_softmax

Mode = Literal["finetune", "probe"]


class SegmentationTask(nn.Module):
    """Voxel-wise classification with cross-entropy and Lovász-softmax.

    Args:
        backbone: the network.
        head: maps its features to C scores, column `c - 1` for class `c`.
        mode: `"finetune"` trains everything; `"probe"` trains the head alone, on features of a network that stays
            frozen and in evaluation mode.
        cross_entropy_weight: weight of the cross-entropy in the loss.
        lovasz_weight: weight of the Lovász-softmax.
        source: what the network is called where its predictions are of no use.

    Attributes:
        backbone: the network.
        head: its head.
        mode: see above.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        *,
        mode: Mode = "finetune",
        cross_entropy_weight: float = 1.0,
        lovasz_weight: float = 1.0,
        source: str = "the network",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.mode = mode
        self._source = source
        self._weights = (cross_entropy_weight, lovasz_weight)
        if mode == "probe":
            backbone.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> SegmentationTask:
        """Switch to training; a probed backbone stays in evaluation mode."""
        super().train(mode)
        if self.mode == "probe":
            self.backbone.eval()
        return self

    def logits(self, batch: Batch) -> Tensor:
        """Class scores of every voxel, [V, C]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.mode == "finetune"):
            embedding: Embedding = self.backbone(batch.cloud)
        return embedding.project(self.head).of_voxels()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch.

        Returns:
            `loss`, the weighted sum, its parts `loss_ce` and `loss_lovasz`, detached, and how many voxels have a label
            (see `olivine.engine.taught.LEARNED_FROM`).

        Raises:
            UserError: the batch carries no labels.
        """
        labels = batch.cloud.voxel_labels
        if labels is None:
            raise UserError(f"{batch.tokens[0]}: no labels; segmentation trains on a labelled split only")
        logits = self.logits(batch).float()
        loss_ce = cross_entropy(logits, labels)
        known = batch.cloud.host.voxel_labels
        assert known is not None
        loss_lovasz = lovasz_softmax(logits.softmax(1), known)
        loss = self._weights[0] * loss_ce + self._weights[1] * loss_lovasz
        losses = {"loss": loss, "loss_ce": loss_ce.detach(), "loss_lovasz": loss_lovasz.detach()}
        return {**losses, LEARNED_FROM + "labelled voxels": (known != IGNORED).sum().float()}

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """The predicted class of every point.

        Every point takes the class of its voxel. A point outside the grid was never seen by the network: it gets 0,
        no prediction, which scores as wrong.

        Args:
            batch: clouds, labelled or not.

        Returns:
            [N] uint8 class 1…C, or 0 outside the grid, in the order of `batch.cloud.points_m`.

        Raises:
            UserError: a score is not finite, of which the largest would be the first class everywhere.
        """
        logits = self.logits(batch)
        with waiting("whether class scores are finite", logits.device):
            finite = bool(logits.isfinite().all())
        if not finite:
            raise UserError(
                f"{self._source}: class scores in frame {batch.tokens[0]} are not finite; its weights are damaged, or "
                "its training diverged"
            )
        per_voxel = logits.argmax(1).to(torch.uint8) + 1
        # Row 0 stands for "outside", so that -1 needs no special case.
        return torch.cat((per_voxel.new_zeros(1), per_voxel))[batch.cloud.point_voxel + 1]

    def set_progress(self, step: int, total_steps: int) -> None:
        """Told by the loop how far it is; nothing here depends on it."""

    def parameter_groups(self, optimizer: SGDConfig | AdamWConfig) -> list[dict[str, Any]]:
        """Trained parameters with their learning rates: the network's body, then its head; the head alone in a probe.

        Args:
            optimizer: `lr` is the rate of the body, `head_lr` that of the head (`lr` where it is None).
        """
        body = [parameter for parameter in self.backbone.parameters() if parameter.requires_grad]
        head_lr = optimizer.lr if optimizer.head_lr is None else optimizer.head_lr
        groups = [{"params": body, "lr": optimizer.lr}, {"params": list(self.head.parameters()), "lr": head_lr}]
        return [group for group in groups if group["params"]]
