"""Checkpoints of MinkUNet34C as the Minkowski code bases publish them: a `.pt` file with a state dict inside.

SLidR and its successors store the 3-D network under `model_points`; others under `state_dict` or `model`, or plainly.
Names and layouts of the tensors are those of our own `MinkUNet`, so nothing is converted.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from olivine.backbones import MinkUNetConfig
from olivine.data.voxelize import CylindricalVoxels
from olivine.engine.files import write_bytes
from olivine.engine.weights import Weights, load_weights, read_weights, save_weights
from olivine.errors import UserError

_CONTAINERS = ("model_points", "state_dict", "model")
_PREFIXES = ("module.", "backbone.")
_STEM = "conv0p1s1.kernel"
_STEM_CHANNELS = 32


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
        out: folder to write `weights.safetensors` and `weights.json` to.

    Returns:
        Path of the weights.

    Raises:
        UserError: the file cannot be read or holds another network.
    """
    tensors = _state_dict(file)
    _, in_channels, stem = tensors[_STEM].shape
    heads = {key: value for key, value in tensors.items() if key == "final.kernel"}
    if not heads:
        raise UserError(f"{file}: no head final.kernel; this is not a MinkUNet checkpoint")
    config = MinkUNetConfig(width=stem / _STEM_CHANNELS)
    class_head = any(key.startswith("final_class_level.") for key in tensors)
    network = config.build(in_channels, heads["final.kernel"].shape[-1], class_head=class_head)
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
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise UserError(f"{file}: cannot read this checkpoint ({str(error).splitlines()[0]})") from error
    for name in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping):
        raise UserError(f"{file}: holds {type(content).__name__}, not a state dict")
    tensors = {_bare(str(key)): value for key, value in content.items() if isinstance(value, Tensor)}
    if _STEM not in tensors or tensors[_STEM].ndim != 3:
        raise UserError(f"{file}: no stem {_STEM}; this is not a MinkUNet checkpoint")
    return tensors


def _bare(key: str) -> str:
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return key
