"""Class mappings: what a labeller's classes and a dataset's classes both become, to score one by the other.

A mapping is a YAML file (shipped ones lie in `labels/mappings/`):

    classes: [car, ground]                        # merged classes
    masks: {car: car, road: ground, sky: null}    # every class of the masks' manifest
    points: {car: car, road: ground, bus: null}   # every training class of the dataset

`null` under `masks` is a class that is none of the merged ones: where it lies on a scored point, it is wrong. `null`
under `points` takes the points of that class out of the score.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olivine.config import Config
from olivine.data.labels import ClassSet
from olivine.data.masks import UNKNOWN, MaskManifest
from olivine.errors import UserError
from olivine.labels.data_files import check_targets, own_class_set, read_data_file, target_classes


class MappingConfig(Config):
    """The content of a mapping file."""

    classes: tuple[str, ...]
    """The merged classes, in the order of the score's rows."""

    masks: dict[str, str | None]
    """Merged class of every class of the masks; null is none of them, and wrong on any point that is scored."""

    points: dict[str, str | None]
    """Merged class of every training class of the dataset; the points of null are not scored."""


@dataclass(frozen=True)
class ClassMapping:
    """A mapping and where it came from. C merged classes.

    Attributes:
        name: what it was asked for by: the name of a shipped mapping, or a path.
        config: its content.
    """

    name: str
    config: MappingConfig

    @property
    def classes(self) -> tuple[str, ...]:
        """[C] names of the merged classes."""
        return self.config.classes

    def mask_columns(self, manifest: MaskManifest) -> NDArray[np.int64]:
        """Where each mask value is counted.

        Args:
            manifest: what the masks mean; the mapping must name its classes and no others.

        Returns:
            [256] merged class 0…C − 1, C for a class that is none of them, C + 1 for unknown. Values that the
            manifest does not name are given as unknown; the caller refuses them.

        Raises:
            UserError: the mapping lacks a class of the manifest or names one that it does not have.
        """
        columns = np.full(UNKNOWN + 1, len(self.classes) + 1, np.int64)
        columns[: len(manifest.classes)] = self._merged("masks", manifest.classes, str(manifest.path))
        return columns

    def point_rows(self, classes: ClassSet) -> NDArray[np.int64]:
        """Where each true class is counted.

        Args:
            classes: the dataset's classes; the mapping must name them and no others.

        Returns:
            [classes + 1] merged class 0…C − 1, C for what is not scored (0, ignored, among it).

        Raises:
            UserError: the mapping lacks a class of the dataset or names one that it does not have.
        """
        merged = self._merged("points", classes.names, f"the class set {classes.name!r}")
        return np.array([len(self.classes), *merged], np.int64)

    def _merged(self, key: str, names: Sequence[str], where: str) -> list[int]:
        """Merged class of each name, C for null; refuses a mapping that names other classes than these."""
        entries: dict[str, str | None] = getattr(self.config, key)
        lacks = [name for name in dict.fromkeys(names) if name not in entries]
        strange = [name for name in entries if name not in names]
        if lacks or strange:
            complaints = [f"it lacks {_quoted(lacks)}"] if lacks else []
            complaints += [f"it names {_quoted(strange)}, not among them"] if strange else []
            raise UserError(
                f"{self.name}: key {key} must name the classes of {where}, no more and no fewer: "
                f"{', and '.join(complaints)}"
            )
        numbers = {name: number for number, name in enumerate(self.classes)}
        targets = (entries[name] for name in names)
        return [len(self.classes) if target is None else numbers[target] for target in targets]


def load_mapping(name: str) -> ClassMapping:
    """Read a class mapping.

    Args:
        name: a shipped mapping, e.g. `"cityscapes19_semantickitti"`, or the path of a YAML file (recognised by its
            `.yaml`/`.yml` ending): a mapping, or a class set of one's own, which masks and points then share.

    Raises:
        UserError: no such mapping, not valid, merged classes that are named twice, that no points become, or that
            `classes` does not have.
    """
    own = own_class_set(name)
    if own is not None:
        themselves: dict[str, str | None] = {one: one for one in own.names}
        return ClassMapping(name, MappingConfig(classes=own.names, masks=themselves, points=themselves))
    config = read_data_file(MappingConfig, "mappings", name)
    classes = target_classes(config.classes, name)
    for key, entries in (("masks", config.masks), ("points", config.points)):
        for theirs, merged in entries.items():
            if merged is not None:
                check_targets({merged}, classes, f"{name}: {key}.{theirs}")
    unreached = [merged for merged in classes if merged not in config.points.values()]
    if unreached:
        raise UserError(f"{name}: no points become {_quoted(unreached)}; map a class to it or drop it from classes")
    return ClassMapping(name, config)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
