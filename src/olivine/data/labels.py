"""Class sets: the names of a dataset's training classes and how its raw labels map to them.

They live in data files (`data/classes/<name>.yaml`), one per dataset, each with its source named. Training class 0
is always "ignored": it is neither learned, predicted nor counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from olivine.config import Config, validate
from olivine.documents import parse_yaml, read_yaml
from olivine.errors import UserError

IGNORED = 0

_MAX_RAW = 65535


@dataclass(frozen=True)
class ClassSet:
    """The training classes of a dataset.

    Attributes:
        name: file stem of the class set, e.g. `"nuscenes"`.
        names: [C] names of classes 1…C (class 0 is ignored and has no name here).
        colors: [C + 1, 3] uint8 RGB, row 0 for ignored.
        raw_to_train: [65536] uint8 training class of every raw label.
        train_to_raw: [C + 1] uint16 the raw label written for each training class in prediction files.
        source: where the map was published.
        ignored: [I] uint16 raw labels that the map lists as ignored; None where it lists none, so that any other raw
            label is ignored without a word.
        raw_names: raw label of each category by its published name, where raw labels number categories.
    """

    name: str
    names: tuple[str, ...]
    colors: NDArray[np.uint8] = field(repr=False)
    raw_to_train: NDArray[np.uint8] = field(repr=False)
    train_to_raw: NDArray[np.uint16] = field(repr=False)
    source: str = ""
    ignored: NDArray[np.uint16] | None = field(default=None, repr=False)
    raw_names: dict[str, int] = field(default_factory=dict, repr=False)

    @property
    def count(self) -> int:
        """Number of classes that are learned and scored (class 0 not included)."""
        return len(self.names)

    def learn(self, raw: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Training classes of raw labels, any shape; raw labels no map names become 0 (ignored)."""
        return np.asarray(self.raw_to_train[raw])

    def strange(self, raw: NDArray[np.integer], source: str) -> str | None:
        """What is wrong with raw labels that hold ids which the map does not list, neither as a class nor as ignored.

        Args:
            raw: raw labels, any shape.
            source: where they come from, named in the answer.

        Returns:
            One line with the ids and how many points have them; None where all are listed.
        """
        if self.ignored is None:
            return None
        unlisted = self.raw_to_train == IGNORED
        unlisted[self.ignored] = False
        if not unlisted[raw].any():
            return None
        ids, counts = np.unique(raw[unlisted[raw]], return_counts=True)
        most = np.argsort(-counts, kind="stable")
        few = ", ".join(f"{ids[place]} ({counts[place]} points)" for place in most[:5])
        more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
        return (
            f"{source}: {counts.sum()} of {raw.size} labels are ids that the class set {self.name} does not list: "
            f"{few}{more}; map the labels to its ids"
        )


def without_classes(name: str) -> ClassSet:
    """The class set of a dataset whose points have no labels.

    Args:
        name: the dataset's.
    """
    return ClassSet(name, (), np.zeros((1, 3), np.uint8), np.zeros(_MAX_RAW + 1, np.uint8), np.zeros(1, np.uint16))


def shipped_class_sets() -> list[str]:
    """Names of the class sets that ship with the package, sorted."""
    folder = resources.files("olivine.data") / "classes"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml"))


class _Class(Config):
    name: str = Field(min_length=1)
    raw: list[int] = Field(min_length=1)
    color: tuple[int, int, int]

    @field_validator("color", mode="after")
    @classmethod
    def _eight_bits(cls, color: tuple[int, int, int]) -> tuple[int, int, int]:
        if not all(0 <= part <= 255 for part in color):
            raise ValueError("red, green and blue are 0…255")
        return color


class _ClassSetFile(Config):
    source: str
    classes: list[_Class] = Field(min_length=1, max_length=254)
    ignored: list[int]
    categories: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> _ClassSetFile:
        raw = [*self.ignored, *(label for entry in self.classes for label in entry.raw)]
        for what, listed in (("raw label", raw), ("name", [entry.name for entry in self.classes])):
            twice = [value for value, times in Counter(listed).items() if times > 1]
            if twice:
                raise ValueError(f"the {what} {twice[0]} stands twice")
        if min(raw) < 0 or max(raw) > _MAX_RAW:
            raise ValueError(f"raw labels are 0…{_MAX_RAW}")
        return self


def load_class_set(name: str | Path) -> ClassSet:
    """Load a class set.

    Args:
        name: one that is shipped, e.g. `"nuscenes"` or `"semantickitti"`, or the path of a YAML file of your own, which
            ends in `.yaml`: `source`, `classes` (each with `name`, `raw` labels and `color`) and the `ignored` raw
            labels, as in `olivine/data/classes`.

    Raises:
        UserError: no such class set is shipped, or the file is missing or not one.
    """
    if str(name).endswith((".yaml", ".yml")):
        content, stem = read_yaml(Path(name), "this class set"), Path(name).stem
    else:
        file = resources.files("olivine.data") / "classes" / f"{name}.yaml"
        if not file.is_file():
            raise UserError(
                f"no class set named {name!r}; shipped are {', '.join(shipped_class_sets())}; one of your own is given "
                "by its path, ending in .yaml"
            )
        content, stem = parse_yaml(file.read_text(encoding="utf-8"), str(name)), str(name)
    stated = validate(_ClassSetFile, content, str(name))
    raw_to_train = np.zeros(_MAX_RAW + 1, np.uint8)
    for train, entry in enumerate(stated.classes, start=1):
        raw_to_train[entry.raw] = train
    return ClassSet(
        stem,
        tuple(entry.name for entry in stated.classes),
        np.array([[0, 0, 0], *(entry.color for entry in stated.classes)], np.uint8),
        raw_to_train,
        np.array([0, *(entry.raw[0] for entry in stated.classes)], np.uint16),
        stated.source,
        np.array(stated.ignored, np.uint16),
        {category: raw for raw, category in enumerate(stated.categories)},
    )
