"""VoxelNets as SLidR and OLIVINE publish them: their own trainers' files, with the encoder under its own names.

SLidR keeps the network under `model_points`, OLIVINE's trainer the whole of its module under `state_dict`, where the
network's names begin with `model_points.`. The heads, `final*`, are of pretraining and are left out; so are the other
networks of the module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from olivine.backbones import VoxelNetConfig
from olivine.errors import UserError
from olivine.weights.file import WEIGHTS_FILE, Weights, check_finite, save_weights
from olivine.weights.foreign.spconv_encoder import FIRST_WEIGHT, below, encoder_of, load_backbone
from olivine.weights.foreign.stated import inputs_of
from olivine.weights.published import read_checkpoint

_CONTAINERS = ("model_points", "state_dict", "model")
_HEADS = "final"


def import_slidr_voxelnet(file: Path, out: Path, overrides: Sequence[str] = ()) -> Path:
    """Read a VoxelNet of SLidR or OLIVINE into a folder of weights.

    Args:
        file: the checkpoint; unpickled with `weights_only=True`.
        out: folder to write `weights.safetensors` and `weights.json` to; must not hold any yet.
        overrides: `key=value` settings of `olivine.weights.foreign.stated.ImportSettings`, for what the file does not
            say: bounds and features of the voxels, and what else is missing.

    Returns:
        Path of the weights.

    Raises:
        UserError: the file cannot be read, holds another network or not all of this one, leaves something open that is
            not given, or `out` holds weights already.
    """
    if (out / WEIGHTS_FILE).exists():
        raise UserError(f"{out / WEIGHTS_FILE}: exists; choose another folder")
    content = read_checkpoint(file)
    tensors = _network(content, file)
    check_finite(tensors, file)
    encoder, layout, channels = encoder_of(tensors, file)
    voxels, intensity_max = inputs_of(content, channels, file, overrides)
    about = {
        "task": "imported",
        "backbone": VoxelNetConfig(extra_row=False).model_dump(mode="json"),  # as they were pretrained
        "in_channels": channels,
        "voxels": voxels.model_dump(mode="json"),
        "intensity_max": intensity_max,
        "source": f"{file.name} (weights as of {layout})",
    }
    body = {f"encoder.{key}": value for key, value in encoder.items()}
    return save_weights(out, load_backbone(Weights(file, body, about)), about)


def _network(content: Mapping[str, Any], file: Path) -> dict[str, Tensor]:
    """The encoder's tensors, out of the containers and prefixes that wrap them."""
    for name in _CONTAINERS:
        if isinstance(content.get(name), Mapping):
            content = content[name]
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    first = [key for key in tensors if key.endswith(FIRST_WEIGHT)]
    if len(first) != 1:
        found = f"{len(first)} tensors" if first else "no tensor"
        raise UserError(f"{file}: {found} {FIRST_WEIGHT}; this is not a checkpoint of one VoxelNet")
    own = below(tensors, first[0].removesuffix(FIRST_WEIGHT))
    return {key: value for key, value in own.items() if not key.startswith(_HEADS)}
