"""Scores of weak labels, one point at a time and by names instead of indices: slow, and independent of the package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from oracles.projection import slow_pairs

UNKNOWN, OTHER = "(unknown)", "(other)"


def slow_observations(
    frames: Iterable[tuple[Any, Sequence[int], list[Any]]],
    mask_classes: Sequence[str],
    point_classes: Sequence[str],
    masks: dict[str, str | None],
    points: dict[str, str | None],
    min_depth_m: float = 1.0,
    border_px: float = 1.0,
) -> list[tuple[str, str]]:
    """(true merged class, merged class of the pixel) of every pair that counts.

    `frames` are (points_lidar_m, labels, cameras as `slow_pairs` takes them).
    """
    seen = []
    for cloud, labels, cameras in frames:
        for row, _camera, _u, _v, value in slow_pairs(cloud, cameras, min_depth_m, border_px):
            truth = None if labels[row] == 0 else points[point_classes[labels[row] - 1]]
            if truth is not None:
                said = UNKNOWN if value == 255 else masks[mask_classes[value]]
                seen.append((truth, OTHER if said is None else said))
    return seen


def slow_scores(seen: list[tuple[str, str]], classes: Sequence[str], *, strict: bool) -> dict[str, Any]:
    """IoU, precision and recall per class (None where undefined), accuracy and mIoU, by set sizes."""
    kept = [pair for pair in seen if strict or pair[1] != UNKNOWN]
    scores: dict[str, Any] = {"iou": {}, "precision": {}, "recall": {}}
    for name in classes:
        are = {number for number, (truth, _) in enumerate(kept) if truth == name}
        said = {number for number, (_, answer) in enumerate(kept) if answer == name}
        occurs = any(truth == name for truth, _ in seen)
        scores["iou"][name] = (share(len(are & said), len(are | said)) or 0.0) if occurs else None
        scores["precision"][name] = share(len(are & said), len(said))
        scores["recall"][name] = share(len(are & said), len(are))
    present = [value for value in scores["iou"].values() if value is not None]
    scores["miou"] = share(sum(present), len(present))
    scores["accuracy"] = share(sum(truth == answer for truth, answer in kept), len(kept))
    return scores


def slow_coverage(seen: list[tuple[str, str]]) -> float | None:
    """Share of the observations whose pixel is not unknown."""
    return share(sum(answer != UNKNOWN for _, answer in seen), len(seen))


def share(part: float, whole: float) -> float | None:
    """`part / whole`, or None where there is nothing to share."""
    return part / whole if whole else None
