"""Label maps: what the classes of a published network mean in the classes of the masks.

A label map is a YAML file (`labels/maps/<name>.yaml`, or one of your own) with `source`, `classes` (the name of a
class set, or a list) and `map` (label of the network → class, or null for unknown).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olivine.data.masks import UNKNOWN
from olivine.errors import UserError
from olivine.labels.data_files import ClassesFile, check_targets, read_data_file, target_classes


class _MapFile(ClassesFile):
    """The keys of a label map; its source is where the two sets of classes are defined."""

    map: dict[str, str | None]
    """Target class by source label; null where there is none."""


@dataclass(frozen=True)
class LabelMap:
    """Source labels and the classes they stand for.

    Attributes:
        name: of the map, or the path of its file.
        classes: [C] target class names in index order.
        targets: class index by source label's first name, 255 for unknown.
        source: where the classes are defined.
    """

    name: str
    classes: tuple[str, ...]
    targets: dict[str, int]
    source: str

    def table(self, labels: Sequence[str], *, allow_unmapped: bool = False) -> NDArray[np.uint8]:
        """The target class of every source class.

        Args:
            labels: [S] the network's labels in index order.
            allow_unmapped: labels that the map does not name become unknown.

        Returns:
            [S] uint8 class index, 255 unknown.

        Raises:
            UserError: the map lacks some labels, all of which are listed.
        """
        names = [first_name(label) for label in labels]
        unmapped = [label for label, name in zip(labels, names, strict=True) if name not in self.targets]
        if unmapped and not allow_unmapped:
            raise UserError(
                f"{self.name}: this label map lacks {len(unmapped)} of the network's {len(labels)} labels: "
                f"{', '.join(map(repr, unmapped))}; add them, choose another labeller.label_map, "
                "or set labeller.allow_unmapped=true to leave them unknown"
            )
        return np.array([self.targets.get(name, UNKNOWN) for name in names], np.uint8)


def load_label_map(name: str) -> LabelMap:
    """Load a label map.

    Args:
        name: of a shipped map, e.g. `"cityscapes_to_nuscenes"`, or the path of a YAML file.

    Raises:
        UserError: no such map, an unknown target class, or two labels with one first name and different targets.
    """
    file = read_data_file(_MapFile, "maps", name)
    classes = target_classes(file.classes, name)
    check_targets({target for target in file.map.values() if target is not None}, classes, name)
    targets: dict[str, int] = {}
    for label, target in file.map.items():
        index = UNKNOWN if target is None else classes.index(target)
        if targets.setdefault(first_name(label), index) != index:
            raise UserError(f"{name}: {first_name(label)!r} is mapped to two classes; labels go by their first name")
    return LabelMap(name, classes, targets, file.source)


def first_name(label: str) -> str:
    """A label's first name, by which labels are compared: `"Road, route"` and `"road;route"` are `"road"`."""
    return label.replace(";", ",").split(",")[0].strip().lower()
