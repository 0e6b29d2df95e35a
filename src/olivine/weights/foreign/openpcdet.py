"""Checkpoints of OpenPCDet: SECOND, and its sparse encoder alone.

Its file is a mapping whose `model_state` has the network's tensors: `backbone_3d.` the encoder, `backbone_2d.` the 2-D
network, `dense_head.` the anchor head, and `global_step`, a counter. Loading one for training (`--pretrained_model`)
takes what fits and skips the rest in silence; here a file is all of what it says it is, or is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from olivine.backbones import VoxelNetConfig
from olivine.config import Config, from_overrides
from olivine.data.needs import Inputs
from olivine.data.voxelize import VoxelConfig
from olivine.detection.saved import describe_detector, load_detector
from olivine.detectors.parts.coder import DIRECTION_BINS
from olivine.detectors.second import SecondConfig
from olivine.errors import UserError
from olivine.weights.file import Weights, check_finite, read_weights, save_weights
from olivine.weights.foreign.files import below, described, opened, write_described
from olivine.weights.foreign.spconv_encoder import SpconvLayout, encoder_of, load_backbone

_STATE = "model_state"
_ENCODER, _OURS = "backbone_3d.", "encoder."
_HEADS = {"birds_eye": "backbone_2d.", "anchor_head": "dense_head."}
"""What our parts behind the encoder are called in this layout."""
_COUNTER = "global_step"
_KITTI = (
    "voxels.name=cartesian voxels.size_m=[0.05,0.05,0.1] voxels.bounds_m=[0,-40,-3,70.4,40,1] "
    "voxels.features=[x,y,z,intensity] voxels.reduce=mean voxels.max_points=5 intensity_max=1"
)


class OpenPcdetSettings(Config):
    """What a file of OpenPCDet does not say of its network."""

    detector: SecondConfig = SecondConfig()
    """The detector; the defaults are the published SECOND for KITTI."""
    voxels: VoxelConfig | None = None
    """The grid and the input features."""
    intensity_max: float | None = None
    """Top of the range of intensities of the data it was trained on: KITTI 1, nuScenes 255."""


def openpcdet_state(weights: Weights) -> dict[str, Tensor]:
    """Weights of ours under the names of OpenPCDet, in the layout of spconv 2.

    Args:
        weights: of a SECOND, or of a pretrained VoxelNet, whose heads are left out.

    Raises:
        UserError: they are of another backbone.
    """
    encoder = below(weights.tensors, _OURS)
    if not encoder or len(encoder) != len(weights.tensors):
        raise UserError(f"{weights.path}: is of another backbone than voxelnet; OpenPCDet's layout has no names for it")
    state = {_COUNTER: torch.tensor([int(weights.about.get("steps") or 0)])}
    state |= {_ENCODER + key: value for key, value in encoder.items()}
    for name, theirs in _HEADS.items():
        state |= {theirs + key: value for key, value in weights.heads.get(name, {}).items()}
    return state


def weights_of(state: Mapping[str, Tensor], file: Path) -> tuple[Weights, SpconvLayout, int]:
    """What OpenPCDet's tensors are as weights of ours, without a description.

    Args:
        state: tensors by name.
        file: the file they came from, for messages.

    Returns:
        The weights (with heads where they are of SECOND), the layout that the encoder had, and its input channels.

    Raises:
        UserError: they are of another network.
    """
    known = (_ENCODER, *_HEADS.values())
    strange = sorted({key.partition(".")[0] for key in state if key != _COUNTER and not key.startswith(known)})
    encoder, layout, channels = encoder_of(below(state, _ENCODER), file)
    heads = {name: below(state, theirs) for name, theirs in _HEADS.items()}
    held = [name for name, tensors in heads.items() if tensors]
    if strange or len(held) == 1:
        parts = f"its {', '.join(strange)}" if strange else f"its {_HEADS[held[0]]}* alone"
        raise UserError(f"{file}: weights of another detector than SECOND, which has not {parts}")
    body = {_OURS + key: value for key, value in encoder.items()}
    return Weights(file, body, {}, heads if held else {}), layout, channels


def export_openpcdet(run: Path, out: Path) -> Path:
    """Write a run's weights as `{"model_state": tensors, "olivine": description}`.

    OpenPCDet reads the first; `import_openpcdet` reads both, so that nothing is lost on the way back.

    Args:
        run: run folder or weights file, of a SECOND or of a pretrained VoxelNet.
        out: the `.pth` file; must not exist.

    Raises:
        UserError: no weights there, they are of another network, the file exists, or it cannot be written.
    """
    weights = read_weights(run)
    return write_described(out, _STATE, openpcdet_state(weights), weights.about)


def import_openpcdet(file: Path, out: Path, overrides: Sequence[str] = ()) -> Path:
    """Read a checkpoint of SECOND, or of its encoder alone, into a folder of weights.

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
        raise UserError(f"{file}: no mapping {_STATE!r} of tensors; this is not a checkpoint of OpenPCDet")
    tensors = {str(key): value for key, value in state.items()}
    check_finite(tensors, file)
    weights, layout, channels = weights_of(tensors, file)
    about = described(content, tensors, file, overrides)
    if about is None:
        about = _stated(weights, channels, file, overrides)
    about["source"] = f"{file.name} (OpenPCDet, weights as of {layout})"
    return _save(Weights(file, weights.tensors, about, weights.heads), out)


def _stated(weights: Weights, channels: int, file: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """What a file of another project is, by what is given."""
    settings = from_overrides(OpenPcdetSettings, overrides, str(file))
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
    if weights.heads:
        _check_classes(weights.heads["anchor_head"], settings.detector, file)
        return about
    del about["detector"]
    return {**about, "task": "imported"}


def _check_classes(head: Mapping[str, Tensor], detector: SecondConfig, file: Path) -> None:
    """Refuse scores of another number of classes than the detector has."""
    classes, bins = head.get("conv_cls.bias"), head.get("conv_dir_cls.bias")
    if classes is None or bins is None or bins.numel() % DIRECTION_BINS or bins.numel() == 0:
        raise UserError(f"{file}: weights of another detector than SECOND: its dense_head is another")
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
