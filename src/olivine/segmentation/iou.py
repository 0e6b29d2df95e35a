"""Scores of a segmentation: a confusion matrix filled cloud by cloud, and what is read off it.

Counts are int64, so they stay exact on any number of points, and the matrix is all that is kept of a validation
set. Points labelled 0 are not counted. A point without a prediction (0) counts as wrong for its class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from olivine.data.labels import IGNORED
from olivine.errors import UserError


@dataclass(frozen=True)
class SegmentationScores:
    """What a confusion matrix says, as fractions of 1. C classes.

    Attributes:
        names: [C] class names.
        points: [C] int64 labelled points of each class.
        iou: [C] float64 intersection over union; nan for a class in neither labels nor predictions, or 1 under
            `reference_compatible`.
        miou: mean of `iou` over the classes that have one; nan where none has.
        accuracy: share of the labelled points predicted right; nan without labelled points.
        frequency_weighted_iou: mean of `iou` weighted by `points`; nan likewise.
        reference_compatible: whether absent classes were scored 1.
    """

    names: tuple[str, ...]
    points: NDArray[np.int64]
    iou: NDArray[np.float64]
    miou: float
    accuracy: float
    frequency_weighted_iou: float
    reference_compatible: bool

    def as_dict(self) -> dict[str, Any]:
        """The scores in percent, ready for JSON: nan becomes None."""
        return {
            "unit": "percent",
            "miou": _percent(self.miou),
            "accuracy": _percent(self.accuracy),
            "frequency_weighted_iou": _percent(self.frequency_weighted_iou),
            "iou": {name: _percent(value) for name, value in zip(self.names, self.iou, strict=True)},
            "points": dict(zip(self.names, self.points.tolist(), strict=True)),
            "reference_compatible": self.reference_compatible,
        }

    def table(self) -> str:
        """The scores as a text table, one class per line, IoU in percent, a dash where a class is absent."""
        width = max(len(name) for name in (*self.names, "class"))
        lines = [f"{'class':<{width}}  {'IoU %':>6}  {'points':>12}"]
        for name, value, points in zip(self.names, self.iou, self.points, strict=True):
            lines.append(f"{name:<{width}}  {_cell(value)}  {points:>12,}")
        lines.append("-" * len(lines[0]))
        summary = (("mIoU", self.miou), ("fw IoU", self.frequency_weighted_iou), ("accuracy", self.accuracy))
        lines += [f"{name:<{width}}  {_cell(value)}" for name, value in summary]
        if self.reference_compatible:
            lines.append("absent classes are scored 100 (reference-compatible)")
        return "\n".join(lines)


class ConfusionMatrix:
    """Counts of (true class, predicted class) over points.

    Attributes:
        counts: [C, C + 1] int64 on the CPU; row `c - 1` holds the points labelled `c`, column `p` those predicted
            `p`, column 0 those without a prediction.

    Args:
        classes: number of classes C, not counting the ignored one.
    """

    def __init__(self, classes: int) -> None:
        self.counts = torch.zeros(classes, classes + 1, dtype=torch.int64)

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Count the points of one or more clouds.

        Args:
            predictions: [N] predicted class 1…C, 0 where there is none; any integer type, any device.
            labels: [N] true class 1…C, 0 ignored; any integer type, same device.

        Raises:
            UserError: the two differ in length, or a value lies outside 0…C.
        """
        classes = len(self.counts)
        if predictions.shape != labels.shape:
            raise UserError(
                f"{len(predictions)} predictions for {len(labels)} labels; a score needs one for each point"
            )
        counted = labels != IGNORED
        truth, predicted = labels[counted].long(), predictions[counted].long()
        for what, values in (("label", truth), ("prediction", predicted)):
            if len(values) and not 0 <= int(values.min()) <= int(values.max()) <= classes:
                raise UserError(f"a {what} lies outside 0…{classes}: {int(values.min())}…{int(values.max())}")
        cells = torch.bincount((truth - 1) * (classes + 1) + predicted, minlength=self.counts.numel())
        self.counts += cells.view(self.counts.shape).cpu()

    def all_reduce(self) -> None:
        """Add up the counts of all processes, in place; nothing to do in a single process."""
        if not (dist.is_available() and dist.is_initialized()):
            return
        # NCCL moves tensors of the GPU only.
        device = "cuda" if dist.get_backend() == dist.Backend.NCCL else "cpu"
        counts = self.counts.to(device)
        dist.all_reduce(counts)
        self.counts = counts.cpu()

    def scores(self, names: tuple[str, ...], *, reference_compatible: bool = False) -> SegmentationScores:
        """Per-class IoU and its summaries.

        Args:
            names: [C] class names.
            reference_compatible: score a class absent from labels and predictions as 1 and count it in the mean, as
                published results of this line of work do, instead of leaving it out.
        """
        counts = self.counts.numpy()
        right = np.diagonal(counts[:, 1:])
        points = counts.sum(1)
        union = points + counts[:, 1:].sum(0) - right
        absent = union == 0
        iou = np.where(absent, 1.0 if reference_compatible else np.nan, right / np.maximum(union, 1))
        return SegmentationScores(
            names=names,
            points=points,
            iou=iou,
            miou=_ratio(np.nansum(iou), float(np.count_nonzero(~np.isnan(iou)))),
            accuracy=_ratio(right.sum(), points.sum()),
            frequency_weighted_iou=_ratio((points * np.nan_to_num(iou)).sum(), points.sum()),
            reference_compatible=reference_compatible,
        )


def _ratio(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else float("nan")


def _percent(value: float) -> float | None:
    return None if np.isnan(value) else 100.0 * float(value)


def _cell(value: float) -> str:
    return f"{'–':>6}" if np.isnan(value) else f"{100 * value:6.2f}"
