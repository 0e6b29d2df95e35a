"""The encoder VoxelBackBone8x in checkpoints of other projects, whose tensors have its own names.

spconv 1 keeps a convolution's weight as [z, y, x, in, out], spconv 2 and ours as [out, z, y, x, in]; which one a file
has shows in the shape of its first weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from olivine.backbones import VoxelNet, VoxelNetConfig
from olivine.data.needs import Inputs
from olivine.data.voxelize import CartesianVoxels, CylindricalVoxels, VoxelConfig
from olivine.errors import UserError
from olivine.weights.file import Weights, load_weights
from olivine.weights.foreign.files import OtherLayoutError

SpconvLayout = Literal["spconv 1", "spconv 2"]
"""Whose layout the weights have."""

FIRST_WEIGHT = "conv_input.0.weight"
"""The name, within the encoder, of its first weight."""

_FIRST_KERNEL = (3, 3, 3)
_FIRST_CHANNELS = 16


def encoder_of(tensors: Mapping[str, Tensor], file: Path) -> tuple[dict[str, Tensor], SpconvLayout, int]:
    """The encoder's tensors in our layout.

    Args:
        tensors: its tensors, by its own names.
        file: the file they came from, for messages.

    Returns:
        The tensors, whose layout they had, and how many input channels the encoder takes.

    Raises:
        UserError: the first weight is missing, or has no known layout.
    """
    first = tensors.get(FIRST_WEIGHT)
    if first is None:
        raise OtherLayoutError(f"{file}: no {FIRST_WEIGHT}; this is not a checkpoint of VoxelBackBone8x")
    shape = tuple(first.shape)
    if len(shape) == 5 and shape[:4] == (_FIRST_CHANNELS, *_FIRST_KERNEL):
        return dict(tensors), "spconv 2", shape[4]
    if len(shape) == 5 and shape[:3] == _FIRST_KERNEL and shape[4] == _FIRST_CHANNELS:
        turned = {key: value.permute(4, 0, 1, 2, 3) if value.dim() == 5 else value for key, value in tensors.items()}
        return turned, "spconv 1", shape[3]
    raise UserError(
        f"{file}: {FIRST_WEIGHT} is of shape {list(shape)}; of VoxelBackBone8x it is [16, 3, 3, 3, inputs] (spconv 2) "
        "or [3, 3, 3, inputs, 16] (spconv 1)"
    )


def load_backbone(weights: Weights) -> VoxelNet:
    """The VoxelNet that weights describe, with these weights.

    Raises:
        UserError: they describe none, or do not fit it exactly.
    """
    try:
        voxels: CylindricalVoxels | CartesianVoxels = TypeAdapter(VoxelConfig).validate_python(weights.about["voxels"])
        backbone = VoxelNetConfig.model_validate(weights.about["backbone"]).build(Inputs(voxels))
    except (ValidationError, KeyError) as error:
        what = str(error).splitlines()[0]
        raise UserError(f"{weights.path}: describes a network that this version does not know ({what})") from error
    load_weights(backbone, weights)
    return backbone
