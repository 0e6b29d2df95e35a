"""What a checkpoint of another project says of the inputs its network was trained on, and what its user adds.

The code bases of this line of work keep their settings beside the tensors, under the names of their YAML files:
`voxel_size`, `cylindrical_coordinates` and `dataset`. A network that is given voxels of another size or intensities of
another range still answers, only worse, so nothing is assumed: what the file leaves open has to be given.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivine.config import Config, from_overrides
from olivine.data.labels import ClassSet, load_class_set
from olivine.data.voxelize import CartesianVoxels, CylindricalVoxels, VoxelConfig
from olivine.errors import UserError

_SETTINGS = ("config", "hyper_parameters", "hparams", "args", "cfg")
"""Where settings are kept: the code bases' own key, those of Lightning, and common others."""

_RANGES = {"nuscenes": 255.0, "kitti": 1.0, "semantickitti": 1.0}
"""Top of the intensities of the datasets that published checkpoints were trained on."""

_FACTS: dict[str, type | tuple[type, ...]] = {
    "voxel_size": (int, float, tuple),
    "cylindrical_coordinates": (bool, int),
    "dataset": str,
}
"""The settings that are read, and what they may be; under the same names other projects keep other things."""

_NESTED = 3
"""How deep settings may lie in one another."""


class ImportSettings(Config):
    """What is said of the weights beside their file; what the file says itself need not be repeated."""

    voxels: VoxelConfig | None = None
    """The grid and the input features; `intensity` is `raw` unless given, as the code bases of this layout have it."""

    intensity_max: float | None = None
    """Top of the range of the intensities that the network was trained on: nuScenes 255, KITTI 1."""

    classes: str | None = None
    """The class set whose classes the head of a segmenter scores, in its order, e.g. `semantickitti`."""


@dataclass(frozen=True)
class Stated:
    """What is known of a checkpoint's network beside its tensors.

    Attributes:
        voxels: the grid and the input features.
        intensity_max: top of the range of intensities.
        classes: what its head scores; None where that is not said.
    """

    voxels: CylindricalVoxels | CartesianVoxels
    intensity_max: float
    classes: ClassSet | None

    @property
    def about(self) -> dict[str, Any]:
        """The description of the inputs, as weights have it."""
        return {
            "task": "imported",
            "in_channels": self.voxels.channels,
            "voxels": self.voxels.model_dump(mode="json"),
            "intensity_max": self.intensity_max,
        }


def stated(
    content: Mapping[str, Any], in_channels: int, scores: int | None, file: Path, overrides: Sequence[str]
) -> Stated:
    """What a checkpoint and its user say of its network.

    Args:
        content: what the file holds.
        in_channels: input channels of its network.
        scores: how many classes its head may score; None where it has no such head.
        file: the file, for messages.
        overrides: `key=value` settings of `ImportSettings`.

    Raises:
        UserError: a setting is unknown, contradicts the file, does not fit the channels or the head, or is needed and
            missing.
    """
    facts = _facts(content, file)
    grid = _grid(facts)
    base = {} if grid is None else {"voxels": grid.model_dump(mode="json")}
    settings = from_overrides(ImportSettings, overrides, str(file), base=base)
    voxels = settings.voxels
    if voxels is None:
        raise UserError(
            f"{file}: does not say which voxels its network takes; add them, e.g. for the grid of the published code "
            "(0.1 m, 1°, 0.1 m; raw intensities of nuScenes) voxels.name=cylindrical intensity_max=255"
        )
    if "intensity" not in voxels.model_fields_set:
        voxels = voxels.model_copy(update={"intensity": "raw"})
    _check_grid(voxels, facts, file)
    if voxels.channels != in_channels:
        raise UserError(
            f"{file}: its network takes {in_channels} input channels, and voxels.features names {voxels.channels} "
            f"({', '.join(voxels.features)}); give them in order, e.g. voxels.features=[intensity,z]"
        )
    return Stated(voxels, _range(settings, facts, file), _classes(settings.classes, scores, file))


