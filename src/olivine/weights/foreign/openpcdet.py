"""Checkpoints of OpenPCDet: SECOND, PV-RCNN, and the sparse encoder of both alone.

Its file is a mapping whose `model_state` has the network's tensors: `backbone_3d.` the encoder, `backbone_2d.` the 2-D
network, `dense_head.` the anchor head, and `global_step`, a counter; in PV-RCNN also `pfe.` the set abstraction,
`point_head.` and `roi_head.`. Below these the names are ours. Loading one for training (`--pretrained_model`)
takes what fits and skips the rest in silence; here a file is all of what it says it is, or is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from olivine.backbones import VoxelNetConfig
from olivine.config import Config, from_overrides
from olivine.data.needs import Inputs
from olivine.data.voxelize import VoxelConfig
from olivine.detection.saved import describe_detector, load_detector
from olivine.detectors.parts.coder import DIRECTION_BINS
from olivine.detectors.pv_rcnn import PvRcnnConfig
from olivine.detectors.second import SecondConfig
from olivine.errors import UserError
from olivine.weights.file import Weights, check_finite, read_weights, save_weights
from olivine.weights.foreign.files import OtherLayoutError, below, described, opened, write_described
from olivine.weights.foreign.spconv_encoder import SpconvLayout, encoder_of, load_backbone

_STATE = "model_state"
_ENCODER, _OURS = "backbone_3d.", "encoder."
_SECOND = {"birds_eye": "backbone_2d.", "anchor_head": "dense_head."}
_HEADS = {
    "second": _SECOND,
    "pv_rcnn": {"set_abstraction": "pfe.", **_SECOND, "keypoint_head": "point_head.", "roi_head": "roi_head."},
}
"""What the parts behind the encoder are called in this layout, by detector; those of PV-RCNN are all there are."""
_COUNTER = "global_step"
_KITTI = (
    "voxels.name=cartesian voxels.size_m=[0.05,0.05,0.1] voxels.bounds_m=[0,-40,-3,70.4,40,1] "
    "voxels.features=[x,y,z,intensity] voxels.reduce=mean voxels.max_points=5 intensity_max=1"
)


class OpenPcdetSettings(Config):
    """What a file of OpenPCDet does not say of its network."""

    detector: Annotated[SecondConfig | PvRcnnConfig, Field(discriminator="name")] = SecondConfig()
    """The detector, whose name the file's parts tell; the defaults are the published one for KITTI."""
    voxels: VoxelConfig | None = None
    """The grid and the input features."""
    intensity_max: float | None = None
    """Top of the range of intensities of the data it was trained on: KITTI 1, nuScenes 255."""


@dataclass(frozen=True)
class FoundOpenPcdet:
    """What a file's tensors are.

    Attributes:
        weights: they under our names, without a description; without heads where the encoder is alone.
        detector: which detector they are of; None for an encoder alone.
        layout: the layout that the encoder had.
        channels: its input channels.
    """

    weights: Weights
    detector: str | None
    layout: SpconvLayout
    channels: int


def openpcdet_state(weights: Weights) -> dict[str, Tensor]:
    """Weights of ours under the names of OpenPCDet, in the layout of spconv 2.

    Args:
        weights: of a SECOND or PV-RCNN, or of a pretrained VoxelNet, whose heads are left out.

    Raises:
        UserError: they are of another backbone or detector.
    """
    encoder = below(weights.tensors, _OURS)
    if not encoder or len(encoder) != len(weights.tensors):
        raise UserError(f"{weights.path}: is of another backbone than voxelnet; OpenPCDet's layout has no names for it")
    detector = (weights.about.get("detector") or {}).get("name")
    if detector is not None and detector not in _HEADS:
        raise UserError(f"{weights.path}: is of the detector {detector}; OpenPCDet's layout has no names for its parts")
    state = {_COUNTER: torch.tensor([int(weights.about.get("steps") or 0)])}
    state |= {_ENCODER + key: value for key, value in encoder.items()}
    for name, theirs in _HEADS["pv_rcnn"].items():
        state |= {theirs + key: value for key, value in weights.heads.get(name, {}).items()}
    return state


def weights_of(state: Mapping[str, Tensor], file: Path) -> FoundOpenPcdet:
    """What OpenPCDet's tensors are as weights of ours.

    Args:
        state: tensors by name.
        file: the file they came from, for messages.

    Raises:
        UserError: they are of another network.
    """
    encoder, layout, channels = encoder_of(below(state, _ENCODER), file)
    parts = {key.partition(".")[0] + "." for key in state if key != _COUNTER} - {_ENCODER}
    names = [name for name, theirs in _HEADS.items() if parts == set(theirs.values())]
    if parts and not names:
        raise UserError(
            f"{file}: weights of another detector than SECOND and PV-RCNN: behind the encoder it has "
            f"{_listed(parts)}, SECOND {_listed(_SECOND.values())}, and PV-RCNN {_listed(_HEADS['pv_rcnn'].values())}"
        )
    detector = names[0] if names else None
    heads = {} if detector is None else {name: below(state, theirs) for name, theirs in _HEADS[detector].items()}
    body = {_OURS + key: value for key, value in encoder.items()}
    return FoundOpenPcdet(Weights(file, body, {}, heads), detector, layout, channels)


