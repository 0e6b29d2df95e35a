"""Checkpoints of MinkUNet34C as the Minkowski code bases publish them: a `.pt` file with a state dict inside.

SLidR and its successors store the 3-D network under `model_points`; others under `state_dict` or `model`, or plainly,
and data-parallel training puts `module.` before every name. Names and layouts of the tensors are otherwise those of our
own `MinkUNet`, so nothing is converted.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from olivine.backbones import BackboneConfig, MinkUNetConfig
from olivine.data.voxelize import CylindricalVoxels
from olivine.engine.files import write_bytes
from olivine.engine.weights import WEIGHTS_FILE, Weights, load_weights, read_weights, save_weights
from olivine.errors import UserError
from olivine.teachers.weights import read_checkpoint

_CONTAINERS = ("model_points", "state_dict", "model")
_STEM = "conv0p1s1.kernel"
_STEM_CHANNELS = 32
_HEAD = "final.kernel"
_DESCRIPTION = "olivine"


def export_minkowski(run: Path, out: Path) -> Path:
    """Write a run's weights as `{"model_points": state_dict, "olivine": description}`.

    Other projects read the first; `import_minkowski` reads both, so that nothing is lost on the way back.

    Args:
        run: run folder or weights file.
        out: the `.pt` file; must not exist.

    Raises:
        UserError: no weights there, the file exists, or it cannot be written.
    """
    if out.exists():
        raise UserError(f"{out}: exists; choose another file")
    buffer = io.BytesIO()
    weights = read_weights(run)
    torch.save({"model_points": weights.tensors, _DESCRIPTION: json.dumps(weights.about)}, buffer)
    write_bytes(out, buffer.getbuffer())
    return out


def import_minkowski(file: Path, out: Path) -> Path:
    """Read a published MinkUNet34C checkpoint into a folder of weights.

    A file of `export_minkowski` says what it is. Of others every tensor must fit a 34C whose width is read off the stem
    and which sees raw intensities on the published grid; recipes that use it set `voxels.intensity=raw`.

    Args:
        file: the checkpoint; unpickled with `weights_only=True`.
        out: folder to write `weights.safetensors` and `weights.json` to; must not hold any yet.

    Returns:
        Path of the weights.

    Raises:
        UserError: the file cannot be read or holds another network, or `out` holds weights already.
    """
    if (out / WEIGHTS_FILE).exists():
        raise UserError(f"{out / WEIGHTS_FILE}: exists; choose another folder")
    content = read_checkpoint(file)
    tensors = _state_dict(content, file)
    if _HEAD not in tensors:
        raise UserError(f"{file}: no head {_HEAD}; this is not a MinkUNet checkpoint")
    about = _described(content, file) or _guessed(tensors, file)
    config: MinkUNetConfig = TypeAdapter(BackboneConfig).validate_python(about["backbone"])
    class_head = any(key.startswith("final_class_level.") for key in tensors)
    network = config.build(about["in_channels"], tensors[_HEAD].shape[-1], class_head=class_head)
    load_weights(network, Weights(file, tensors, {}))
    return save_weights(out, network, about)


def _described(content: Mapping[str, Any], file: Path) -> dict[str, Any] | None:
    """What `export_minkowski` wrote of the weights, or None in a file of another project."""
    if _DESCRIPTION not in content:
        return None
    try:
        about = dict(json.loads(content[_DESCRIPTION]))
        if "backbone" not in about or "in_channels" not in about:
            return None
        TypeAdapter(BackboneConfig).validate_python(about["backbone"])
        int(about["in_channels"])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file}: cannot read its description {_DESCRIPTION!r} ({type(error).__name__})") from error
    return {**about, "source": file.name}


def _guessed(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Any]:
    """What a published checkpoint is, by the settings of the code bases that publish them."""
    _, in_channels, stem = tensors[_STEM].shape
    if in_channels != 1:
        raise UserError(
            f"{file}: takes {in_channels} input channels and does not say which; published ones take intensity"
        )
    return {
        "task": "imported",
        "backbone": MinkUNetConfig(width=stem / _STEM_CHANNELS).model_dump(mode="json"),
        "in_channels": 1,
        "voxels": CylindricalVoxels(intensity="raw").model_dump(mode="json"),
        "source": file.name,
    }


def _state_dict(content: Mapping[str, Any], file: Path) -> dict[str, Tensor]:
    """The network's tensors, out of the containers and prefixes that wrap them."""
    for name in _CONTAINERS:
        if isinstance(content.get(name), Mapping):
            content = content[name]
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    stems = [key for key in tensors if key.endswith(_STEM) and tensors[key].ndim == 3]
    if len(stems) != 1:
        found = f"{len(stems)} stems" if stems else "no stem"
        raise UserError(f"{file}: {found} {_STEM}; this is not a checkpoint of one MinkUNet")
    prefix = stems[0].removesuffix(_STEM)
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
