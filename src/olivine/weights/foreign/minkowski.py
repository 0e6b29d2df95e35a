"""Checkpoints of MinkUNet34C as the Minkowski code bases publish them: a `.pt` file with a state dict inside.

SLidR and its successors store the 3-D network under `model_points`; others under `state_dict` or `model`, or plainly,
and data-parallel training puts `module.` before every name. Names and layouts of the tensors are otherwise those of our
own `MinkUNet`; its heads, which there are parts of the network, are called `final` and `final_class_level`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import TypeAdapter
from torch import Tensor

from olivine.backbones import PRETRAINING_MOMENTUM, Head, MinkUNet, MinkUNetConfig
from olivine.backbones.minkunet import LAYERS_34, PLANES_C
from olivine.data.voxelize import VoxelConfig
from olivine.errors import UserError
from olivine.files import write_bytes
from olivine.sparse import Convolution, SparseTensor
from olivine.weights.file import (
    WEIGHTS_FILE,
    Weights,
    check_finite,
    digest_of,
    load_weights,
    read_weights,
    save_weights,
)
from olivine.weights.foreign.stated import inputs_of
from olivine.weights.published import read_checkpoint

_CONTAINERS = ("model_points", "state_dict", "model")
_STEM = "conv0p1s1.kernel"
_STEM_CHANNELS = 32
_HEAD = "final.kernel"
_NAMES = {"point": "final", "classes": "final", "class": "final_class_level"}
"""What our heads are called in this layout."""
_DESCRIPTION = "olivine"
_DEPTHS: tuple[Literal["minkunet34c", "minkunet18a", "minkunet14a"], ...] = (
    "minkunet34c",
    "minkunet18a",
    "minkunet14a",
)


class PublishedMinkUNet(MinkUNet):
    """The published network as it is published: our backbone with its heads, on a sparse tensor.

    Args:
        in_channels: channels of the input voxels.
        out_channels: channels of each head.
        class_head: whether to add the second, class-level head.
        normalize: whether heads end in L2-normalised rows. As in the published network there is no epsilon: a zero row
            becomes NaN.
        planes, layers, width, momentum: as of `MinkUNet`; by default those of MinkUNet34C.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        class_head: bool = False,
        normalize: bool = False,
        planes: Sequence[int] = PLANES_C,
        layers: Sequence[int] = LAYERS_34,
        width: float = 1.0,
        momentum: float = PRETRAINING_MOMENTUM,
    ) -> None:
        super().__init__(in_channels, planes=planes, layers=layers, width=width, momentum=momentum)
        self.normalize = normalize
        self.final = Convolution(self.channels, out_channels, 1, bias=True)
        self.final_class_level = Convolution(self.channels, out_channels, 1, bias=True) if class_head else None

    def forward(self, tensor: SparseTensor) -> SparseTensor | tuple[SparseTensor, SparseTensor]:  # type: ignore[override]
        """[N, in_channels] → [N, out_channels], or a pair (point level, class level) of them with a class head."""
        features = self.forward_features(tensor)
        point_level = self._head(self.final, features)
        if self.final_class_level is None:
            return point_level
        return point_level, self._head(self.final_class_level, features)

    def _head(self, head: Convolution, features: SparseTensor) -> SparseTensor:
        out: SparseTensor = head(features)
        if not self.normalize:
            return out
        return out.replace(out.features / torch.linalg.vector_norm(out.features, dim=1, keepdim=True))


def published_state(weights: Weights) -> dict[str, Tensor]:
    """Weights of ours under the names of this layout.

    Raises:
        UserError: they have a head that the layout has no name for.
    """
    strange = sorted(weights.heads.keys() - _NAMES.keys())
    if strange:
        raise UserError(f"{weights.path}: its head {strange[0]!r} has no name in this layout")
    heads = {f"{_NAMES[name]}.{key}": value for name, head in weights.heads.items() for key, value in head.items()}
    return {**weights.tensors, **heads}


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
    tensors = published_state(weights)
    about = {**weights.about, "digest": digest_of(tensors, weights.about)}
    torch.save({"model_points": tensors, _DESCRIPTION: json.dumps(about)}, buffer)
    write_bytes(out, buffer.getbuffer())
    return out


