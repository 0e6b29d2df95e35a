"""What KITTI's benchmark counts, for which class, and when a detection is right.

From the development kit of the object benchmark (Geiger et al., *Are we ready for autonomous driving?*, CVPR 2012) and
its change of 2019 to 40 recall steps (Simonelli et al., *Disentangling monocular 3D object detection*, ICCV 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from olivine.errors import UserError

Metric = Literal["bbox", "bev", "3d", "aos"]
Overlaps = Literal["strict", "loose"]
Level = Literal["easy", "moderate", "hard"]

METRICS: tuple[Metric, ...] = ("bbox", "bev", "3d", "aos")
"""Boxes in the image, from above, in space; and the image box weighted by how well the heading is met."""

OVERLAPS: tuple[Overlaps, ...] = ("strict", "loose")
"""The overlaps of the benchmark, and the lower ones that are often printed beside them."""

RECALL_STEPS = 41
"""Precision is taken at recall 0, 1/40, …, 1."""

RECALL_POINTS: dict[int, slice] = {40: slice(1, None), 11: slice(0, None, 4)}
"""Which of the steps a mean over so many recall points takes: 40 since 2019, without recall 0; 11 before, with it."""


@dataclass(frozen=True)
class Difficulty:
    """Which labelled objects count. Every easy object is moderate too, and every moderate one hard.

    Attributes:
        name: easy, moderate or hard.
        height_px: an object lower than this in the image does not count, nor does a detection. One of exactly this
            height does, as in the benchmark's own program; OpenPCDet leaves such an object out.
        occlusion: the most it may be occluded.
        truncation: the most it may be truncated.
    """

    name: Level
    height_px: float
    occlusion: int
    truncation: float


DIFFICULTIES = (
    Difficulty("easy", 40, 0, 0.15),
    Difficulty("moderate", 25, 1, 0.3),
    Difficulty("hard", 25, 2, 0.5),
)
"""The levels of the benchmark, from few objects to many."""


@dataclass(frozen=True)
class ClassRule:
    """How a class is scored.

    Attributes:
        name: the type of its objects.
        neutral: another type that looks alike; finding one is neither right nor wrong.
        strict: the overlap (IoU) above which a detection is right, of every metric.
        loose: the same from above and in space; in the image it stays strict.
    """

    name: str
    neutral: str | None
    strict: float
    loose: float

    def overlap(self, metric: Metric, overlaps: Overlaps) -> float:
        """The overlap above which a detection is right."""
        return self.loose if overlaps == "loose" and metric in ("bev", "3d") else self.strict


CLASS_RULES = {
    rule.name: rule
    for rule in (
        ClassRule("Car", "Van", 0.7, 0.5),
        ClassRule("Pedestrian", "Person_sitting", 0.5, 0.25),
        ClassRule("Cyclist", None, 0.5, 0.25),
    )
}
"""The classes of the benchmark, by name."""

CLASSES = tuple(CLASS_RULES)
"""Their names, in the order of tables."""


def class_rule(name: str) -> ClassRule:
    """The rule of a class.

    Raises:
        UserError: KITTI does not score it.
    """
    if name not in CLASS_RULES:
        raise UserError(f"{name}: no class that KITTI scores; choose among {', '.join(CLASSES)}")
    return CLASS_RULES[name]
