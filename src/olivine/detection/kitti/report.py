"""KITTI's scores as parts of a report: tables, and curves of precision over recall."""

from __future__ import annotations

from collections.abc import Sequence

from olivine.detection.kitti.rules import DIFFICULTIES, OVERLAPS, Metric, Overlaps
from olivine.detection.kitti.scores import KittiScores, percent
from olivine.drawing.precision_recall import precision_recall
from olivine.drawing.report import Picture, Section

_SHOWS: dict[Metric, str] = {
    "3d": "boxes in space",
    "bev": "boxes from above",
    "bbox": "boxes in the image",
    "aos": "boxes in the image, weighted by their headings",
}


def draw_curves(scores: KittiScores, metric: Metric = "3d", overlaps: Overlaps = "strict") -> bytes:
    """A PNG of a metric's curves: a panel per class, a curve per difficulty with its average precision.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    average = scores.ap(metric)[:, :, OVERLAPS.index(overlaps)]
    panels = {
        name: {
            f"{level.name} {percent(average[row, column], 1)}": scores.curve(metric, name, level.name, overlaps)
            for column, level in enumerate(DIFFICULTIES)
        }
        for row, name in enumerate(scores.classes)
    }
    return precision_recall(panels, f"{_SHOWS[metric]}, {overlaps} overlaps; beside each curve its AP R40 in %")


def sections(scores: KittiScores, metrics: Sequence[Metric] = ("3d", "bev")) -> list[Section]:
    """The scores for a report: what they are, both tables, and the curves of some metrics.

    Args:
        scores: of one set of detections.
        metrics: whose curves are drawn, at strict overlaps.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    curves = [
        Picture(draw_curves(scores, metric), f"Precision over recall of {_SHOWS[metric]}, strict overlaps")
        for metric in metrics
    ]
    said = (
        "Average precision in % by KITTI's rules. R40 is the mean over 40 recall points, R11 over 11; the two are not "
        "to be compared with each other. –: nothing to score."
    )
    return [
        Section("KITTI's average precision", text=(scores.headline(), said), table=scores.rows("strict")),
        Section("At loose overlaps", text=("In the image nothing changes.",), table=scores.rows("loose")),
        Section("Objects that count", table=scores.count_rows()),
        Section("Precision over recall", pictures=curves, wide=True),
    ]
