"""Checkpoints of MinkUNet34C as the Minkowski code bases publish them: a `.pt` file with a state dict inside.

SLidR and its successors store the 3-D network under `model_points`; others under `state_dict` or `model`, or plainly,
and data-parallel training puts `module.` before every name. Names and layouts of the tensors are otherwise those of our
own `MinkUNet`, so nothing is converted.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from olivine.backbones import MinkUNetConfig
from olivine.data.voxelize import CylindricalVoxels
from olivine.engine.files import write_bytes
from olivine.engine.weights import WEIGHTS_FILE, Weights, load_weights, read_weights, save_weights
from olivine.errors import UserError
from olivine.teachers.weights import read_checkpoint

_CONTAINERS = ("model_points", "state_dict", "model")
_STEM = "conv0p1s1.kernel"
_STEM_CHANNELS = 32
_HEAD = "final.kernel"


def export_minkowski(run: Path, out: Path) -> Path:
    """Write a run's weights as `{"model_points": state_dict}`.

    Args:
        run: run folder or weights file.
        out: the `.pt` file; must not exist.

    Raises:
        UserError: no weights there, the file exists, or it cannot be written.
    """
    if out.exists():
        raise UserError(f"{out}: exists; choose another file")
    buffer = io.BytesIO()
    torch.save({"model_points": read_weights(run).tensors}, buffer)
    write_bytes(out, buffer.getbuffer())
    return out


def import_minkowski(file: Path, out: Path) -> Path:
    """Read a published MinkUNet34C checkpoint into a folder of weights.

    Every tensor must fit: depth is 34C, width and inputs are read off the stem. Published networks see raw
    intensities, so recipes that use the result set `voxels.intensity=raw`; the folder says so.

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
    tensors = _state_dict(file)
    _, in_channels, stem = tensors[_STEM].shape
    if _HEAD not in tensors:
        raise UserError(f"{file}: no head {_HEAD}; this is not a MinkUNet checkpoint")
    config = MinkUNetConfig(width=stem / _STEM_CHANNELS)
    class_head = any(key.startswith("final_class_level.") for key in tensors)
    network = config.build(in_channels, tensors[_HEAD].shape[-1], class_head=class_head)
    load_weights(network, Weights(file, tensors, {}))
    about = {
        "task": "imported",
        "backbone": config.model_dump(mode="json"),
        "in_channels": in_channels,
        "voxels": CylindricalVoxels(intensity="raw").model_dump(mode="json"),
        "source": file.name,
    }
    return save_weights(out, network, about)


def _state_dict(file: Path) -> dict[str, Tensor]:
    """The network's tensors, out of the containers and prefixes that wrap them."""
    content: Mapping[str, Any] = read_checkpoint(file)
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
