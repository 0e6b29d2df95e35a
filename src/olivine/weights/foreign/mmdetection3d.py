"""MinkUNet of mmdetection3d, which computes it by TorchSparse, spconv or MinkowskiEngine: three layouts of one network.

Its network is ours with a stem of two 3×3×3 convolutions. Its modules are numbered (`conv_input.0`, `encoder.0.1`,
`decoder.3.0`), and what stands inside one differs by library, which shows in the names. So does the order of a
kernel's cells: MinkowskiEngine, as we, counts the first axis fastest; TorchSparse does in kernels of an odd size, but
counts the last axis fastest in those of an even size; spconv has an axis of the tensor for each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from olivine.backbones import MinkUNetConfig
from olivine.backbones.config import MinkUNetName
from olivine.errors import UserError
from olivine.weights.file import Weights, check_finite, read_weights
from olivine.weights.foreign.files import described, network_tensors, opened, write_described
from olivine.weights.foreign.minkunet import CLASSES, FIRST_KERNEL, FoundMinkUNet, check_described, save_stated

_STEM = (3, 3)
_CONTAINER, _BACKBONE, _HEAD = "state_dict", "backbone.", "decode_head.conv_seg."
_SIDES = {8: 2, 27: 3, 125: 5}
_PLACES = {
    "conv0p1s1": "conv_input.0",
    "bn0": "conv_input.0",
    "stem2.0": "conv_input.1",
    "stem2.1": "conv_input.1",
    "conv1p1s2": "encoder.0.0",
    "bn1": "encoder.0.0",
    "conv2p2s2": "encoder.1.0",
    "bn2": "encoder.1.0",
    "conv3p4s2": "encoder.2.0",
    "bn3": "encoder.2.0",
    "conv4p8s2": "encoder.3.0",
    "bn4": "encoder.3.0",
    "convtr4p16s2": "decoder.0.0",
    "bntr4": "decoder.0.0",
    "convtr5p8s2": "decoder.1.0",
    "bntr5": "decoder.1.0",
    "convtr6p4s2": "decoder.2.0",
    "bntr6": "decoder.2.0",
    "convtr7p2s2": "decoder.3.0",
    "bntr7": "decoder.3.0",
}
"""The module there that a convolution or norm of ours stands in; those of blocks follow from their numbers."""


@dataclass(frozen=True)
class Library:
    """How one of the libraries lays the network out.

    Attributes:
        name: what it is called in messages.
        parts: what a convolution (`conv`) and its norm (`norm`) are called in a module that is no residual block, and
            the parts of `BasicBlock` in one that is.
        weight: the name of a convolution's weight.
        norm: what stands before the entries of a norm.
        to: from our kernel, [K, C_in, C_out] or, of 1×1×1, [C_in, C_out], to its weight.
        back: the other way; a weight of another shape is returned as it is.
    """

    name: str
    parts: Mapping[str, str]
    weight: str
    norm: str
    to: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]

    def name_of(self, ours: str) -> str:
        """The name of an entry of our `MinkUNet`."""
        owner, _, statistic = ours.partition(".bn.")
        entry = f"{self.norm}{statistic}" if statistic else self.weight
        owner = owner.removesuffix(".kernel")
        if not owner.startswith("block"):
            return f"{_PLACES[owner]}.{self.parts['norm' if statistic else 'conv']}.{entry}"
        block, number, part = owner.split(".", 2)
        stage = int(block.removeprefix("block"))
        place = f"encoder.{stage - 1}.{int(number) + 1}" if stage <= 4 else f"decoder.{stage - 5}.1.{number}"
        return f"{place}.{self.parts[part]}.{entry}"


def _same(kernel: Tensor) -> Tensor:
    return kernel


def _even_turned(kernel: Tensor) -> Tensor:
    """A kernel of an even size with its cells in the order of the reversed axes; others as they are."""
    side = _SIDES.get(kernel.shape[0], 1)
    if kernel.dim() != 3 or side % 2:
        return kernel
    cells = kernel.view(side, side, side, *kernel.shape[1:])
    return cells.permute(2, 1, 0, 3, 4).flatten(0, 2).contiguous()


def _to_spconv(kernel: Tensor) -> Tensor:
    """[C_out, x, y, z, C_in]; the memory of a 1×1×1 kernel stays that of [C_in, C_out], as spconv reads it."""
    if kernel.dim() == 2:
        return kernel.reshape(kernel.shape[1], 1, 1, 1, kernel.shape[0])
    side = _SIDES[kernel.shape[0]]
    return kernel.view(side, side, side, *kernel.shape[1:]).permute(4, 2, 1, 0, 3).contiguous()


def _of_spconv(weight: Tensor) -> Tensor:
    if weight.dim() != 5:
        return weight
    if weight.shape[1:4] == (1, 1, 1):
        return weight.reshape(weight.shape[4], weight.shape[0])
    return weight.permute(3, 2, 1, 4, 0).flatten(0, 2).contiguous()


def _of_spconv_1(weight: Tensor) -> Tensor:
    """From [x, y, z, C_in, C_out]."""
    if weight.dim() != 5:
        return weight
    kernel = weight.permute(2, 1, 0, 3, 4).flatten(0, 2).contiguous()
    return kernel[0] if len(kernel) == 1 else kernel


TORCHSPARSE = Library(
    "TorchSparse",
    {
        "conv": "net.0",
        "norm": "net.1",
        "conv1": "net.0",
        "norm1": "net.1",
        "conv2": "net.3",
        "norm2": "net.4",
        "downsample.0": "downsample.0",
        "downsample.1": "downsample.1",
    },
    "kernel",
    "",
    _even_turned,
    _even_turned,
)
_NAMED = {name: name for name in ("conv1", "norm1", "conv2", "norm2", "downsample.0", "downsample.1")}
MINKOWSKI = Library(
    "MinkowskiEngine",
    _NAMED | {"conv": "net.0", "norm": "net.1", "downsample.0": "downsample.net.0", "downsample.1": "downsample.net.1"},
    "kernel",
    "bn.",
    _same,
    _same,
)
SPCONV = Library(
    "spconv 2",
    _NAMED | {"conv": "0", "norm": "1", "norm1": "bn1", "norm2": "bn2"},
    "weight",
    "",
    _to_spconv,
    _of_spconv,
)
_SPCONV_1 = Library("spconv 1", SPCONV.parts, SPCONV.weight, SPCONV.norm, _to_spconv, _of_spconv_1)


def export_mmdetection3d(run: Path, out: Path, library: Library) -> Path:
    """Write a run's weights as `{"state_dict": tensors, "olivine": description}`.

    A segmenter goes out with its head of classes, a pretrained backbone without its heads.

    Args:
        run: run folder or weights file, of a MinkUNet with `stem: [3, 3]`.
        out: the `.pth` file; must not exist.
        library: whose layout.

    Raises:
        UserError: no weights there, they are of another network, the file exists, or it cannot be written.
    """
    weights = read_weights(run)
    _check_ours(weights)
    state = {
        f"{_BACKBONE}{library.name_of(key)}": library.to(value) if key.endswith(".kernel") else value
        for key, value in weights.tensors.items()
    }
    head = weights.heads.get(CLASSES, {})
    if head:
        state[f"{_HEAD}weight"] = head["kernel"].T.contiguous()
        state[f"{_HEAD}bias"] = head["bias"].flatten()
    kept = {name: said for name, said in weights.about.get("heads", {}).items() if name == CLASSES}
    return write_described(out, _CONTAINER, state, {**weights.about, "heads": kept})


def _check_ours(weights: Weights) -> None:
    if FIRST_KERNEL not in weights.tensors:
        raise UserError(f"{weights.path}: is of another backbone than MinkUNet; this layout has no names for it")
    if "stem2.0.kernel" not in weights.tensors or weights.tensors[FIRST_KERNEL].shape[0] != 27:
        raise UserError(
            f"{weights.path}: mmdetection3d's MinkUNet begins with two convolutions of 3×3×3, and this one does not; "
            "train one with backbone.stem=[3,3]"
        )


def import_mmdetection3d(file: Path, out: Path, overrides: Sequence[str] = ()) -> Path:
    """Read a MinkUNet checkpoint of mmdetection3d into a folder of weights.

    The library is told by the names and shapes, and kernels are brought into our order. The head that scores classes
    comes along where its class set is named (`classes=semantickitti`), and is left out otherwise.

    Args:
        file: the checkpoint; unpickled with `weights_only=True`.
        out: folder to write `weights.safetensors` and `weights.json` to; must not hold any yet.
        overrides: `key=value` settings of `olivine.weights.foreign.stated.ImportSettings`, for what the file does not
            say; a file of `export_mmdetection3d` says all.

    Returns:
        Path of the weights.

    Raises:
        UserError: the file cannot be read, is damaged or holds another network, leaves something open that is not
            given, or `out` holds weights already.
    """
    content = opened(file, out)
    inner = content.get(_CONTAINER)
    state = inner if isinstance(inner, Mapping) else content
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    library, own = _library(tensors, file)
    body = _ours(own, library, file)
    head = {key.rpartition(_HEAD)[2]: value for key, value in tensors.items() if _HEAD in key}
    check_finite(head, file)
    found = FoundMinkUNet(file, body, _head(head, body, file))
    source = f"{file.name} (mmdetection3d, {library.name})"
    about = described(content, tensors, file, overrides)
    if about is not None:
        check_described(about, file)
        return found.save(out, {**about, "source": source})
    return save_stated(found, content, out, overrides, source)


def _library(tensors: Mapping[str, Tensor], file: Path) -> tuple[Library, dict[str, Tensor]]:
    """The library that a file is of, and the backbone's tensors by their own names."""
    by_spconv = SPCONV.name_of(FIRST_KERNEL)
    first = by_spconv if any(key.endswith(by_spconv) for key in tensors) else TORCHSPARSE.name_of(FIRST_KERNEL)
    own = network_tensors(tensors, (), first, "MinkUNet of mmdetection3d", file)
    if first == by_spconv:
        return (_SPCONV_1 if own[first].shape[:3] == (3, 3, 3) else SPCONV), own
    return (MINKOWSKI if MINKOWSKI.name_of("bn0.bn.weight") in own else TORCHSPARSE), own


