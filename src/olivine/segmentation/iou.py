"""Scores of a segmentation: a confusion matrix filled cloud by cloud, and what is read off it.

Counts are int64, so they stay exact on any number of points, and the matrix is all that is kept of a validation
set. Points labelled 0 are not counted. A point without a prediction (0) counts as wrong for its class. The mean is over
the classes that occur in the labels, so that every network scored on the same frames is scored on the same classes.
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

OFFICIAL = ("nuscenes_devkit", "semantickitti_api", "reference_compatible")
"""Names of the rules that every score is also given by."""


@dataclass(frozen=True)
class OfficialScore:
    """What somebody else's rule says of the same confusion matrix, as fractions of 1.

    Attributes:
        miou: mean IoU by that rule; nan where it is over no class.
        classes: how many classes that mean is over.
        frequency_weighted_iou: the second number by that rule, or None where the rule has none.
    """

    miou: float
    classes: int
    frequency_weighted_iou: float | None = None


@dataclass(frozen=True)
class SegmentationScores:
    """What a confusion matrix says, as fractions of 1. C classes.

    Attributes:
        names: [C] class names.
        points: [C] int64 labelled points of each class.
        predicted: [C] int64 labelled points predicted as each class.
        iou: [C] float64 intersection over union; nan for a class without labelled points, predicted or not.
        miou: mean of `iou` over the classes with labelled points, whatever was predicted; nan without any.
        accuracy: share of the labelled points predicted right; nan without labelled points.
        frequency_weighted_iou: mean of `iou` weighted by `points`; nan likewise.
        official: the mean by other rules, by the name of the rule (see `ConfusionMatrix.official`).
        reference_compatible: whether `miou` and `frequency_weighted_iou` are by the rule of that name instead.
    """

    names: tuple[str, ...]
    points: NDArray[np.int64]
    predicted: NDArray[np.int64]
    iou: NDArray[np.float64]
    miou: float
    accuracy: float
    frequency_weighted_iou: float
    official: dict[str, OfficialScore]
    reference_compatible: bool

    @property
    def mean_over(self) -> tuple[str, ...]:
        """Names of the classes that `miou` is the mean over."""
        if self.reference_compatible:
            return self.names
        return tuple(name for name, points in zip(self.names, self.points, strict=True) if points)

    def as_dict(self) -> dict[str, Any]:
        """The scores in percent, ready for JSON: nan becomes None."""
        return {
            "unit": "percent",
            "miou": _percent(self.miou),
            "miou_classes": list(self.mean_over),
            "accuracy": _percent(self.accuracy),
            "frequency_weighted_iou": _percent(self.frequency_weighted_iou),
            "official": {name: _official(score) for name, score in self.official.items()},
            "iou": {name: _percent(value) for name, value in zip(self.names, self.iou, strict=True)},
            "points": dict(zip(self.names, self.points.tolist(), strict=True)),
            "predicted": dict(zip(self.names, self.predicted.tolist(), strict=True)),
            "reference_compatible": self.reference_compatible,
        }

    def table(self) -> str:
        """The scores as a text table, one class per line, IoU in percent, a dash where a class has no labels."""
        width = max(len(name) for name in (*self.names, "class"))
        lines = [f"{'class':<{width}}  {'IoU %':>6}  {'points':>12}  {'predicted':>12}"]
        for name, value, points, predicted in zip(self.names, self.iou, self.points, self.predicted, strict=True):
            lines.append(f"{name:<{width}}  {_cell(value)}  {points:>12,}  {predicted:>12,}")
        lines.append("-" * len(lines[0]))
        summary = (("mIoU", self.miou), ("fw IoU", self.frequency_weighted_iou), ("accuracy", self.accuracy))
        lines += [f"{name:<{width}}  {_cell(value)}" for name, value in summary]
        over = "all classes, 100 for absent ones" if self.reference_compatible else "the classes with labelled points"
        lines.append(f"mIoU is the mean over {over}: {len(self.mean_over)} of {len(self.names)}")
        others = [f"{_cell(score.miou).strip()} ({score.classes})" for score in self.official.values()]
        if set(others) == {f"{_cell(self.miou).strip()} ({len(self.mean_over)})"}:
            lines.append(f"the same by the rules of {', '.join(self.official)}")
        else:
            named = (f"{name} {score}" for name, score in zip(self.official, others, strict=True))
            lines.append(f"by other rules (classes): {', '.join(named)}")
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
        self.seen = torch.zeros(3, dtype=torch.int64)

    def saw(self, points: int, labels: Tensor | None) -> None:
        """Count a frame that was predicted, for `coverage`.

        Args:
            points: how many points it has.
            labels: [N] their classes, 0 ignored; None where the frame has no labels.
        """
        labelled = labels is not None and bool((labels != IGNORED).any())
        self.seen += torch.tensor([1, int(labelled), points])

    def coverage(self) -> dict[str, int]:
        """How much of what was predicted has labels to be scored by: frames and points, of how many."""
        frames, labelled, points = self.seen.tolist()
        return {
            "frames": frames,
            "labelled_frames": labelled,
            "points": points,
            "labelled_points": int(self.counts.sum()),
        }

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
        for name in ("counts", "seen"):
            total = getattr(self, name).to(device)
            dist.all_reduce(total)
            setattr(self, name, total.cpu())

    def scores(self, names: tuple[str, ...], *, reference_compatible: bool = False) -> SegmentationScores:
        """Per-class IoU and its summaries.

        Args:
            names: [C] class names.
            reference_compatible: let `miou` and `frequency_weighted_iou` be those of the published code of this line of
                work (see `official`), instead of the means over the classes that have labelled points.
        """
        right, points, predicted, union = self._sums()
        iou = np.where(points == 0, np.nan, right / np.maximum(union, 1))
        official = self.official()
        miou = _ratio(np.nansum(iou), float(np.count_nonzero(points)))
        weighted = _ratio((points * np.nan_to_num(iou)).sum(), points.sum())
        if reference_compatible:
            published = official["reference_compatible"]
            miou, weighted = published.miou, published.frequency_weighted_iou or 0.0
        return SegmentationScores(
            names=names,
            points=points,
            predicted=predicted,
            iou=iou,
            miou=miou,
            accuracy=_ratio(right.sum(), points.sum()),
            frequency_weighted_iou=weighted,
            official=official,
            reference_compatible=reference_compatible,
        )

    def official(self) -> dict[str, OfficialScore]:
        """The scores by other rules, which differ in what they make of classes without labelled points.

        `nuscenes_devkit`: those that are predicted score 0, the others are left out, so the number of classes depends
        on the predictions (nuscenes-devkit, `eval/lidarseg/utils.py`; it refuses points without a prediction, which
        count as wrong here). `semantickitti_api`: the mean over all C, absent ones 0 (semantic-kitti-api,
        `auxiliary/np_ioueval.py`). `reference_compatible`: the mean over all C, 1 for those neither labelled nor
        predicted; its frequency-weighted IoU is Σ TP / (2 N − Σ TP) (SLidR, `utils/metrics.py`).
        """
        right, points, _, union = self._sums()
        total, hits = int(points.sum()), int(right.sum())
        if total == 0:
            return {name: OfficialScore(float("nan"), 0) for name in OFFICIAL}
        iou, classes = right / np.maximum(union, 1), len(union)
        occurring = int(np.count_nonzero(union))
        weighted = _ratio((points * iou).sum(), total)
        return {
            "nuscenes_devkit": OfficialScore(_ratio(iou.sum(), occurring), occurring, weighted),
            "semantickitti_api": OfficialScore(_ratio(iou.sum(), classes), classes),
            "reference_compatible": OfficialScore(
                _ratio(iou.sum() + classes - occurring, classes), classes, _ratio(hits, 2 * total - hits)
            ),
        }

    def _sums(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """[C] points that are right, labelled, predicted, and either, by class."""
        counts = self.counts.numpy()
        right, points, predicted = np.diagonal(counts[:, 1:]), counts.sum(1), counts[:, 1:].sum(0)
        return right, points, predicted, points + predicted - right


def _official(score: OfficialScore) -> dict[str, Any]:
    content: dict[str, Any] = {"miou": _percent(score.miou), "classes": score.classes}
    if score.frequency_weighted_iou is not None:
        content["frequency_weighted_iou"] = _percent(score.frequency_weighted_iou)
    return content


def _ratio(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else float("nan")


def _percent(value: float) -> float | None:
    return None if np.isnan(value) else 100.0 * float(value)


def _cell(value: float) -> str:
    return f"{'–':>6}" if np.isnan(value) else f"{100 * value:6.2f}"
