"""Pretrained networks of Hugging Face transformers, by folder or hub name: found, checked, loaded strictly.

Whatever name a recipe gives ends in one folder on this machine: the folder named, or the hub's own snapshot of one
commit. Everything is read from there, so a run needs no network once the files are in place. Weights are read from
safetensors only; nothing is unpickled, no code of a model's repository is run, and a file that does not cover the
whole network is refused. Teachers and labellers both get their networks here.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from olivine.errors import MissingExtraError, UserError

PATTERNS = ("*.json", "*.txt", "*.safetensors")
"""The files of a model that are fetched and read: configuration, vocabulary, weights."""

_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")

_DAMAGE = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError, SafetensorError)
"""What transformers raises on files that are damaged, incomplete or another model's; it changes with its version."""


@dataclass(frozen=True)
class ModelFiles:
    """A model's files on this machine.

    Attributes:
        name: as the recipe gives it.
        folder: where the files lie.
        commit: the hub's commit they are of; None for a folder that the recipe names itself.
    """

    name: str
    folder: Path
    commit: str | None

    @property
    def model_type(self) -> str:
        """The kind of network, by transformers' name for it.

        Raises:
            UserError: `config.json` is not JSON or does not say.
        """
        try:
            kind = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))["model_type"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{self.name}: {self.folder / 'config.json'} does not say its model_type") from error
        return str(kind)

    @property
    def weights(self) -> list[Path]:
        """The files that hold the weights, in their order."""
        return sorted(self.folder.glob("model*.safetensors"))

    def sha256_of(self, files: Iterable[Path]) -> str:
        """SHA-256 over some of the files, one after the other.

        Raises:
            UserError: one cannot be read.
        """
        digest = hashlib.sha256()
        for path in files:
            try:
                with path.open("rb") as file:
                    while block := file.read(1 << 22):
                        digest.update(block)
            except OSError as error:
                raise UserError(f"{self.name}: cannot read {path} ({error.strerror or error})") from error
        return digest.hexdigest()

    def provenance(self) -> dict[str, object]:
        """What identifies the model, wherever it lies: its name, and the hub's commit or the SHA-256 of every file.

        Of a folder it gives the last part of its path only, so that two machines say the same of the same files.

        Raises:
            UserError: a file cannot be read.
        """
        if self.commit is not None:
            return {"model": self.name, "commit": self.commit}
        files = sorted(path for pattern in PATTERNS for path in self.folder.glob(pattern))
        return {"model": self.folder.resolve().name, "sha256": {path.name: self.sha256_of([path]) for path in files}}


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its weights.

    Attributes:
        network: a module of transformers, frozen, in eval mode, float32, on the CPU.
        matched: number of its tensors that the file gave.
        unused: names of the file's tensors that the network has no place for.
    """

    network: Any
    matched: int
    unused: tuple[str, ...]


def find_model(name: str, *, revision: str | None = None, local_files_only: bool = False) -> ModelFiles:
    """Find a model's files, fetching them from the hub where they are missing and that is allowed.

    Args:
        name: a folder, or the model's name on the hub, `owner/name`.
        revision: commit, tag or branch on the hub; None for its main branch, and for a folder.
        local_files_only: look on this machine only; `HF_HUB_OFFLINE` in the environment does the same.

    Raises:
        MissingExtraError: transformers is not installed.
        UserError: there is no such folder, the hub's cache lacks the model and it may not or cannot be fetched, the
            weights are pickled, or a folder is given a revision; the message says what to fetch and where to.
    """
    library()  # without it, nobody should fetch gigabytes first
    folder = Path(name).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise UserError(f"{name}: a folder has no revision {revision!r}; leave the revision out")
        files = ModelFiles(name, folder, None)
    elif not _HUB_NAME.fullmatch(name):
        raise UserError(f"{name}: no such folder; give the folder of a model, or its name on the hub as owner/name")
    else:
        snapshot = _snapshot(name, revision, local_files_only=local_files_only or _offline())
        files = ModelFiles(name, snapshot, snapshot.name)
    _check_complete(files)
    return files


def library() -> Any:
    """The transformers library.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        # By its name, since a type checker that follows the import reads all of a very large library.
        return importlib.import_module("transformers")
    except ImportError as error:
        raise MissingExtraError("transformers", "vfm") from error


def load_network(files: ModelFiles, class_name: str, *, may_miss: Collection[str] = ()) -> LoadedNetwork:
    """Load a network strictly.

    Args:
        files: the model.
        class_name: name of its class in transformers.
        may_miss: children of the network that the file need not cover, since they are never run.

    Raises:
        MissingExtraError: transformers is not installed.
        UserError: the files are damaged or another network's, or lack some of the weights.
    """
    options = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True, "dtype": torch.float32}
    # Torch's random numbers stay as they are: transformers draws what a file does not cover.
    with _quiet(library()), torch.random.fork_rng(devices=[]):
        network, report = _from_pretrained(files, class_name, options)
    missing = list(report["missing_keys"])
    refuse_tensors(
        files,
        network,
        {
            "missing": [key for key in missing if key.partition(".")[0] not in may_miss],
            "of another shape": [str(key) for key in report["mismatched_keys"]],
        },
    )
    matched = len(network.state_dict()) - len(missing)
    return LoadedNetwork(network.eval().requires_grad_(False), matched, tuple(sorted(report["unexpected_keys"])))