def import_minkowski(file: Path, out: Path, overrides: Sequence[str] = ()) -> Path:
    """Read a MinkUNet checkpoint into a folder of weights.

    A file of `export_minkowski` says what it is. In others every tensor must fit one of the known depths, whose width
    and inputs are read off the stem; what they say of their voxels and intensities is taken, and what they leave open
    has to be given (see `olivine.weights.foreign.stated`).

    Args:
        file: the checkpoint; unpickled with `weights_only=True`.
        out: folder to write `weights.safetensors` and `weights.json` to; must not hold any yet.
        overrides: `key=value` settings of `ImportSettings`, for what the file does not say.

    Returns:
        Path of the weights.

    Raises:
        UserError: the file cannot be read, is damaged or holds another network, leaves something open that is not
            given, or `out` holds weights already.
    """
    if (out / WEIGHTS_FILE).exists():
        raise UserError(f"{out / WEIGHTS_FILE}: exists; choose another folder")
    content = read_checkpoint(file)
    tensors = _state_dict(content, file)
    if _HEAD not in tensors:
        raise UserError(f"{file}: no head {_HEAD}; this is not a MinkUNet checkpoint")
    about = _described(content, tensors, file)
    if about is None:
        about = _foreign(content, tensors, file, overrides)
    elif overrides:
        raise UserError(f"{file}: says itself what it is; leave {overrides[0].partition('=')[0]} out")
    network = MinkUNetConfig.model_validate(about["backbone"]).of_channels(about["in_channels"])
    check_finite(tensors, file)
    wanted = {"final": "classes" if about.get("task") == "segmentation" else "point", "final_class_level": "class"}
    body = {key: value for key, value in tensors.items() if key.partition(".")[0] not in wanted}
    load_weights(network, Weights(file, body, {}))
    unit = {name: bool(said.get("normalized")) for name, said in about.get("heads", {}).items()}
    heads = {}
    for theirs, name in wanted.items():
        own = {key.removeprefix(f"{theirs}."): value for key, value in tensors.items() if key.startswith(f"{theirs}.")}
        if own:
            heads[name] = Head(network.channels, own["kernel"].shape[-1], unit=unit.get(name, False))
            load_weights(heads[name], Weights(file, own, {}))
    return save_weights(out, network, about, heads)


def _described(content: Mapping[str, Any], tensors: dict[str, Tensor], file: Path) -> dict[str, Any] | None:
    """What `export_minkowski` wrote of the weights, or None in a file of another project."""
    if _DESCRIPTION not in content:
        return None
    try:
        about = dict(json.loads(content[_DESCRIPTION]))
        digest = about.pop("digest", None)
        if not about.keys() >= {"backbone", "in_channels", "voxels"}:
            return None
        MinkUNetConfig.model_validate(about["backbone"])
        TypeAdapter(VoxelConfig).validate_python(about["voxels"])
        int(about["in_channels"])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file}: cannot read its description {_DESCRIPTION!r} ({type(error).__name__})") from error
    if digest is not None and digest != digest_of(tensors, about):
        raise UserError(f"{file}: damaged: its content is not what its own digest says; copy or export it anew")
    return {**about, "source": file.name}


def _foreign(
    content: Mapping[str, Any], tensors: dict[str, Tensor], file: Path, overrides: Sequence[str]
) -> dict[str, Any]:
    """What a checkpoint of another project is, by its shapes, its own settings and those given."""
    _, in_channels, stem = tensors[_STEM].shape
    voxels, intensity_max = inputs_of(content, in_channels, file, overrides)
    return {
        "task": "imported",
        "backbone": _backbone(tensors, stem / _STEM_CHANNELS).model_dump(mode="json"),
        "in_channels": in_channels,
        "voxels": voxels.model_dump(mode="json"),
        "intensity_max": intensity_max,
        "source": file.name,
    }


def _backbone(tensors: Mapping[str, Tensor], width: float) -> MinkUNetConfig:
    """The depth whose shapes are those of the file; where none is, the published one, which says what does not fit."""
    body = {key: value.shape for key, value in tensors.items() if not key.startswith("final")}
    for name in _DEPTHS:
        config = MinkUNetConfig(name=name, width=width)
        with torch.device("meta"):
            state = config.of_channels(tensors[_STEM].shape[1]).state_dict()
        if body == {key: value.shape for key, value in state.items()}:
            return config
    return MinkUNetConfig(name=_DEPTHS[0], width=width)


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
