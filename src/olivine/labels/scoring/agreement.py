"""What counts of (true class, mask class) say about weak labels: shares, tables, JSON.

Pixels that nobody claims (unknown) are read in two ways, given side by side: *where labelled* leaves their pairs out,
*strict* keeps them as mistakes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CONFUSIONS = 10


@dataclass(frozen=True)
class Reading:
    """What a confusion matrix says under one reading of unknown pixels, as fractions of 1. C merged classes.

    Attributes:
        points: [C] int64 pairs of each true class that count.
        iou: [C] intersection over union; nan for a class without points, whatever the masks say.
        recall: [C] share of the pairs of a true class whose pixel says so; nan where there are none.
        miou: mean of `iou` over the classes with points, the same in both readings; nan without any.
        accuracy: share of all pairs whose pixel is right; nan without pairs.
    """

    points: NDArray[np.int64]
    iou: NDArray[np.float64]
    recall: NDArray[np.float64]
    miou: float
    accuracy: float


@dataclass(frozen=True)
class Confusion:
    """One kind of mistake.

    Attributes:
        truth: merged class of the points.
        mask: merged class of the pixels, or `other`.
        pairs: how many.
        share: their share of the pairs of `truth` with a labelled pixel.
    """

    truth: str
    mask: str
    pairs: int
    share: float


@dataclass(frozen=True)
class Score:
    """How masks agree with points. C merged classes.

    Attributes:
        classes: [C] merged classes.
        confusion: [C, C + 2] int64 pairs by true class (row) and mask class (column); column C is a mask class that
            is none of the merged ones, column C + 1 is unknown.
        counts: [point classes + 1, mask classes + 1] int64 pairs before merging; row 0 are ignored points, the last
            column is unknown.
        point_classes: names of the rows of `counts` after the first.
        mask_classes: names of the columns of `counts` before the last.
        about: what was scored, and how: data, split, filters, frames, labeller, mapping, version.
    """

    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    counts: NDArray[np.int64] = field(repr=False)
    point_classes: tuple[str, ...]
    mask_classes: tuple[str, ...]
    about: dict[str, Any] = field(repr=False)

    @property
    def where_labelled(self) -> Reading:
        """The reading that leaves pairs on unknown pixels out."""
        return _reading(self.confusion[:, :-1], self._occurs)

    @property
    def unknown_counts_as_wrong(self) -> Reading:
        """The stricter reading: a pair on an unknown pixel is a mistake."""
        return _reading(self.confusion, self._occurs)

    @property
    def _occurs(self) -> NDArray[np.bool_]:
        """[C] whether any point has the class, on a labelled pixel or not: what all labellers are scored over."""
        return np.asarray(self.confusion.sum(1) > 0)

    @property
    def precision(self) -> NDArray[np.float64]:
        """[C] share of the pairs on a class's pixels whose point has it, the same in both readings; nan without any."""
        return _shares(_right(self.confusion), self.confusion[:, : len(self.classes)].sum(0))

    @property
    def coverage(self) -> float:
        """Share of the pairs whose pixel is not unknown; nan without pairs."""
        return float(_shares(self.confusion[:, :-1].sum(), self.confusion.sum()))

    @property
    def class_coverage(self) -> NDArray[np.float64]:
        """[C] the same for each true class."""
        return _shares(self.confusion[:, :-1].sum(1), self.confusion.sum(1))

    def largest_confusions(self, count: int = _CONFUSIONS) -> list[Confusion]:
        """The mistakes with the most pairs, most first; unknown pixels are no mistake here."""
        labelled = self.confusion[:, :-1]
        mistakes = labelled.copy()
        np.fill_diagonal(mistakes, 0)
        names, columns = (*self.classes, "other"), labelled.shape[1]
        share = mistakes / np.maximum(labelled.sum(1, keepdims=True), 1)
        largest = np.argsort(-mistakes, axis=None, kind="stable")[:count]
        places = [divmod(place, columns) for place in largest.tolist()]
        return [
            Confusion(self.classes[row], names[column], int(mistakes[row, column]), float(share[row, column]))
            for row, column in places
            if mistakes[row, column]
        ]

    def as_json(self) -> dict[str, Any]:
        """Everything in percent and counts, ready for `json.dumps`: nan becomes None."""
        return {
            "unit": "percent",
            "where_labelled": self._percentages(self.where_labelled),
            "unknown_counts_as_wrong": self._percentages(self.unknown_counts_as_wrong),
            "coverage": _percent(self.coverage),
            "class_coverage": self._by_class(self.class_coverage),
            "precision": self._by_class(self.precision),
            "pairs": dict(zip(self.classes, self.confusion.sum(1).tolist(), strict=True)),
            "largest_confusions": [
                {"truth": each.truth, "mask": each.mask, "pairs": each.pairs, "share": _percent(each.share)}
                for each in self.largest_confusions()
            ],
            "confusion": {
                "rows_true": list(self.classes),
                "columns_mask": [*self.classes, "other", "unknown"],
                "counts": self.confusion.tolist(),
            },
            "before_merging": {
                "rows_true": ["ignored", *self.point_classes],
                "columns_mask": [*self.mask_classes, "unknown"],
                "counts": self.counts.tolist(),
            },
            "about": self.about,
        }

    def _percentages(self, reading: Reading) -> dict[str, Any]:
        return {
            "accuracy": _percent(reading.accuracy),
            "miou": _percent(reading.miou),
            "miou_classes": [
                name for name, value in zip(self.classes, reading.iou, strict=True) if not np.isnan(value)
            ],
            "iou": self._by_class(reading.iou),
            "recall": self._by_class(reading.recall),
        }

    def _by_class(self, values: NDArray[np.float64]) -> dict[str, float | None]:
        return {name: _percent(value) for name, value in zip(self.classes, values.tolist(), strict=True)}


