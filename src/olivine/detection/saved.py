"""Detectors on disk: what their weights say about themselves, and networks made of that; encoders that images taught.

A detector's file (`olivine.weights.file`) has the encoder as its backbone, and what stands behind it as heads under the
names of `Detector.heads`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from olivine.backbones import Backbone, BackboneConfig
from olivine.components import is_own
from olivine.data.needs import Inputs
from olivine.data.voxelize import CartesianVoxels, CylindricalVoxels, VoxelConfig
from olivine.detectors import Detector, DetectorConfig, OwnDetectorConfig
from olivine.errors import UserError
from olivine.weights.file import LoadReport, Weights, load_weights, read_weights

EVAL_MAX_VOXELS = 40_000
"""Voxels of a frame at most where frames are scored, as published for KITTI."""


def describe_detector(
    detector: DetectorConfig,
    backbone: BackboneConfig,
    inputs: Inputs,
    intensity_max: float | None,
    *,
    eval_max_voxels: int | None = EVAL_MAX_VOXELS,
) -> dict[str, Any]:
    """What a detector's weights say about the network, so that `load_detector` can build it.

    Args:
        detector: the detector.
        backbone: its encoder.
        inputs: what it was built for.
        intensity_max: top of the range of intensities of its data; None where it has none.
        eval_max_voxels: so many voxels of a frame at most where it is used; None for all.
    """
    return {
        "task": "detection",
        "detector": detector.model_dump(mode="json"),
        "backbone": backbone.model_dump(mode="json"),
        "in_channels": inputs.channels,
        "voxels": inputs.voxels.model_dump(mode="json"),
        "eval_max_voxels": eval_max_voxels,
        "intensity_max": intensity_max,
    }


def load_detector(source: Path | str | Weights, *, own: OwnDetectorConfig | None = None) -> tuple[Detector, Weights]:
    """The detector that a run folder or weights file holds, in evaluation mode, and its weights.

    Args:
        source: a run folder, a weights file, or what was read of one.
        own: of weights of a detector of your own, its configuration: a weights file never leads to an import.

    Raises:
        UserError: there are no weights, they are of no detector, or of one that this version does not know.
    """
    weights = source if isinstance(source, Weights) else read_weights(source)
    about = weights.about
    if "detector" not in about:
        raise UserError(f"{weights.path}: holds no detector; train one with `olivine detect`")
    try:
        detector = _detector(about["detector"], weights.path, own)
        if is_own(about["backbone"]):
            raise UserError(f"{weights.path}: is of a backbone of one's own, which detectors do not stand on")
        voxels: CylindricalVoxels | CartesianVoxels = TypeAdapter(VoxelConfig).validate_python(about["voxels"])
        backbone: BackboneConfig = TypeAdapter(BackboneConfig).validate_python(about["backbone"])
        network: Detector = detector.build(backbone, Inputs(voxels))
    except (ValidationError, KeyError) as error:
        what = str(error).splitlines()[0]
        raise UserError(f"{weights.path}: describes a detector that this version does not know ({what})") from error
    load_network(network, weights)
    return network.eval(), weights


def _detector(described: Any, path: Path, own: OwnDetectorConfig | None) -> DetectorConfig:
    """The configuration of the detector that a file describes, or the one that was given for it."""
    name = described.get("name") if isinstance(described, dict) else None
    if own is not None and own.name == name:
        return own
    if is_own(described):
        raise UserError(
            f"{path}: is of the detector {name}; give its configuration, as olivine.load(..., detector={name}())"
        )
    found: DetectorConfig = TypeAdapter(DetectorConfig).validate_python(described)
    return found


def load_network(network: Detector, weights: Weights) -> LoadReport:
    """Copy a detector's weights into a network, all of them.

    Raises:
        UserError: they do not fit exactly; the network is then unchanged.
    """
    tensors = {f"backbone.{key}": value for key, value in weights.tensors.items()}
    for name, head in weights.heads.items():
        tensors |= {f"{name}.{key}": value for key, value in head.items()}
    return load_weights(network, Weights(weights.path, tensors, weights.about))


def load_encoder(encoder: Backbone, features: tuple[str, ...], source: Path | str | Weights) -> LoadReport:
    """Copy a pretrained backbone into a detector's encoder, its norms' statistics included, without its heads.

    Args:
        encoder: the encoder.
        features: the input features of its voxels, in order.
        source: a pretraining run, a weights file, or what was read of one.

    Returns:
        What matched: every entry of the encoder; of a VoxelNet they are 72.

    Raises:
        UserError: an entry is missing, left over or of another shape, or the weights are for other features; the
            encoder is then unchanged.
    """
    weights = source if isinstance(source, Weights) else read_weights(source)
    made_for = (weights.about.get("voxels") or {}).get("features")
    if made_for is not None and tuple(made_for) != features:
        raise UserError(
            f"{weights.path}: made for voxels.features=[{','.join(made_for)}], and the detector's are "
            f"[{','.join(features)}]; use those"
        )
    return load_weights(encoder, weights)
