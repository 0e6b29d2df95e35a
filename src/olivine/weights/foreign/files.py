"""Files of other projects: opening one, finding a network's tensors in it, and saying in one what its weights are.

What we export has, beside the tensors under the other project's names, a description of ours under `olivine`, with a
digest over both. Other projects pass it over; an importer reads it, and nothing has to be given.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from olivine.errors import UserError
from olivine.files import write_bytes
from olivine.weights.file import WEIGHTS_FILE, check_finite, digest_of
from olivine.weights.published import read_checkpoint

_DESCRIPTION = "olivine"


class OtherLayoutError(UserError):
    """A file has none of what a layout is told by."""


def opened(file: Path, out: Path) -> dict[str, Any]:
    """What a file holds, when its weights may go to a folder.

    Args:
        file: the checkpoint; unpickled with `weights_only=True`.
        out: the folder; must not hold weights yet.

    Raises:
        UserError: `out` holds weights, or the file cannot be read.
    """
    if (out / WEIGHTS_FILE).exists():
        raise UserError(f"{out / WEIGHTS_FILE}: exists; choose another folder")
    return read_checkpoint(file)


def network_tensors(
    content: Mapping[str, Any], containers: Sequence[str], first: str, network: str, file: Path
) -> dict[str, Tensor]:
    """A network's tensors by its own names, out of the containers and prefixes that wrap them.

    Args:
        content: what the file holds.
        containers: keys under which networks are kept, one inside the other, in this order.
        first: the network's own name of a tensor that it has once: what stands before it is the prefix of all.
        network: what the network is called in messages.
        file: the file, for messages.

    Raises:
        OtherLayoutError: there is no such tensor, or more than one.
        UserError: a number is not finite.
    """
    for name in containers:
        if isinstance(content.get(name), Mapping):
            content = content[name]
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    # The name alone, or behind a dot: `reconv_input.0.weight` is another layer's.
    found = [key for key in tensors if key == first or key.endswith(f".{first}")]
    if len(found) != 1:
        count = f"{len(found)} tensors" if found else "no tensor"
        raise OtherLayoutError(f"{file}: {count} {first}; this is not a checkpoint of one {network}")
    own = below(tensors, found[0].removesuffix(first))
    check_finite(own, file)
    return own


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def described(
    content: Mapping[str, Any], tensors: Mapping[str, Tensor], file: Path, overrides: Sequence[str]
) -> dict[str, Any] | None:
    """What `write_described` wrote of the weights; None in a file of another project, or where it says too little.

    Args:
        content: what the file holds.
        tensors: the tensors that were described, by the names they have in the file.
        file: the file, for messages.
        overrides: `key=value` settings that were given; a file that says itself what it is takes none.

    Raises:
        UserError: the description cannot be read, is of other tensors, or settings were given beside it.
    """
    if _DESCRIPTION not in content:
        return None
    try:
        about = dict(json.loads(content[_DESCRIPTION]))
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: cannot read its description {_DESCRIPTION!r} ({type(error).__name__})") from error
    digest = about.pop("digest", None)
    early = digest is None and "layout" not in about  # of our first files, which had neither
    if not early and digest != digest_of(tensors, about):
        raise UserError(f"{file}: damaged: its content is not what its own digest says; copy or export it anew")
    if not about.keys() >= {"backbone", "in_channels", "voxels"}:
        return None
    if overrides:
        raise UserError(f"{file}: says itself what it is; leave {overrides[0].partition('=')[0]} out")
    return about


def write_described(
    out: Path, container: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any], prefix: str = ""
) -> Path:
    """Write `{container: tensors, "olivine": description}`.

    Args:
        out: the file; must not exist.
        container: the key under which the other project looks for tensors.
        tensors: by the network's own names.
        about: what they are.
        prefix: what the other project has before the network's own names.

    Raises:
        UserError: the file exists or cannot be written.
    """
    if out.exists():
        raise UserError(f"{out}: exists; choose another file")
    buffer = io.BytesIO()
    described_as = json.dumps({**about, "digest": digest_of(tensors, about)})
    state = {f"{prefix}{key}": value for key, value in tensors.items()}
    torch.save({container: state, _DESCRIPTION: described_as}, buffer)
    write_bytes(out, buffer.getbuffer())
    return out