def load_part(files: ModelFiles, class_name: str, **options: Any) -> Any:
    """What comes with a network: its tokenizer or image processor.

    Args:
        files: the model.
        class_name: name of the part's class in transformers.
        options: settings that replace those of the files.

    Raises:
        MissingExtraError: transformers is not installed.
        UserError: the files do not describe it.
    """
    return _from_pretrained(files, class_name, {"local_files_only": True, **options})


def refuse_tensors(files: ModelFiles, network: Any, problems: Mapping[str, list[str]]) -> None:
    """Refuse weights that do not fit their network.

    Args:
        files: the model.
        network: what was to take the weights.
        problems: names of tensors by what is wrong with them.

    Raises:
        UserError: there are any; it counts them and names the first few.
    """
    said = [f"{len(names)} {problem} ({_some(names)})" for problem, names in problems.items() if names]
    if said:
        kind = type(network).__name__
        raise UserError(f"{files.name}: {files.folder} has weights of another network than {kind}: {'; '.join(said)}")


def _from_pretrained(files: ModelFiles, class_name: str, options: Mapping[str, Any]) -> Any:
    transformers = library()
    try:
        return getattr(transformers, class_name).from_pretrained(files.folder, **options)
    except _DAMAGE as error:
        raise UserError(
            f"{files.name}: transformers cannot load {class_name} from {files.folder} ({_reason(error)})"
        ) from error


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _snapshot(name: str, revision: str | None, *, local_files_only: bool) -> Path:
    """The hub's folder of one commit of a model."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    try:
        folder = snapshot_download(
            name, revision=revision, local_files_only=local_files_only, allow_patterns=list(PATTERNS)
        )
    except GatedRepoError as error:
        raise UserError(
            f"{name}: its owner asks for consent; accept the licence on its page on the Hugging Face hub, then run "
            "`hf auth login`"
        ) from error
    except (OSError, ValueError, RuntimeError, HfHubHTTPError) as error:
        tried = "and may not be fetched (offline)" if local_files_only else f"and was not fetched ({_reason(error)})"
        at = f" --revision {revision}" if revision else ""
        raise UserError(
            f"{name}: no such folder, not in the model cache {constants.HF_HUB_CACHE} {tried}; where there is a "
            f"network, run: hf download {name}{at} --include '*.json' '*.txt' '*.safetensors' --local-dir FOLDER, "
            "and name that FOLDER instead"
        ) from error
    return Path(folder)


def _check_complete(files: ModelFiles) -> None:
    """Refuse a folder without the files that every model has."""
    folder = files.folder
    if not (folder / "config.json").is_file():
        raise UserError(f"{files.name}: {folder} holds no model: config.json is missing; fetch it")
    if files.weights:
        return
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    if pickled:
        raise UserError(
            f"{files.name}: {folder} has only pickled weights ({pickled[0]}), which are not read; "
            "fetch a revision with model.safetensors, or convert them on a machine you can spare "
            "(docs/guide/labels_vfm.md)"
        )
    raise UserError(f"{files.name}: {folder} holds no weights: model.safetensors is missing; fetch it")


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without transformers' own progress bars, which would stand between this package's lines."""
    log = transformers.utils.logging
    shown = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            log.enable_progress_bar()


def _reason(error: Exception) -> str:
    """What went wrong, on one line of bounded length."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _some(names: list[str], most: int = 3) -> str:
    """The first few names."""
    return ", ".join(sorted(names)[:most]) + (", …" if len(names) > most else "")
