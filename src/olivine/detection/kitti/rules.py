"""What KITTI's benchmark counts, for which class, and when a detection is right.

From the development kit of the object benchmark (Geiger et al., *Are we ready for autonomous driving?*, CVPR 2012) and
its change of 2019 to 40 recall steps (Simonelli et al., *Disentangling monocular 3D object detection*, ICCV 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from olivine.config import Config
from olivine.documents import read_yaml
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


class RuleConfig(Config):
    """How a class of one's own is scored, as KITTI scores its classes."""

    strict: float = Field(gt=0, lt=1)
    """A detection is right when it overlaps an object by more than this. KITTI has 0.7 for cars and 0.5 for pedestrians
    and cyclists."""

    loose: float = Field(gt=0, lt=1)
    """The same from above and in space, for the scores at loose overlaps. KITTI's are 0.5 and 0.25."""

    neutral: str | None = None
    """Another category that looks alike: finding one is neither right nor wrong, nor is missing it. KITTI has Van for
    cars and Person_sitting for pedestrians."""

    @model_validator(mode="after")
    def _ordered(self) -> RuleConfig:
        if self.loose > self.strict:
            raise ValueError(f"loose={self.loose} is above strict={self.strict}")
        return self


def class_rules(classes: Sequence[str], own: Mapping[str, RuleConfig], key: str = "rules") -> tuple[ClassRule, ...]:
    """How classes are scored: KITTI's own as the benchmark does, others as is said for each.

    Args:
        classes: names, in the order of tables.
        own: the rules of classes that KITTI does not have, by name.
        key: what `own` is called in messages.

    Raises:
        UserError: a class has no rule, or a rule is of none of the classes or of one that KITTI has.
    """
    for name in own:
        if name in CLASS_RULES:
            raise UserError(f"{key}.{name}: KITTI's benchmark says how this class is scored; leave it out")
        if name not in classes:
            raise UserError(f"{key}.{name}: no class of the detector, which are {', '.join(classes)}")
    missing = [name for name in classes if name not in CLASS_RULES and name not in own]
    if missing:
        raise UserError(
            f"{key}: KITTI's benchmark does not score {', '.join(missing)}; say by which overlaps it is done, e.g. "
            f"{key}.{missing[0]}={{strict: 0.5, loose: 0.25}}"
        )
    return tuple(CLASS_RULES.get(name) or ClassRule(name, **own[name].model_dump()) for name in classes)


def read_class_rules(path: Path) -> tuple[ClassRule, ...]:
    """The rules in a YAML file: by class `strict`, `loose` and perhaps `neutral`, or null for a class of KITTI's.

    Raises:
        UserError: the file cannot be read, or is no such mapping.
    """
    tree = read_yaml(path, "this file of rules")
    if not isinstance(tree, dict) or not tree:
        raise UserError(
            f"{path}: must map each class that is scored to its rule, e.g. Bus: {{strict: 0.7, loose: 0.5}}"
        )
    try:
        own = TypeAdapter(dict[str, RuleConfig]).validate_python(
            {n: rule for n, rule in tree.items() if rule is not None}
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return class_rules([str(name) for name in tree], own, str(path))


def class_rule(one: str | ClassRule) -> ClassRule:
    """The rule of a class of KITTI's; a rule is its own.

    Raises:
        UserError: KITTI does not score it.
    """
    if isinstance(one, ClassRule):
        return one
    if one not in CLASS_RULES:
        raise UserError(f"{one}: no class that KITTI scores; choose among {', '.join(CLASSES)}, or give a rule for it")
    return CLASS_RULES[one]
