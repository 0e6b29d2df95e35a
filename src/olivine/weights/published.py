"""Reading teacher weights from local files, strictly.

Nothing is unpickled that could run code. A file either covers the whole encoder, name by name and shape by shape, or
is refused; what it holds besides (classifiers, projection heads) is named in what is reported.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from olivine.errors import UserError
from olivine.weights.plain_pickle import plain_globals

_DAMAGE = (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, struct.error, SafetensorError)
"""What torch's and safetensors' readers raise on a file that ends early or is none of theirs."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without unpickling code.

    Args:
        path: a `.safetensors` file, or a file that `torch.save` wrote.

    Returns:
        The mapping it holds, tensors on the CPU.

    Raises:
        UserError: the file is missing, damaged, holds objects other than plain data, or is not a mapping.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        # Published checkpoints keep their settings beside the tensors: arguments and single numbers are plain data.
        with torch.serialization.safe_globals(plain_globals()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = re.search(r"Unsupported (?:global: GLOBAL|class) ([\w.]+)", str(error))
        named = f" ({foreign[1]})" if foreign else ""
        raise UserError(
            f"{path}: not read, because it holds more than tensors and plain data{named}, or is no weights file; "
            "save its state_dict alone"
        ) from error
    except _DAMAGE as error:
        said = "" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        reason = said or "no file of weights"
        raise UserError(f"{path}: cannot read these weights ({reason})") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: expected a mapping of tensors, found {type(content).__name__}")
    return dict(content)


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> str:
    """Copy tensors into a module that they must cover entirely.

    Batch normalisation's step counter (`num_batches_tracked`), which a frozen network never reads, may be absent.

    Args:
        module: the encoder.
        tensors: tensors by the module's own names; names under none of its children are heads, and left unused.
        path: the file they came from, for messages.

    Returns:
        One line: how many tensors matched, and which were unused.

    Raises:
        UserError: a tensor is missing, of another shape, unknown under one of the module's children (as the deeper
            layers of a larger network would be), or not finite; the message names the first few.
    """
    expected = module.state_dict()
    needed = [name for name in expected if not name.endswith("num_batches_tracked")]
    children = {name for name, _ in module.named_children()}
    extra = [name for name in tensors if name not in expected]
    problems = {
        "missing": [name for name in needed if name not in tensors],
        "of another shape": [
            f"{name} {list(tensors[name].shape)} instead of {list(expected[name].shape)}"
            for name in needed
            if name in tensors and tensors[name].shape != expected[name].shape
        ],
        "unknown": [name for name in extra if name.partition(".")[0] in children],
    }
    found = [f"{len(names)} {kind} ({_some(names)})" for kind, names in problems.items() if names]
    if found:
        raise UserError(f"{path}: weights of another architecture or layout: {'; '.join(found)}")
    matched = {name: tensors[name] for name in expected if name in tensors}
    for name, value in matched.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UserError(f"{path}: {name} holds numbers that are not finite; the file is damaged, or of no use")
    module.load_state_dict({**expected, **matched})
    groups = Counter(name.partition(".")[0] for name in extra)
    unused = ", ".join(f"{name} ({count})" for name, count in groups.items())
    return f"{len(needed)} of {len(needed)} tensors matched" + (f", unused: {unused}" if unused else "")


def _some(names: list[str], most: int = 3) -> str:
    """The first few names."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
