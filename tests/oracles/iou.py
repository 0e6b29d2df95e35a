"""Scores of a point labelling from dictionaries of counts, one point at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from fractions import Fraction


def iou_oracle(predictions: Iterable[int], labels: Iterable[int], classes: int) -> dict[int, Fraction | None]:
    """IoU of classes 1…C over the points whose label is not 0; None for a class in neither labels nor predictions."""
    both: Counter[int] = Counter()
    either: Counter[int] = Counter()
    for prediction, label in zip(predictions, labels, strict=True):
        if label == 0:
            continue
        either.update({prediction, label})
        if prediction == label:
            both[label] += 1
    return {c: Fraction(both[c], either[c]) if either[c] else None for c in range(1, classes + 1)}


def accuracy_oracle(predictions: Iterable[int], labels: Iterable[int]) -> Fraction:
    """Share of the labelled points that are predicted right."""
    hits = [prediction == label for prediction, label in zip(predictions, labels, strict=True) if label != 0]
    return Fraction(sum(hits), len(hits))


def frequency_weighted_iou_oracle(predictions: list[int], labels: list[int], classes: int) -> Fraction:
    """Mean over the labelled points of the IoU of their class."""
    iou = iou_oracle(predictions, labels, classes)
    values = [iou[label] for label in labels if label != 0]
    return sum((value for value in values if value is not None), Fraction(0)) / len(values)
