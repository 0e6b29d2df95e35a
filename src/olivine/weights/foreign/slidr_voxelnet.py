"""VoxelNets as SLidR and OLIVINE publish them: their own trainers' files, with the encoder under its own names.

SLidR keeps the network under `model_points`, OLIVINE's trainer the whole of its module under `state_dict`, where the
network's names begin with `model_points.`. The heads, `final*`, are of pretraining and are left out; so are the other
networks of the module.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from olivine.backbones import VoxelNetConfig
from olivine.weights.file import Weights, save_weights
from olivine.weights.foreign.files import network_tensors, opened
from olivine.weights.foreign.minkowski import CONTAINERS
from olivine.weights.foreign.spconv_encoder import FIRST_WEIGHT, encoder_of, load_backbone
from olivine.weights.foreign.stated import stated

_HEADS = ("final", "final_class_level")


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
    content = opened(file, out)
    tensors = network_tensors(content, CONTAINERS, FIRST_WEIGHT, "VoxelNet", file)
    own = {key: value for key, value in tensors.items() if key.partition(".")[0] not in _HEADS}
    encoder, layout, channels = encoder_of(own, file)
    about = {
        **stated(content, channels, None, file, overrides).about,
        "backbone": VoxelNetConfig(extra_row=False).model_dump(mode="json"),  # as they were pretrained
        "source": f"{file.name} (weights as of {layout})",
    }
    body = {f"encoder.{key}": value for key, value in encoder.items()}
    return save_weights(out, load_backbone(Weights(file, body, about)), about)
