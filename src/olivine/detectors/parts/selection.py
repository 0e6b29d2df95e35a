"""Which of many scored boxes are kept: those over a threshold, the best of them, and of boxes that overlap one."""

from __future__ import annotations

from pydantic import Field, PositiveInt
from torch import Tensor

from olivine.config import Config
from olivine.errors import UserError
from olivine.geometry.overlap import nms


class SuppressionConfig(Config):
    """Which of boxes that overlap are kept; regardless of class, and by their overlap seen from above."""

    iou_threshold: float = Field(ge=0, le=1)
    """A box that overlaps a better one by more is dropped."""
    candidates: PositiveInt
    """So many of the best are compared with each other."""
    keep: PositiveInt
    """At most so many are kept."""


class SelectionConfig(SuppressionConfig):
    """How boxes are selected; regardless of class, and by their overlap seen from above."""

    score_threshold: float | None = Field(default=0.1, ge=0, le=1)
    """Boxes of a lower score are dropped; None keeps all."""
    iou_threshold: float = Field(default=0.01, ge=0, le=1)
    """A box that overlaps a better one by more is dropped. 0.01 is published for SECOND, 0.1 for PV-RCNN."""
    candidates: PositiveInt = 4096
    """So many of the best are compared with each other."""
    keep: PositiveInt = 500
    """At most so many are kept."""


def best(scores: Tensor, count: int) -> Tensor:
    """The rows of the highest scores.

    Args:
        scores: [A] any real numbers.
        count: how many at most.

    Returns:
        [min(A, count)] int64 rows, best first; of equal scores the lower row.
    """
    if count >= len(scores):
        return scores.argsort(descending=True, stable=True)
    least = scores.topk(count, sorted=False).values.min()  # that much is found without sorting all
    rows = (scores >= least).nonzero()[:, 0]
    return rows[scores[rows].argsort(descending=True, stable=True)[:count]]


def candidates(scores: Tensor, config: SelectionConfig) -> Tensor:
    """The boxes that are worth comparing.

    Args:
        scores: [A] any real numbers.
        config: threshold and number.

    Returns:
        [Q] int64 rows, best first; of equal scores the lower row.
    """
    if config.score_threshold is None:
        return best(scores, config.candidates)
    rows = (scores >= config.score_threshold).nonzero()[:, 0]
    return rows[best(scores[rows], config.candidates)]


def suppress(boxes: Tensor, scores: Tensor, config: SuppressionConfig) -> Tensor:
    """The candidates that overlap no better one.

    Args:
        boxes: [Q, 7] boxes of the candidates.
        scores: [Q] their scores.
        config: overlap and number.

    Returns:
        [K] int64 rows, best first.

    Raises:
        UserError: a box is not finite, which codes that overflow give where scores are still numbers.
    """
    if not bool(boxes.isfinite().all()):
        raise UserError("boxes are not finite; the network's weights are damaged, or its training diverged")
    return nms(boxes, scores, config.iou_threshold, most=config.keep)
