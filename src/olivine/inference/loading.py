"""From a file to a trained network: a run folder, weights, or what `olivine export` wrote for other projects."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from olivine.backbones import BackboneConfig, Head, OwnBackboneConfig
from olivine.components import is_own
from olivine.data.labels import ClassSet, load_class_set, recorded_classes, shipped_class_sets
from olivine.data.needs import Inputs
from olivine.data.voxelize import CartesianVoxels, CylindricalVoxels, VoxelConfig
from olivine.detection.saved import EVAL_MAX_VOXELS, load_detector
from olivine.detectors import OwnDetectorConfig
from olivine.errors import OlivineWarning, UserError
from olivine.inference.model import Model
from olivine.inference.sources import read_source
from olivine.weights.file import Weights, load_weights


def load(
    source: Path | str | Weights,
    *,
    device: str = "cpu",
    backbone: OwnBackboneConfig | None = None,
    detector: OwnDetectorConfig | None = None,
) -> Model:
    """Load a trained network: a pretrained backbone, one with a head for classes, or a detector.

    Args:
        source: a run folder, its `weights.safetensors` or `weights.json`, a file that `olivine export` wrote, or what
            was read of one.
        device: where to put the network.
        backbone: of weights of a backbone of your own, its configuration: a weights file never leads to an import.
        detector: of weights of a detector of your own, likewise.

    Returns:
        The network with its input settings, in evaluation mode.

    Raises:
        UserError: no weights there, or they do not say what network they belong to; of another project's file the
            line says how to import it.
    """
    weights = source if isinstance(source, Weights) else read_source(source)
    about = weights.about
    absent = [key for key in ("backbone", "in_channels", "voxels") if key not in about]
    if absent:
        raise UserError(f"{weights.path}: has no {', '.join(absent)}; these are not the weights of one of our runs")
    if "detector" in about:
        return _detecting(weights, device, detector)
    try:
        voxels: CylindricalVoxels | CartesianVoxels = TypeAdapter(VoxelConfig).validate_python(about["voxels"])
        network = _backbone(about["backbone"], weights.path, backbone).build(Inputs(voxels))
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UserError(f"{weights.path}: describes a network that this version does not know ({what})") from error
    load_weights(network, weights)
    head = None
    if about.get("classes") and "classes" in weights.heads:
        head = Head(*weights.heads["classes"]["kernel"].shape)
        load_weights(head, weights.head("classes"))
        head.to(device).eval()
    classes = _classes(about, weights.path) if about.get("classes") else None
    return Model(network.to(device).eval(), head, voxels, classes, about, weights.path)


def _detecting(weights: Weights, device: str, own: OwnDetectorConfig | None) -> Model:
    """A detector on points. It is given as many voxels as where its run was scored."""
    network, _ = load_detector(weights, own=own)
    about = weights.about
    if "eval_max_voxels" not in about:
        warnings.warn(
            f"{weights.path}: does not say how many voxels of a frame its scores were made with; {EVAL_MAX_VOXELS} are "
            "taken, as published for KITTI",
            OlivineWarning,
            stacklevel=3,
        )
    voxels: CylindricalVoxels | CartesianVoxels = TypeAdapter(VoxelConfig).validate_python(about["voxels"])
    voxels = voxels.model_copy(update={"max_voxels": about.get("eval_max_voxels", EVAL_MAX_VOXELS)})
    network = network.to(device)
    return Model(network.backbone, None, voxels, None, about, weights.path, network)


def _backbone(described: Any, path: Path, own: OwnBackboneConfig | None) -> BackboneConfig:
    """The configuration of the network that a file describes, or the one that was given for it."""
    name = described.get("name") if isinstance(described, dict) else None
    if own is not None and own.name == name:
        return own
    if is_own(described):
        raise UserError(f"{path}: is of the backbone {name}; give it as olivine.load(..., backbone={name}())")
    found: BackboneConfig = TypeAdapter(BackboneConfig).validate_python(described)
    return found


def _classes(about: dict[str, Any], path: Path) -> ClassSet:
    """The classes of the head: of a shipped set, or of one's own, which is recorded (in older files its names)."""
    if about.get("class_set") is not None:
        try:
            return recorded_classes(about["class_set"])
        except (KeyError, TypeError, ValueError, OverflowError, IndexError) as error:
            raise UserError(f"{path}: the classes that it records cannot be read ({error})") from error
    name, heads = about["classes"], about.get("heads") or {}
    names = tuple(heads.get("classes", {}).get("names", ()))
    if name in shipped_class_sets():
        shipped = load_class_set(name)
        if names and names != shipped.names:
            raise UserError(f"{path}: the classes it was trained on are not those of {name} in this version")
        return shipped
    if not names:
        raise UserError(f"{path}: was trained on the classes {name}, whose names it does not say")
    count = len(names) + 1
    nowhere = np.zeros(65536, np.uint8)
    nowhere[:count] = np.arange(count)
    return ClassSet(name, names, np.zeros((count, 3), np.uint8), nowhere, np.arange(count, dtype=np.uint16))
