"""Which of many scored boxes are kept: those over a threshold, the best of them, and of boxes that overlap one."""

from __future__ import annotations

from pydantic import Field, PositiveInt
from torch import Tensor

from olivine.config import Config
from olivine.geometry.overlap import nms


class SelectionConfig(Config):
    """How boxes are selected; regardless of class, and by their overlap seen from above."""

    score_threshold: float | None = Field(default=0.1, ge=0, le=1)
    """Boxes of a lower score are dropped; None keeps all."""
    iou_threshold: float = Field(default=0.01, ge=0, le=1)
    """A box that overlaps a better one by more is dropped. 0.01 is published for SECOND, 0.1 for PV-RCNN."""
    candidates: PositiveInt = 4096
    """So many of the best are compared with each other."""
    keep: PositiveInt = 500
    """At most so many are kept."""


def candidates(scores: Tensor, config: SelectionConfig) -> Tensor:
    """The boxes that are worth comparing.

    Args:
        scores: [A] any real numbers.
        config: threshold and number.

    Returns:
        [Q] int64 rows, best first; of equal scores the lower row.
    """
    if config.score_threshold is None:
        return scores.argsort(descending=True, stable=True)[: config.candidates]
    rows = (scores >= config.score_threshold).nonzero()[:, 0]
    return rows[scores[rows].argsort(descending=True, stable=True)[: config.candidates]]


def suppress(boxes: Tensor, scores: Tensor, config: SelectionConfig) -> Tensor:
    """The candidates that overlap no better one.

    Args:
        boxes: [Q, 7] boxes of the candidates.
        scores: [Q] their scores.
        config: overlap and number.

    Returns:
        [K] int64 rows, best first.
    """
    return nms(boxes, scores, config.iou_threshold, most=config.keep)