def format_score(score: Score) -> str:
    """The score for people: a table of the merged classes, the summaries, and the largest confusions."""
    about = score.about
    return "\n".join(
        [
            f"{about['labeller']}, scored by the labelled points of {about['dataset']}",
            f"{about['frames']} frames, {int(score.confusion.sum()):,} point-pixel pairs, mapping "
            f"{about['mapping']['name']}, {_filter_text(about['occlusion_m'])}",
            "",
            *_class_lines(score),
            "",
            "where labelled: pairs whose pixel is unknown are left out",
            "strict: pairs whose pixel is unknown count as wrong",
            "coverage: share of the pairs whose pixel is not unknown",
            "",
            *_confusion_lines(score),
        ]
    )


def _filter_text(occlusion_m: float | None) -> str:
    return "hidden points kept" if occlusion_m is None else f"points hidden by more than {occlusion_m:g} m left out"


def _class_lines(score: Score) -> list[str]:
    """The table: one line per merged class, then the summaries under the column they belong to."""
    labelled, strict = score.where_labelled, score.unknown_counts_as_wrong
    width = max(len(name) for name in (*score.classes, "accuracy"))
    heads = ("IoU", "precision", "recall", "strict IoU", "strict recall", "coverage")
    columns = (labelled.iou, score.precision, labelled.recall, strict.iou, strict.recall, score.class_coverage)
    lines = [f"{'%':<{width}}  {'  '.join(f'{head:>9}' for head in heads)}  {'pairs':>12}"]
    for row, name in enumerate(score.classes):
        cells = "  ".join(_cell(column[row], len(head)) for column, head in zip(columns, heads, strict=True))
        lines.append(f"{name:<{width}}  {cells}  {int(score.confusion[row].sum()):>12,}")
    lines.append("-" * len(lines[0]))
    for name, reading, also in (
        ("accuracy", labelled.accuracy, strict.accuracy),
        ("mIoU", labelled.miou, strict.miou),
    ):
        lines.append(f"{name:<{width}}  {_cell(reading)} where labelled, {_cell(also)} strict")
    counted = int(np.count_nonzero(~np.isnan(strict.iou)))
    lines[-1] += f" (mean over the {counted} classes that points have)"
    return [*lines, f"{'coverage':<{width}}  {_cell(score.coverage)}"]


def _confusion_lines(score: Score) -> list[str]:
    confusions = score.largest_confusions()
    if not confusions:
        return ["no confusions"]
    wide = max(len(f"{each.truth} → {each.mask}") for each in confusions)
    return ["largest confusions (points → mask), with their share of the points' labelled pairs:"] + [
        f"  {f'{each.truth} → {each.mask}':<{wide}}  {each.pairs:>12,}  {100 * each.share:5.1f} %"
        for each in confusions
    ]


def _reading(counted: NDArray[np.int64], occurs: NDArray[np.bool_]) -> Reading:
    """The scores of a confusion matrix [C, ≥ C] whose every column counts, over the classes [C] that occur.

    A class that occurs, but on unknown pixels alone, has nothing to count in the reading that leaves those out: it
    scores 0 rather than leaving the mean, since the masks never found it.
    """
    right, points = _right(counted), counted.sum(1)
    union = points + counted[:, : len(counted)].sum(0) - right
    iou = np.where(occurs, right / np.maximum(union, 1), np.nan)
    return Reading(
        points=points,
        iou=iou,
        recall=_shares(right, points),
        miou=float(_shares(iou[occurs].sum(), np.count_nonzero(occurs))),
        accuracy=float(_shares(right.sum(), points.sum())),
    )


def _right(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.diagonal(counts)


def _shares(part: Any, whole: Any) -> NDArray[np.float64]:
    """`part / whole`, nan where there is nothing to share."""
    return np.where(np.equal(whole, 0), np.nan, part / np.maximum(whole, 1))


def _percent(value: float) -> float | None:
    return None if np.isnan(value) else 100.0 * float(value)


def _cell(value: float, width: int = 9) -> str:
    width = max(width, 9)
    return f"{'–':>{width}}" if np.isnan(value) else f"{100 * value:{width}.2f}"
