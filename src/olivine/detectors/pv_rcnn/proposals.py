"""The proposals of PV-RCNN (Shi et al., CVPR 2020, arXiv 1912.13192, 3.1): the best boxes of its anchors.

The second stage looks at them again. Every frame has the same number of them. Where the anchors give fewer, boxes of
zeros with the score 0 and the class 1 make it up, and go through the second stage like the others, as published.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from olivine.config import Config
from olivine.detectors.parts.anchor_detector import check_scores
from olivine.detectors.parts.selection import SuppressionConfig, best, suppress
from olivine.host import waiting

_FILLED_LABEL = 1


class TrainingProposals(SuppressionConfig):
    """How proposals are selected in training, regardless of class and without a threshold of scores."""

    iou_threshold: float = Field(default=0.8, ge=0, le=1)
    """A proposal that overlaps a better one by more is dropped."""
    candidates: PositiveInt = 9000
    """So many of the best boxes are compared with each other."""
    keep: PositiveInt = 512
    """So many proposals a frame."""


class EvaluationProposals(SuppressionConfig):
    """How proposals are selected in evaluation, regardless of class and without a threshold of scores."""

    iou_threshold: float = Field(default=0.7, ge=0, le=1)
    """A proposal that overlaps a better one by more is dropped."""
    candidates: PositiveInt = 1024
    """So many of the best boxes are compared with each other."""
    keep: PositiveInt = 100
    """So many proposals a frame."""


class ProposalConfig(Config):
    """Which boxes become proposals; the defaults are the published ones."""

    training: TrainingProposals = TrainingProposals()
    """In training, before some of them are drawn to learn from."""
    evaluation: EvaluationProposals = EvaluationProposals()
    """In evaluation."""


@dataclass(frozen=True)
class Proposals:
    """As many proposals in every frame of a batch, without gradients. B frames, R proposals a frame.

    Attributes:
        boxes: [B, R, 7] float (x, y, z, dx, dy, dz, yaw) in the frame of the cloud, metres and radians; zeros where
            a frame has fewer.
        scores: [B, R] float logit of the class.
        labels: [B, R] int64 class 1…C.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def drawn(self, rows: Tensor) -> Proposals:
        """The proposals in rows [B, S] int64 of each frame, S a frame."""
        boxes = self.boxes.gather(1, rows[..., None].expand(-1, -1, self.boxes.shape[2]))
        return Proposals(boxes, self.scores.gather(1, rows), self.labels.gather(1, rows))


@torch.no_grad()
def propose(class_logits: Tensor, decoded: Callable[[int, Tensor], Tensor], config: SuppressionConfig) -> Proposals:
    """The proposals of a batch.

    Args:
        class_logits: [B, A, C] logits of all anchors.
        decoded: gives the boxes [Q, 7] of anchors [Q] int64 of a frame.
        config: how they are selected.

    Returns:
        `config.keep` proposals a frame, best first.

    Raises:
        UserError: a logit, or a box that is compared, is not finite.
    """
    with waiting("the boxes that are proposed", class_logits.device):
        return _proposed(class_logits, decoded, config)


def _proposed(class_logits: Tensor, decoded: Callable[[int, Tensor], Tensor], config: SuppressionConfig) -> Proposals:
    logits, labels = class_logits.max(dim=2)
    check_scores(logits)
    frames, keep = len(logits), config.keep
    filled = Proposals(
        boxes=logits.new_zeros(frames, keep, 7),
        scores=logits.new_zeros(frames, keep),
        labels=torch.full((frames, keep), _FILLED_LABEL, device=logits.device),
    )
    for frame in range(frames):
        rows = best(logits[frame], config.candidates)
        boxes = decoded(frame, rows)
        kept = suppress(boxes, logits[frame, rows], config)
        filled.boxes[frame, : len(kept)] = boxes[kept]
        filled.scores[frame, : len(kept)] = logits[frame, rows[kept]]
        filled.labels[frame, : len(kept)] = labels[frame, rows[kept]] + 1
    return filled