def _classes(name: str | None, scores: int | None, file: Path) -> ClassSet | None:
    """The class set that was named, which the head must fit."""
    if name is None:
        return None
    classes = load_class_set(name)
    if scores is None:
        raise UserError(f"{file}: has no head that scores classes; leave classes={name} out")
    if classes.count != scores:
        raise UserError(f"{file}: its head scores {scores} classes, and class set {name} has {classes.count}")
    return classes


def _facts(content: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The settings that the file states, by name; a setting that stands twice must say the same."""
    facts: dict[str, Any] = {}
    for settings in _settings(content, _NESTED):
        for name, kinds in _FACTS.items():
            value = settings.get(name)
            if isinstance(value, list) and name == "voxel_size":
                value = tuple(value)
            if isinstance(value, kinds) and facts.setdefault(name, value) != value:
                raise UserError(f"{file}: states {name} {facts[name]!r} and {value!r}; keep the right one")
    size = facts.get("voxel_size", 1.0)
    lengths = size if isinstance(size, tuple) else (size,)
    if len(lengths) not in (1, 3) or not all(isinstance(n, int | float) and 0 < n < 1e6 for n in lengths):
        raise UserError(f"{file}: states voxel_size {size!r}, which is neither one nor three lengths in metres")
    return facts


def _settings(content: Mapping[str, Any], depth: int) -> Iterator[Mapping[str, Any]]:
    """The file's top, and the settings kept in it; Lightning's may have a whole configuration inside."""
    yield content
    for name in _SETTINGS if depth else ():
        inner = content.get(name)
        if isinstance(inner, argparse.Namespace):
            inner = vars(inner)
        if isinstance(inner, Mapping):
            yield from _settings(inner, depth - 1)


def _grid(facts: Mapping[str, Any]) -> CylindricalVoxels | CartesianVoxels | None:
    """The grid that the file states whole, or None; its network sees raw intensities."""
    size, cylindrical = facts.get("voxel_size"), facts.get("cylindrical_coordinates")
    if size is None or cylindrical is None:
        return None
    if not cylindrical:
        return CartesianVoxels(size_m=size if isinstance(size, tuple) else (size, size, size), intensity="raw")
    # Of a size for each axis the code that wrote it decides whether the second is of degrees; that has to be given.
    return None if isinstance(size, tuple) else CylindricalVoxels(rho_m=size, z_m=size, intensity="raw")


def _check_grid(voxels: CylindricalVoxels | CartesianVoxels, facts: Mapping[str, Any], file: Path) -> None:
    """Refuse voxels that contradict what the file states; the angle is fixed in the published code, and not stated."""
    stated = {name: facts[name] for name in ("voxel_size", "cylindrical_coordinates") if name in facts}
    round_ = isinstance(voxels, CylindricalVoxels)
    own = (voxels.rho_m, voxels.z_m) if isinstance(voxels, CylindricalVoxels) else voxels.size_m
    size = stated.get("voxel_size", own)
    lengths = size if isinstance(size, tuple) else (size,) * len(own)
    if isinstance(voxels, CylindricalVoxels) and len(lengths) == 3:
        lengths = (lengths[0], lengths[2])
    if tuple(lengths) != tuple(own) or bool(stated.get("cylindrical_coordinates", round_)) != round_:
        says = ", ".join(f"{name} {value!r}" for name, value in stated.items())
        raise UserError(
            f"{file}: states {says}, which contradicts voxels of {voxels.name} {list(own)} m; leave them out, or mend "
            "the file"
        )


def _range(settings: ImportSettings, facts: Mapping[str, Any], file: Path) -> float:
    """Top of the range of intensities, as given or as the stated dataset has it."""
    dataset = "".join(filter(str.isalnum, str(facts.get("dataset", "")).lower()))
    known, given = _RANGES.get(dataset), settings.intensity_max
    if known is None and given is None:
        raise UserError(
            f"{file}: does not say which intensities its network was trained on; add intensity_max=255 for nuScenes, "
            "intensity_max=1 for KITTI, or the top of another sensor's range"
        )
    if known is not None and given is not None and known != given:
        raise UserError(
            f"{file}: states dataset {facts['dataset']!r}, whose intensities end at {known:g}, not {given:g}"
        )
    found = known if given is None else given
    assert found is not None
    if not 0 < found < float("inf"):
        raise UserError(f"intensity_max={found:g} is not the top of a range; give a number above 0")
    return found
