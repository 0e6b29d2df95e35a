"""Pretrained transformers models by folder or hub name: found first, checked, then loaded from safetensors alone.

A hub name becomes the folder of its snapshot in the user's Hugging Face cache, fetched if the user allows it; from
there on both are the same. Nothing is unpickled, no code of a model's own is run, and a file that does not cover the
whole network is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from olivine.errors import MissingExtraError, UserError

WANTED = ("config.json", "preprocessor_config.json", "model*.safetensors", "model.safetensors.index.json")
"""The files of a model that are fetched: no pickles, no other framework's weights."""

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")

_REFUSALS = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError, SafetensorError)
"""What transformers raises on a folder that is damaged or none of its own; the type changes with its version."""


@dataclass(frozen=True)
class PretrainedFolder:
    """A folder with a model's `config.json` and safetensors.

    Attributes:
        path: the folder.
        name: what the user called it.
        about: where it is from and what its weights' hash is, in a few words.
    """

    path: Path
    name: str
    about: str


def find_pretrained(weights: str, *, revision: str | None = None, local_files_only: bool = False) -> PretrainedFolder:
    """The folder of a model.

    Args:
        weights: a folder with `config.json` and `model.safetensors`, or a name on the Hugging Face hub.
        revision: commit, tag or branch on the hub; None is the default branch, and the only choice for a folder.
        local_files_only: take a hub name from the cache on this machine alone.

    Raises:
        UserError: there is no such folder or model, it is gated, it cannot be fetched, or it has no safetensors.
    """
    folder = Path(weights).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise UserError(f"{weights}: a folder has no revision {revision!r}; leave the revision out")
        about = f"weights of {weights}"
    else:
        folder = _snapshot(weights, revision, local_files_only)
        about = f"{weights} at {folder.name}"
    return PretrainedFolder(folder, weights, f"{about} (sha256 {_hash_of(folder, weights)[:16]})")


def _snapshot(name: str, revision: str | None, local_files_only: bool) -> Path:
    """The folder of a hub name's snapshot in the cache, fetched where it is not there and may be fetched."""
    if not _HUB_NAME.fullmatch(name):
        raise UserError(f"{name}: no such folder, and not a hub name of the form owner/model")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    try:
        path = snapshot_download(
            name, revision=revision, local_files_only=local_files_only, allow_patterns=list(WANTED)
        )
    except GatedRepoError as error:
        raise UserError(
            f"{name}: its owner asks for consent; accept the licence on its page on the Hugging Face hub, then run "
            "`hf auth login`"
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        where = "in the Hugging Face cache of this machine" if local_files_only else "here or on the Hugging Face hub"
        reason = " ".join(str(error).split()).partition(". ")[0][:160]
        raise UserError(
            f"{name}: no such folder, and no such model {where} ({reason}); fetch it with `hf download {name}` where "
            "there is a network, or name a folder with its config.json and model.safetensors"
        ) from error
    return Path(path)


def _hash_of(folder: Path, name: str) -> str:
    """SHA-256 over the weights of a folder, after a look whether all that is needed is there."""
    files = sorted(folder.glob("model*.safetensors"))
    absent = "config.json" if not (folder / "config.json").is_file() else "" if files else "model.safetensors"
    if absent:
        raise UserError(f"{name}: {folder} has no {absent}; it needs config.json and model.safetensors (no pickles)")
    digest = hashlib.sha256()
    try:
        for file in files:
            with file.open("rb") as content:
                while block := content.read(1 << 22):
                    digest.update(block)
    except OSError as error:
        raise UserError(f"{name}: cannot read {file} ({error.strerror or error})") from error
    return digest.hexdigest()


def load_pretrained(found: PretrainedFolder, *, may_miss: Collection[str] = ()) -> tuple[Any, str]:
    """Load a model with transformers' `AutoModel`, in float32, strictly.

    Args:
        found: its folder.
        may_miss: children of the model that the file need not cover, since they are never run.

    Returns:
        The model, a `transformers.PreTrainedModel` in eval mode, and one line: how many tensors matched and which
        were unused.

    Raises:
        MissingExtraError: transformers is not installed.
        UserError: this is no model that transformers knows, its file is damaged, or it does not cover the network.
    """
    try:
        from transformers import AutoModel
    except ImportError as error:
        raise MissingExtraError("transformers", "vfm") from error
    try:
        # Torch's random numbers stay as they are: transformers draws what a file does not cover.
        with torch.random.fork_rng(devices=[]):
            model, report = AutoModel.from_pretrained(
                found.path, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
    except _REFUSALS as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{found.name}: transformers cannot load this model ({reason})") from error
    children = {name for name, _ in model.named_children()}
    unused = [name for name in report["unexpected_keys"] if not name.endswith("mask_token")]
    problems = {
        "missing": [name for name in report["missing_keys"] if name.partition(".")[0] not in may_miss],
        "of another shape": [str(entry) for entry in report["mismatched_keys"]],
        "unknown": [name for name in unused if name.partition(".")[0] in children],
    }
    found_problems = [f"{len(names)} {kind} ({_some(names)})" for kind, names in problems.items() if names]
    if found_problems:
        raise UserError(f"{found.name}: weights of another architecture: {'; '.join(found_problems)}")
    count = len(model.state_dict()) - len(report["missing_keys"])
    heads = sorted({name.partition(".")[0] for name in unused})
    matched = f"{count} tensors matched" + (f", unused: {', '.join(heads)}" if heads else "")
    return model.float().eval(), matched


def pixel_statistics(folder: Path, name: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation [3] each, RGB in 0…1, that a model's processor normalises by, where it says so.

    Raises:
        UserError: its `preprocessor_config.json` is damaged.
    """
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return None
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        mean, std = (tuple(float(value) for value in settings[key]) for key in ("image_mean", "image_std"))
    except KeyError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{name}: cannot read {path} ({error})") from error
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise UserError(f"{name}: {path} needs three means and three positive deviations, has {mean} and {std}")
    return mean, std


def _some(names: list[str], most: int = 3) -> str:
    """The first few names."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
