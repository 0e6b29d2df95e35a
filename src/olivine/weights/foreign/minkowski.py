"""Checkpoints of MinkUNet34C as the Minkowski code bases publish them: a `.pt` file with a state dict inside.

SLidR and its successors store the 3-D network under `model_points`; others under `state_dict` or `model`, or plainly,
and data-parallel training puts `module.` before every name. Names and layouts of the tensors are otherwise those of our
own `MinkUNet`; its heads, which there are parts of the network, are called `final` and `final_class_level`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from olivine.backbones import PRETRAINING_MOMENTUM, MinkUNet
from olivine.backbones.minkunet import LAYERS_34, PLANES_C
from olivine.errors import UserError
from olivine.sparse import Convolution, SparseTensor
from olivine.weights.file import Weights, read_weights
from olivine.weights.foreign.files import below, described, network_tensors, opened, write_described
from olivine.weights.foreign.minkunet import CLASSES, FIRST_KERNEL, FoundMinkUNet, check_described, save_stated

CONTAINERS = ("model_points", "state_dict", "model")
"""Where the code bases of this layout keep the network."""

_NAMES = {"point": "final", "classes": "final", "class": "final_class_level"}
"""What our heads are called in this layout."""


class PublishedMinkUNet(MinkUNet):
    """The published network as it is published: our backbone with its heads, on a sparse tensor.

    Args:
        in_channels: channels of the input voxels.
        out_channels: channels of each head.
        class_head: whether to add the second, class-level head.
        normalize: whether heads end in L2-normalised rows. As in the published network there is no epsilon: a zero row
            becomes NaN.
        planes, layers, width, stem, momentum: as of `MinkUNet`; by default those of MinkUNet34C.
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
        stem: Sequence[int] = (3,),
        momentum: float = PRETRAINING_MOMENTUM,
    ) -> None:
        super().__init__(in_channels, planes=planes, layers=layers, width=width, stem=stem, momentum=momentum)
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
    weights = read_weights(run)
    return write_described(out, CONTAINERS[0], published_state(weights), weights.about)


def import_minkowski(file: Path, out: Path, overrides: Sequence[str] = ()) -> Path:
    """Read a MinkUNet checkpoint into a folder of weights.

    A file of `export_minkowski` says what it is. In others every tensor must fit one of the known depths, whose width,
    stem and inputs are read off the shapes; what they say of their voxels and intensities is taken, and what they
    leave open has to be given (see `olivine.weights.foreign.stated`).

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
    content = opened(file, out)
    tensors = network_tensors(content, CONTAINERS, FIRST_KERNEL, "MinkUNet", file)
    about = described(content, tensors, file, overrides)
    if about is None:
        return save_stated(found_in(tensors, file), content, out, overrides, file.name, unnamed="point")
    check_described(about, file)
    scores = about.get("task") == "segmentation" or CLASSES in about.get("heads", {})
    return found_in(tensors, file, CLASSES if scores else "point").save(out, {**about, "source": file.name})


def found_in(tensors: dict[str, Tensor], file: Path, final: str = CLASSES) -> FoundMinkUNet:
    """The network that tensors of this layout are.

    Args:
        tensors: by the network's own names.
        file: the file they came from, for messages.
        final: our name of the head that is called `final` there.
    """
    theirs = {"final": final, "final_class_level": "class"}
    body = {key: value for key, value in tensors.items() if key.partition(".")[0] not in theirs}
    heads = {name: below(tensors, f"{other}.") for other, name in theirs.items()}
    return FoundMinkUNet(file, body, {name: head for name, head in heads.items() if head})
