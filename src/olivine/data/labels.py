"""Class sets: the names of a dataset's training classes and how its raw labels map to them.

They live in data files (`data/classes/<name>.yaml`), one per dataset, each with its source named. Training class 0
is always "ignored": it is neither learned, predicted nor counted.

A class set of your own is a file of the same form, in which most may be left out. It also says what to look for in
images, so that one file drives labelling, pretraining and fine-tuning (`data.classes`):

    classes:
      - {name: pallet, prompts: [wooden pallet, pallet], raw: [1], color: [180, 120, 60]}
      - {name: forklift, raw: [2, 7]}      # prompts: the name; a color is chosen
    ignored: [0, 9]                        # raw ids that are no class; 0 where this is left out

Without any `raw`, labels count the classes from 1 in this order, and 0 is unlabelled.
"""

from __future__ import annotations

import colorsys
from collections import Counter
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

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
        prompts: what to look for in images, by class name; empty where the file has no prompts of any class.
    """

    name: str
    names: tuple[str, ...]
    colors: NDArray[np.uint8] = field(repr=False)
    raw_to_train: NDArray[np.uint8] = field(repr=False)
    train_to_raw: NDArray[np.uint16] = field(repr=False)
    source: str = ""
    ignored: NDArray[np.uint16] | None = field(default=None, repr=False)
    raw_names: dict[str, int] = field(default_factory=dict, repr=False)
    prompts: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    @property
    def count(self) -> int:
        """Number of classes that are learned and scored (class 0 not included)."""
        return len(self.names)

    def as_json(self) -> dict[str, Any]:
        """What weights record of a class set of one's own; `recorded_classes` makes it anew."""
        return {
            "name": self.name,
            "names": list(self.names),
            "colors": self.colors.tolist(),
            "raw": self.train_to_raw.tolist(),
        }

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


def recorded_classes(record: dict[str, Any]) -> ClassSet:
    """The class set that `ClassSet.as_json` recorded: its raw labels are those that predictions are written with."""
    raw = np.array(record["raw"], np.uint16)
    raw_to_train = np.zeros(_MAX_RAW + 1, np.uint8)
    raw_to_train[raw[1:]] = np.arange(1, len(raw))
    return ClassSet(record["name"], tuple(record["names"]), np.array(record["colors"], np.uint8), raw_to_train, raw)


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
    raw: list[int] | None = Field(default=None, min_length=1)
    color: tuple[int, int, int] | None = None
    prompts: tuple[str, ...] | None = None

    @field_validator("color", mode="after")
    @classmethod
    def _eight_bits(cls, color: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        if color is not None and not all(0 <= part <= 255 for part in color):
            raise ValueError("red, green and blue are 0…255")
        return color


class _ClassSetFile(Config):
    source: str = ""
    classes: list[_Class] = Field(min_length=1, max_length=254)
    ignored: list[int] | None = None
    categories: tuple[str, ...] = ()

    @field_validator("classes", mode="before")
    @classmethod
    def _names_alone(cls, classes: Any) -> Any:
        return [{"name": entry} if isinstance(entry, str) else entry for entry in classes] if isinstance(
            classes, list) else classes  # fmt: skip

    @property
    def raw(self) -> list[list[int]]:
        """Raw labels of each class; their own numbers where none has any."""
        return [entry.raw or [number] for number, entry in enumerate(self.classes, start=1)]

    @property
    def unlabelled(self) -> list[int]:
        """Raw labels that are ignored: 0, where the file says nothing and no class has it."""
        if self.ignored is not None:
            return self.ignored
        return [] if any(0 in labels for labels in self.raw) else [0]

    @model_validator(mode="after")
    def _each_once(self) -> _ClassSetFile:
        without = [entry.name for entry in self.classes if entry.raw is None]
        if 0 < len(without) < len(self.classes):
            raise ValueError(f"class {without[0]} has no raw labels, and others have; give them to all or to none")
        raw = [*self.unlabelled, *(label for labels in self.raw for label in labels)]
        for what, listed in (("raw label", raw), ("name", [entry.name for entry in self.classes])):
            twice = [value for value, times in Counter(listed).items() if times > 1]
            if twice:
                raise ValueError(f"the {what} {twice[0]} stands twice")
        if raw and (min(raw) < 0 or max(raw) > _MAX_RAW):
            raise ValueError(f"raw labels are 0…{_MAX_RAW}")
        return self


def load_class_set(name: str | Path) -> ClassSet:
    """Load a class set.

    Args:
        name: one that is shipped, e.g. `"nuscenes"` or `"semantickitti"`, or the path of a YAML file of your own, which
            ends in `.yaml`; its form is that of this module.

    Raises:
        UserError: no such class set is shipped, or the file is missing or not one.
    """
    if is_own_file(name):
        content, stem = read_yaml(Path(name), "this class set"), Path(name).stem
        if stem in shipped_class_sets():
            raise UserError(f"{name}: a class set named {stem} is shipped; give the file of your own another name")
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
    for train, raw in enumerate(stated.raw, start=1):
        raw_to_train[raw] = train
    # Predictions say 0 for nothing where that is free, else the first raw label that is ignored.
    nothing = 0 if raw_to_train[0] == IGNORED or not stated.unlabelled else stated.unlabelled[0]
    return ClassSet(
        stem,
        tuple(entry.name for entry in stated.classes),
        np.array([[0, 0, 0], *(entry.color or own_color(row) for row, entry in enumerate(stated.classes))], np.uint8),
        raw_to_train,
        np.array([nothing, *(raw[0] for raw in stated.raw)], np.uint16),
        stated.source,
        np.array(stated.unlabelled, np.uint16),
        {category: raw for raw, category in enumerate(stated.categories)},
        _prompts(stated) if is_own_file(name) else {},
    )


def is_own_file(name: str | Path) -> bool:
    """Whether a class set is named by the path of a file of one's own."""
    return str(name).endswith((".yaml", ".yml"))


def _prompts(stated: _ClassSetFile) -> dict[str, tuple[str, ...]]:
    """What to look for, by class: as stated, else the class's name in words; [] is nothing."""
    words = {entry.name: " ".join(entry.name.replace("_", " ").replace("-", " ").split()) for entry in stated.classes}
    return {entry.name: (words[entry.name],) if entry.prompts is None else entry.prompts for entry in stated.classes}


def own_color(row: int) -> tuple[int, int, int]:
    """A colour for a class that states none, by its place: hues a golden section apart, distinct for any number."""
    red, green, blue = colorsys.hsv_to_rgb(row * 0.618034 % 1, 0.55 + 0.4 * (row % 2), 0.95 - 0.25 * (row // 2 % 2))
    return round(255 * red), round(255 * green), round(255 * blue)
