"""Published networks, loaded with Hugging Face transformers from a folder or by their hub name.

Whatever name a recipe gives ends in one folder on this machine: the folder named, or the hub's own snapshot of one
commit. Everything is read from there, so a run needs no network once the files are in place. Weights are read from
safetensors only; nothing is unpickled, and no code of a model's repository is run.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError

from olivine.config import Config
from olivine.errors import MissingExtraError, UserError

Precision = Literal["fp32", "fp16", "bf16"]
"""Number format of a network's forward pass."""

PATTERNS = ("*.json", "*.txt", "*.safetensors")
"""The files of a model that are fetched and read: configuration, vocabulary, weights."""

IMAGE_PROCESSORS = {
    "grounding-dino": "GroundingDinoImageProcessorPil",
    "mask2former": "Mask2FormerImageProcessorPil",
    "oneformer": "Mask2FormerImageProcessorPil",
    "sam": "SamImageProcessorPil",
    "sam2": "ViTImageProcessorPil",
    "sam2_video": "ViTImageProcessorPil",
    "segformer": "ViTImageProcessorPil",
}
"""Which of transformers' image processors prepares images, by model type.

Those that resize with Pillow, whether torchvision is installed or not: the two resize differently, and masks are not
to depend on what else is installed. Where a model has none of its own, one that takes the same steps stands in; the
numbers (sizes, means) are the model's.
"""

_UNLIKE_THE_STAND_IN = {"oneformer": {"size_divisor": 0}}
"""What a model does otherwise than the image processor that stands in for its own, and does not say in its files."""

_DAMAGE = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, SafetensorError)
"""What transformers raises on files that are damaged, incomplete or another model's."""


class NetworkConfig(Config):
    """What all labellers that hold networks share."""

    local_files_only: bool = False
    """Never ask the hub, even for a model that is not on this machine; the variable HF_HUB_OFFLINE=1 does the same."""
    precision: Precision = "fp32"
    """Number format of the forward passes; `fp16` and `bf16` need a CUDA device."""


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
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.name}: {self.folder / 'config.json'} does not say its model_type") from error
        return str(kind)

    def provenance(self) -> dict[str, object]:
        """What identifies the weights: the hub's commit, or the SHA-256 of every file that is read."""
        if self.commit is not None:
            return {"model": self.name, "commit": self.commit}
        files = sorted(path for pattern in PATTERNS for path in self.folder.glob(pattern))
        return {"model": self.name, "sha256": {path.name: _sha256(path) for path in files}}


def find_model(name: str, *, revision: str | None = None, local_files_only: bool = False) -> ModelFiles:
    """Find a model's files, fetching them from the hub where they are missing and that is allowed.

    Args:
        name: a folder, or the model's name on the hub, `owner/name`.
        revision: commit, tag or branch on the hub; None for its main branch, and for a folder.
        local_files_only: look on this machine only; `HF_HUB_OFFLINE` in the environment does the same.

    Raises:
        UserError: there is no such folder, the hub's cache lacks the model and it may not or cannot be fetched, the
            weights are pickled, or a folder is given a revision; the message says what to fetch and where to.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise UserError(f"{name}: a folder has no revision {revision!r}; leave the revision out")
        files = ModelFiles(name, folder, None)
    elif name.startswith((".", "/", "~")) or name.count("/") != 1:
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


def load_network(files: ModelFiles, class_name: str, device: torch.device) -> Any:
    """A network with its weights, frozen, on `device`.

    Args:
        files: the model.
        class_name: name of its class in transformers.
        device: where it will run.

    Raises:
        MissingExtraError: transformers is not installed.
        UserError: the files are damaged or another network's, or lack some of the weights.
    """
    transformers = library()
    options = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True, "dtype": torch.float32}
    try:
        # Torch's random numbers stay as they are: transformers draws what a file does not cover.
        with _quiet(transformers), torch.random.fork_rng(devices=[]):
            network, report = getattr(transformers, class_name).from_pretrained(files.folder, **options)
    except _DAMAGE as error:
        raise UserError(f"{files.name}: cannot load {class_name} from {files.folder} ({_reason(error)})") from error
    missing = sorted(report["missing_keys"])
    if missing:
        some = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise UserError(f"{files.name}: {files.folder} lacks {len(missing)} weights of {class_name} ({some})")
    return network.eval().requires_grad_(False).to(device)


def load_image_processor(files: ModelFiles) -> Any:
    """What turns images into a network's input, with the model's own numbers.

    Raises:
        MissingExtraError: transformers is not installed.
        UserError: the model's files do not describe it, or its type is none of `IMAGE_PROCESSORS`.
    """
    kind = one_of(files, IMAGE_PROCESSORS)
    return _load_part(files, IMAGE_PROCESSORS[kind], **_UNLIKE_THE_STAND_IN.get(kind, {}))


def load_tokenizer(files: ModelFiles) -> Any:
    """What turns text into a network's input.

    Raises:
        MissingExtraError: transformers is not installed.
        UserError: the model's files do not hold a tokenizer.
    """
    return _load_part(files, "AutoTokenizer", trust_remote_code=False)


def one_of(files: ModelFiles, known: dict[str, str]) -> str:
    """The model's type, which must be one of `known`.

    Raises:
        UserError: it is another; the message lists those that can be used.
    """
    kind = files.model_type
    if kind not in known:
        raise UserError(f"{files.name}: a model of type {kind} cannot be used here; those that can: {', '.join(known)}")
    return kind


def check_precision(precision: Precision, device: torch.device) -> None:
    """Refuse half precision on a device that does not speed it up.

    Raises:
        UserError: `precision` is not fp32 and the device is not a GPU.
    """
    if precision != "fp32" and device.type != "cuda":
        raise UserError(f"labeller.precision: {precision} needs a CUDA device, this run is on {device}; set it to fp32")


def forward_context(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Inside it, matrix products and convolutions run in `precision`."""
    formats = {"fp16": torch.float16, "bf16": torch.bfloat16}
    return torch.autocast(device.type, formats[precision]) if precision in formats else nullcontext()


def versions() -> dict[str, str]:
    """The libraries whose versions may change a network's numbers, for provenance."""
    return {"torch": torch.__version__, "transformers": str(library().__version__)}


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _snapshot(name: str, revision: str | None, *, local_files_only: bool) -> Path:
    """The hub's folder of one commit of a model."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        folder = snapshot_download(
            name, revision=revision, local_files_only=local_files_only, allow_patterns=list(PATTERNS)
        )
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
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    if pickled:
        raise UserError(
            f"{files.name}: {folder} has only pickled weights ({pickled[0]}), which are not read; "
            "fetch a revision with model.safetensors, or convert them on a machine you can spare (docs/labels_vfm.md)"
        )
    raise UserError(f"{files.name}: {folder} holds no weights: model.safetensors is missing; fetch it")


def _load_part(files: ModelFiles, class_name: str, **options: Any) -> Any:
    try:
        part = getattr(library(), class_name)
        return part.from_pretrained(files.folder, local_files_only=True, **options)
    except _DAMAGE as error:
        raise UserError(f"{files.name}: cannot load {class_name} from {files.folder} ({_reason(error)})") from error


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


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    """What went wrong, on one line of bounded length."""
    return " ".join(str(error).split())[:200] or type(error).__name__