@functools.cache
def _known() -> tuple[str, ...]:
    """The names of ours that any depth has."""
    with torch.device("meta"):
        networks = [MinkUNetConfig(name=name, stem=_STEM).of_channels(1) for name in get_args(MinkUNetName)]
    return tuple({key: None for network in networks for key in network.state_dict()})


def _ours(own: Mapping[str, Tensor], library: Library, file: Path) -> dict[str, Tensor]:
    """The backbone's tensors under our names, in our layout.

    Raises:
        UserError: one has no place in our network.
    """
    names = {library.name_of(key): key for key in _known()}
    strange = [key for key in own if key not in names]
    if strange:
        why = "" if not strange[0].startswith("point_transforms") else " (SPVCNN adds a network on points)"
        raise UserError(f"{file}: {strange[0]} has no place in MinkUNet; the file is of another network{why}")
    ours = {names[key]: value for key, value in own.items()}
    return {key: library.back(value) if key.endswith(".kernel") else value for key, value in ours.items()}


def _head(head: Mapping[str, Tensor], body: Mapping[str, Tensor], file: Path) -> dict[str, dict[str, Tensor]]:
    """The head that scores classes in our layout, if there is one."""
    if not head:
        return {}
    weight, bias = head.get("weight"), head.get("bias")
    last = body.get("bntr7.bn.weight")
    if weight is None or bias is None or len(head) != 2 or weight.dim() != 2:
        raise UserError(f"{file}: {_HEAD}* is no linear map with a weight and a bias; the file is of another network")
    if last is not None and weight.shape[1] != last.shape[0]:
        raise UserError(
            f"{file}: its head reads {weight.shape[1]} channels, and MinkUNet gives {last.shape[0]}; the file is of "
            "another network (MinkUNetBackboneV2 reads three scales)"
        )
    return {CLASSES: {"kernel": weight.T.contiguous(), "bias": bias[None]}}