def _listed(parts: Iterable[str]) -> str:
    return ", ".join(sorted(part.removesuffix(".") for part in parts))


def export_openpcdet(run: Path, out: Path) -> Path:
    """Write a run's weights as `{"model_state": tensors, "olivine": description}`.

    OpenPCDet reads the first; `import_openpcdet` reads both, so that nothing is lost on the way back.

    Args:
        run: run folder or weights file, of a SECOND or PV-RCNN, or of a pretrained VoxelNet.
        out: the `.pth` file; must not exist.

    Raises:
        UserError: no weights there, they are of another network, the file exists, or it cannot be written.
    """
    weights = read_weights(run)
    return write_described(out, _STATE, openpcdet_state(weights), weights.about)


def import_openpcdet(file: Path, out: Path, overrides: Sequence[str] = ()) -> Path:
    """Read a checkpoint of SECOND or PV-RCNN, or of their encoder alone, into a folder of weights.

    Args:
        file: the checkpoint; unpickled with `weights_only=True`.
        out: folder to write `weights.safetensors` and `weights.json` to; must not hold any yet.
        overrides: `key=value` settings of `OpenPcdetSettings`, for what the file does not say; a file of
            `export_openpcdet` says all.

    Returns:
        Path of the weights.

    Raises:
        UserError: the file cannot be read, is damaged or holds another network, leaves something open that is not
            given, or `out` holds weights already.
    """
    content = opened(file, out)
    state = content.get(_STATE)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise OtherLayoutError(f"{file}: no mapping {_STATE!r} of tensors; this is not a checkpoint of OpenPCDet")
    tensors = {str(key): value for key, value in state.items()}
    check_finite(tensors, file)
    found = weights_of(tensors, file)
    about = described(content, tensors, file, overrides)
    if about is None:
        about = _stated(found, overrides)
    about["source"] = f"{file.name} (OpenPCDet, weights as of {found.layout})"
    return _save(replace(found.weights, about=about), out)


def _stated(found: FoundOpenPcdet, overrides: Sequence[str]) -> dict[str, Any]:
    """What a file of another project is, by its parts and what is given."""
    file, channels = found.weights.path, found.channels
    alone = found.detector is None
    if alone and any(override.startswith("detector") for override in overrides):
        raise UserError(f"{file}: holds an encoder alone; leave detector.* out")
    base = {} if alone else {"detector": {"name": found.detector}}
    settings = from_overrides(OpenPcdetSettings, overrides, str(file), base=base)
    voxels, top = settings.voxels, settings.intensity_max
    if voxels is None or top is None or not 0 < top < float("inf"):
        raise UserError(
            f"{file}: says neither which voxels its network takes nor the range of the intensities it was trained on; "
            f"for the published networks for KITTI add {_KITTI}"
        )
    if voxels.channels != channels:
        raise UserError(
            f"{file}: its network takes {channels} input channels, and voxels.features names {voxels.channels} "
            f"({', '.join(voxels.features)}); give them in order, e.g. voxels.features=[x,y,z,intensity]"
        )
    about = describe_detector(settings.detector, VoxelNetConfig(), Inputs(voxels), top)
    if alone:
        del about["detector"], about["eval_max_voxels"]
        return {**about, "task": "imported"}
    if settings.detector.name != found.detector:
        raise UserError(
            f"{file}: holds detector {found.detector}, not detector {settings.detector.name}; leave detector.name out"
        )
    _check_classes(found.weights.heads["anchor_head"], settings.detector, file)
    return about


def _check_classes(head: Mapping[str, Tensor], detector: SecondConfig | PvRcnnConfig, file: Path) -> None:
    """Refuse scores of another number of classes than the detector has."""
    classes, bins = head.get("conv_cls.bias"), head.get("conv_dir_cls.bias")
    if classes is None or bins is None or bins.numel() % DIRECTION_BINS or bins.numel() == 0:
        raise UserError(f"{file}: weights of another detector than SECOND and PV-RCNN: its dense_head is another")
    found = classes.numel() / (bins.numel() // DIRECTION_BINS)
    if found != len(detector.classes):
        raise UserError(
            f"{file}: scores {found:g} classes, and the detector has {len(detector.classes)} "
            f"({', '.join(detector.classes)}); list those of the file, with their anchors, in detector.anchors"
        )


def _save(weights: Weights, out: Path) -> Path:
    """Write weights that fit the network they describe."""
    if weights.heads:
        network, _ = load_detector(weights)
        return save_weights(out, network.backbone, weights.about, network.heads)
    backbone = load_backbone(weights)
    return save_weights(out, backbone, weights.about)
