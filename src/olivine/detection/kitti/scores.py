"""KITTI's scores of one set of detections: numbers, tables and JSON, each with what it must not be read without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.detection.kitti.rules import (
    DIFFICULTIES,
    METRICS,
    OVERLAPS,
    RECALL_POINTS,
    RECALL_STEPS,
    ClassRule,
    Level,
    Metric,
    Overlaps,
)

_NAMES = ("class", "metric")  # columns of words

_LEVELS: tuple[Level, ...] = tuple(difficulty.name for difficulty in DIFFICULTIES)


@dataclass(frozen=True)
class KittiScores:
    """Average precision by metric, class, difficulty and overlap. Letters: C classes; 3 difficulties; strict, loose.

    Attributes:
        rules: [C] how each class is scored.
        frames: how many were scored.
        split: what they are, e.g. the name of a list; empty where nobody said.
        objects: [C, 3] int64 labelled objects that count.
        detections: [C] int64 detections of the class, whatever their score and height.
        precision: of each metric [C, 3, 2, 41] float64 in 0…1 at recall 0, 1/40, …, 1, monotone. NaN where there is
            nothing to score: no object that counts, detections without a heading (`aos`), none with a box in space
            (`bev`, `3d`).
    """

    rules: tuple[ClassRule, ...]
    frames: int
    split: str
    objects: NDArray[np.int64]
    detections: NDArray[np.int64]
    precision: dict[Metric, NDArray[np.float64]]

    @property
    def classes(self) -> tuple[str, ...]:
        """[C] their names."""
        return tuple(rule.name for rule in self.rules)

    def ap(self, metric: Metric, recall_points: int = 40) -> NDArray[np.float64]:
        """Average precision in percent.

        Args:
            metric: `bbox`, `bev`, `3d` or `aos`.
            recall_points: 40 or 11; the two are not to be compared with each other.

        Returns:
            [C, 3, 2] float64 by class, difficulty (easy, moderate, hard) and overlap (strict, loose); NaN where there
            is nothing to score.
        """
        return np.asarray(100 * self.precision[metric][..., RECALL_POINTS[recall_points]].mean(-1))

    def ceiling(self, recall_points: int = 40) -> NDArray[np.float64]:
        """The highest average precision there can be, in percent.

        Each object that is found gives at most one of the 41 recall steps, and a step that nobody gives counts as 0.
        So a set with fewer than 41 objects cannot score 100, however good the detections; this is the benchmark's own
        rule, which its sets of thousands never meet.

        Returns:
            [C, 3] float64 by class and difficulty; NaN without objects.
        """
        reached = np.arange(RECALL_STEPS) < self.objects[..., None]
        share = 100 * reached[..., RECALL_POINTS[recall_points]].mean(-1)
        return np.where(self.objects > 0, share, np.nan)

    def mean(
        self,
        metric: Metric = "3d",
        recall_points: int = 40,
        difficulty: Level = "moderate",
        overlaps: Overlaps = "strict",
    ) -> float | None:
        """The mean over the classes that have a score, in percent; None where none has one."""
        values = self.ap(metric, recall_points)[:, _LEVELS.index(difficulty), OVERLAPS.index(overlaps)]
        return float(np.nanmean(values)) if np.isfinite(values).any() else None

    def curve(
        self, metric: Metric, name: str, difficulty: Level = "moderate", overlaps: Overlaps = "strict"
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Precision over recall of one class.

        Returns:
            ([41] recall, [41] precision), in 0…1; NaN precision where there is nothing to score.
        """
        place = self.classes.index(name), _LEVELS.index(difficulty), OVERLAPS.index(overlaps)
        return np.arange(RECALL_STEPS) / (RECALL_STEPS - 1), self.precision[metric][place]

    def as_json(self) -> dict[str, Any]:
        """Every score in percent, null where there is nothing to score, and by which protocol.

        Read as `scores["strict"]["3d"]["R40"]["Car"]["moderate"]`.
        """
        scores: dict[str, Any] = {
            overlaps: {
                metric: {
                    f"R{points}": self._by_class(self.ap(metric, points)[:, :, column]) for points in RECALL_POINTS
                }
                for metric in METRICS
            }
            for column, overlaps in enumerate(OVERLAPS)
        }
        return {**scores, "protocol": self.protocol()}

    def protocol(self) -> dict[str, Any]:
        """What the scores were counted on and how, for JSON."""
        return {
            "task": "KITTI 3-D object detection",
            "metric": "average precision, %",
            "split": self.split or None,
            "frames": self.frames,
            "recall_points": {"R40": "1/40, 2/40, …, 1", "R11": "0, 1/10, …, 1"},
            "overlap_above": {
                overlaps: {
                    metric: {rule.name: rule.overlap(metric, overlaps) for rule in self.rules} for metric in METRICS
                }
                for overlaps in OVERLAPS
            },
            "neutral": {rule.name: rule.neutral for rule in self.rules},
            "difficulties": {
                level.name: {
                    "height_px_at_least": level.height_px,
                    "occlusion_at_most": level.occlusion,
                    "truncation_at_most": level.truncation,
                }
                for level in DIFFICULTIES
            },
            "objects": {
                name: dict(zip(_LEVELS, row, strict=True))
                for name, row in zip(self.classes, self.objects.tolist(), strict=True)
            },
            "detections": dict(zip(self.classes, self.detections.tolist(), strict=True)),
            "at_most": {f"R{points}": self._by_class(self.ceiling(points)) for points in RECALL_POINTS},
        }

    def headline(self) -> str:
        """The score that is usually compared, in one line with its protocol."""
        values = self.ap("3d")[:, _LEVELS.index("moderate"), 0]
        shown = ", ".join(f"{name} {percent(value)}" for name, value in zip(self.classes, values, strict=True))
        mean, scored = self.mean(), int(np.isfinite(values).sum())
        best = float(np.nanmean(self.ceiling()[np.isfinite(values), 1])) if scored else np.nan
        most = f" of at most {best:.2f} %, for want of objects" if best < 100 else ""
        said = "nothing to score" if mean is None else f"mean of {scored} {_plural('class', scored)} {mean:.2f} %{most}"
        return f"AP 3d R40, moderate, strict overlaps: {shown}; {said} ({self._frames()})"

    def rows(self, overlaps: Overlaps = "strict") -> list[list[str]]:
        """The scores as cells, the head first: a row per class and metric, easy, moderate and hard at R40, then R11.

        Args:
            overlaps: strict, or loose.
        """
        head = ["class", "metric", "overlap"]
        head += [f"R{points} {level}" for points in RECALL_POINTS for level in _LEVELS]
        return [head, *self._rows(overlaps, METRICS)]

    def count_rows(self) -> list[list[str]]:
        """What was there to be scored, as cells, the head first: a row per class with the highest AP it can reach."""
        head = ["class", *(f"{level} objects" for level in _LEVELS), "detections"]
        head += [f"R40 {level} at most" for level in _LEVELS]
        parts = zip(self.classes, self.objects.tolist(), self.detections.tolist(), self.ceiling().tolist(), strict=True)
        return [head, *([name, *map(str, row), str(found), *map(percent, best)] for name, row, found, best in parts)]

    def table(self) -> str:
        """Every score as text for people."""
        strict = self.rows("strict")
        loose = self._rows("loose", tuple(metric for metric in METRICS if self._differs(metric)))
        return "\n".join(
            [
                f"KITTI average precision in %, {self._frames()}",
                *["", "strict overlaps", *_aligned(strict)],
                *["", "loose overlaps", *_aligned([strict[0], *loose])],
                *["", *_aligned(self.count_rows())],
                *["", "–: nothing to score. R40 and R11 are not to be compared with each other.", self.headline()],
            ]
        )

    def _frames(self) -> str:
        split = f": {self.split}" if self.split else ""
        return f"{self.frames} {_plural('frame', self.frames)}{split}"

    def _differs(self, metric: Metric) -> bool:
        return any(rule.overlap(metric, "loose") != rule.overlap(metric, "strict") for rule in self.rules)

    def _rows(self, overlaps: Overlaps, metrics: tuple[Metric, ...]) -> Iterator[list[str]]:
        column = OVERLAPS.index(overlaps)
        for place, rule in enumerate(self.rules):
            for metric in metrics:
                scores = [self.ap(metric, points)[place, :, column] for points in RECALL_POINTS]
                above = f"{rule.overlap(metric, overlaps):.2f}"
                yield [rule.name, metric, above, *map(percent, np.concatenate(scores).tolist())]

    def _by_class(self, values: NDArray[np.float64]) -> dict[str, dict[str, float | None]]:
        return {
            name: {level: value if np.isfinite(value) else None for level, value in zip(_LEVELS, row, strict=True)}
            for name, row in zip(self.classes, values.tolist(), strict=True)
        }


def percent(value: float, decimals: int = 2) -> str:
    """A score as text; a dash where there is nothing to score."""
    return f"{value:.{decimals}f}" if np.isfinite(value) else "–"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}es" if word.endswith("s") else f"{word}s"


def _aligned(rows: list[list[str]]) -> list[str]:
    """Columns of one width, names to the left and numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if head in _NAMES else cell.rjust(width)
            for head, cell, width in zip(rows[0], row, widths, strict=True)
        )
        for row in rows
    ]
