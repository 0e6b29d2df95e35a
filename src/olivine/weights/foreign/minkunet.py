"""What importers of MinkUNet share: telling depth, width and stem by the shapes of tensors, and saving the network."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from olivine.backbones import Head, MinkUNetConfig
from olivine.backbones.config import MinkUNetName
from olivine.backbones.minkunet import STEM
from olivine.data.voxelize import VoxelConfig
from olivine.errors import UserError
from olivine.weights.file import Weights, describe_heads, load_weights, save_weights
from olivine.weights.foreign.stated import stated

FIRST_KERNEL = "conv0p1s1.kernel"
"""The name of MinkUNet's first weight, [cells, inputs, channels]."""

CLASSES = "classes"
"""Our name of the head that scores classes."""

_STEM_SIZES = {27: 3, 125: 5}
_SECOND_STEM = "stem2."


@dataclass(frozen=True)
class FoundMinkUNet:
    """A MinkUNet in a file of another project, in our names and layouts.

    Attributes:
        file: the file.
        body: tensors of the backbone.
        heads: tensors of each head, `kernel` and, where it has one, `bias`, by our name of the head.
    """

    file: Path
    body: dict[str, Tensor]
    heads: dict[str, dict[str, Tensor]]

    def save(self, out: Path, about: dict[str, Any]) -> Path:
        """Write it to a folder of weights.

        Args:
            out: the folder.
            about: what the weights are.

        Raises:
            UserError: a tensor is missing, left over or of another shape.
        """
        network = MinkUNetConfig.model_validate(about["backbone"]).of_channels(about["in_channels"])
        load_weights(network, Weights(self.file, self.body, {}))
        described = about.get("heads", {})
        heads = {}
        for name, tensors in self.heads.items():
            unit = bool(described.get(name, {}).get("normalized"))
            heads[name] = Head(network.channels, _outputs(tensors, name, self.file), unit=unit, bias="bias" in tensors)
            load_weights(heads[name], Weights(self.file, tensors, {}))
        return save_weights(out, network, about, heads)


def _outputs(head: Mapping[str, Tensor], name: str, file: Path) -> int:
    """How many numbers a head gives."""
    if "kernel" not in head or head["kernel"].dim() != 2:
        raise UserError(f"{file}: its head {name} is no linear map with a matrix as kernel")
    return int(head["kernel"].shape[1])


def config_of(body: Mapping[str, Tensor], file: Path) -> MinkUNetConfig:
    """The MinkUNet whose shapes are those of a file; where none is, the nearest, which says what does not fit.

    Args:
        body: tensors of the backbone by our names.
        file: the file, for messages.

    Raises:
        UserError: the first weight is missing, or of no known stem.
    """
    first = body.get(FIRST_KERNEL)
    if first is None or first.dim() != 3 or first.shape[0] not in _STEM_SIZES:
        found = "missing" if first is None else f"of shape {list(first.shape)}"
        raise UserError(f"{file}: {FIRST_KERNEL} is {found}; of MinkUNet it is [27 or 125, inputs, channels]")
    stem = [_STEM_SIZES[first.shape[0]]]
    second = body.get(f"{_SECOND_STEM}0.kernel")
    if second is not None:
        stem.append(_STEM_SIZES.get(second.shape[0], 3))
    wanted = {(key, value.shape) for key, value in body.items()}

    def strangers(config: MinkUNetConfig) -> int:
        return len(wanted ^ _entries(config, first.shape[1]))

    width = first.shape[2] / STEM
    names = get_args(MinkUNetName)
    return min((MinkUNetConfig(name=name, width=width, stem=tuple(stem)) for name in names), key=strangers)


@functools.lru_cache(maxsize=64)
def _entries(config: MinkUNetConfig, in_channels: int) -> frozenset[tuple[str, torch.Size]]:
    """Names and shapes of a network's entries."""
    with torch.device("meta"):
        state = config.of_channels(in_channels).state_dict()
    return frozenset((key, value.shape) for key, value in state.items())


def save_stated(
    found: FoundMinkUNet,
    content: Mapping[str, Any],
    out: Path,
    overrides: Sequence[str],
    source: str,
    *,
    unnamed: str | None = None,
) -> Path:
    """Write a MinkUNet that a file of another project holds to a folder of weights.

    Args:
        found: the network; its head `classes`, if it has one, may score classes.
        content: what the file holds beside it.
        out: the folder.
        overrides: `key=value` settings of `olivine.weights.foreign.stated.ImportSettings`.
        source: the file's name, and what is to be remembered of it.
        unnamed: what that head becomes where its class set is not named; None leaves it out.

    Raises:
        UserError: the tensors are of another network, or something is left open that is not given.
    """
    heads = dict(found.heads)
    head = heads.pop(CLASSES, None)
    config = config_of(found.body, found.file)
    scores = None if head is None else _outputs(head, CLASSES, found.file)
    said = stated(content, found.body[FIRST_KERNEL].shape[1], scores, found.file, overrides)
    about = {**said.about, "backbone": config.model_dump(mode="json"), "source": source}
    if head is not None and said.classes is not None:
        names = describe_heads({CLASSES: Head(1, said.classes.count)}, said.classes.names)
        about |= {"classes": said.classes.name, "out_channels": said.classes.count, "heads": names}
        heads[CLASSES] = head
    elif head is not None and unnamed is not None:
        heads[unnamed] = head
    return replace(found, heads=heads).save(out, about)


def check_described(about: Mapping[str, Any], file: Path) -> None:
    """Refuse a description of ours that is of no MinkUNet that this version knows.

    Raises:
        UserError: it is.
    """
    try:
        MinkUNetConfig.model_validate(about["backbone"])
        TypeAdapter(VoxelConfig).validate_python(about["voxels"])
        int(about["in_channels"])
    except (ValidationError, ValueError, TypeError) as error:
        raise UserError(f"{file}: describes a network that this version does not know ({_first(error)})") from error


def _first(error: Exception) -> str:
    return str(error).splitlines()[0]
