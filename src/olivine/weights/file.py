"""Weights on disk: `weights.safetensors`, a backbone and its heads, which says what it holds, and `weights.json`.

The description (backbone, inputs, method, data, code) is stored inside the safetensors file as well, so the file can
be moved alone. Loading is strict: a key that was asked for and is not there, or has another shape, is an error, unless
partial loading is asked for by name.
"""

from __future__ import annotations

import functools
import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

import olivine
from olivine import __version__
from olivine.errors import OlivineWarning, UserError
from olivine.files import write_bytes, write_json

WEIGHTS_FILE = "weights.safetensors"
"""Name of the weights in a run folder."""

LAYOUT = 3
"""Number of the file's layout, in its description. From 2 on there is a digest, so that a description whose key was
damaged is missed; from 3 on the tensors of the backbone begin with `backbone.` and those of its heads with
`heads.<name>.`. Older files still load."""

_BACKBONE, _HEADS = "backbone.", "heads."
_OLD_HEADS = {"final": "point", "final_class_level": "class"}
"""What heads were called, as parts of the backbone, before layout 3; `final` was also that of classes."""

_SHOWN = 3


@dataclass(frozen=True)
class Weights:
    """Tensors read from a file, and what is known about them.

    Attributes:
        path: the safetensors file.
        tensors: by key of the backbone's `state_dict`, on the CPU.
        about: the description they were saved with; empty for a foreign file.
        heads: by name of the head, and key of its `state_dict`.
    """

    path: Path
    tensors: dict[str, Tensor]
    about: dict[str, Any]
    heads: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def head(self, name: str) -> Weights:
        """The weights of one head, for `load_weights`.

        Raises:
            UserError: there is no such head.
        """
        if name not in self.heads:
            raise UserError(f"{self.path}: has no head {name!r}; it has {', '.join(self.heads) or 'none'}")
        return Weights(self.path, self.heads[name], self.about)


@dataclass(frozen=True)
class LoadReport:
    """How a file fitted a module, over the keys that were asked for.

    Attributes:
        path: the file.
        matched: keys that were loaded.
        missing: keys of the module that the file lacks.
        unexpected: keys of the file that the module lacks.
        mismatched: keys in both, of different shapes: (key, shape in the file, shape in the module).
    """

    path: Path
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def complete(self) -> bool:
        """Every key that was asked for was found, in the right shape, and nothing was left over."""
        return bool(self.matched) and not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        asked = len(self.matched) + len(self.missing) + len(self.mismatched)
        parts = [f"{self.path}: {len(self.matched)} of {asked} keys match"]
        shapes = [f"{key} ({list(theirs)} in the file, {list(ours)} here)" for key, theirs, ours in self.mismatched]
        for title, keys in (("missing", self.missing), ("unexpected", self.unexpected), ("wrong shape", shapes)):
            if keys:
                rest = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
                parts.append(f"{title} {', '.join(keys[:_SHOWN])}{rest}")
        return "; ".join(parts)


def save_weights(
    folder: Path, backbone: nn.Module, about: dict[str, Any], heads: Mapping[str, nn.Module] | None = None
) -> Path:
    """Write the weights of a backbone and its heads, and their description.

    Args:
        folder: where `weights.safetensors` and `weights.json` go, a run folder for one.
        backbone: what is saved: its `state_dict`.
        about: what it is and how it was made (`backbone`, `in_channels`, `heads`, `method`, `data`, …), as plain JSON
            values; the version of the package and a hash of its source are added.
        heads: its heads by name.

    Returns:
        The path of the weights.

    Raises:
        UserError: a weight is not finite, the disk is full or the folder cannot be written.
    """
    path = folder / WEIGHTS_FILE
    about = {**about, "layout": LAYOUT, "olivine": __version__, "code": code_version()}
    parts = {_BACKBONE: backbone} | {f"{_HEADS}{name}.": head for name, head in (heads or {}).items()}
    tensors = {
        f"{prefix}{key}": value.detach().cpu().contiguous().clone()
        for prefix, part in parts.items()
        for key, value in part.state_dict().items()
    }
    check_finite(tensors, path)
    # One entry, since safetensors writes several in an order that changes from run to run.
    digested = {**about, "digest": digest_of(tensors, about)}
    data = save(tensors, metadata={"about": json.dumps(digested)})
    write_bytes(path, data, stale=path.with_suffix(".json"))
    write_json(path.with_suffix(".json"), {**about, "sha256": hashlib.sha256(data).hexdigest()})
    return path


def describe_heads(heads: Mapping[str, nn.Module], names: Sequence[str] | None = None) -> dict[str, Any]:
    """What heads are for, as `about["heads"]` has it.

    Args:
        heads: linear heads by name, which have `out_channels` and `unit`.
        names: the classes that the one head gives scores of, in order; None for heads that pretraining made.

    Returns:
        By name of the head: `for` ("classes" or "pretraining"), `channels`, `normalized` (whether its rows have length
        one), and `names` of the classes.
    """
    use: dict[str, Any] = {"for": "pretraining"} if names is None else {"for": "classes", "names": list(names)}
    return {name: {**use, "channels": head.out_channels, "normalized": head.unit} for name, head in heads.items()}


def read_weights(source: Path | str) -> Weights:
    """Read weights that `save_weights` wrote, or any safetensors file.

    Args:
        source: a run folder, any folder with `weights.safetensors`, or a `.safetensors` file.

    Raises:
        UserError: there are no weights, the file is damaged or not the one its description is of, or it holds numbers
            that are not finite.
    """
    path = _locate(Path(source))
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
            noted = file.metadata() or {}
        if "about" not in noted and any('"digest"' in value for value in noted.values()):
            raise ValueError("the name of its description is damaged")
        about = dict(json.loads(noted.get("about", "{}")))
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from error
    _check_whole(path, tensors, about)
    check_finite(tensors, path)
    return _parted(path, tensors, about)


def _parted(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> Weights:
    """The tensors of the backbone and of each head, under today's names."""
    layout = about.get("layout")
    if not isinstance(layout, int) or layout < LAYOUT:
        said = about.get("heads")
        if isinstance(said, dict):
            about = {**about, "heads": {_head_name(name, about) or name: head for name, head in said.items()}}
        tensors = {_renamed(key, about): value for key, value in tensors.items()}
    body = {key.removeprefix(_BACKBONE): value for key, value in tensors.items() if key.startswith(_BACKBONE)}
    heads: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(_HEADS):
            name, _, rest = key.removeprefix(_HEADS).partition(".")
            heads.setdefault(name, {})[rest] = value
    return Weights(path, body, about, heads)


def _renamed(key: str, about: Mapping[str, Any]) -> str:
    """The key that a tensor of an older layout, or of a foreign file, has today."""
    part, _, rest = key.partition(".")
    name = _head_name(part, about)
    return f"{_BACKBONE}{key}" if name is None else f"{_HEADS}{name}.{rest}"


def _head_name(part: str, about: Mapping[str, Any]) -> str | None:
    """What a head of an older layout is called today; None for what is none."""
    if part == "final" and about.get("task") == "segmentation":
        return "classes"
    return _OLD_HEADS.get(part)


def _check_whole(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Compare a file with the digests that were written with it; takes the one inside it out of its description.

    Files of other projects have none, nor have those from before digests were written, which is said.
    """
    digest = about.pop("digest", None)
    if digest is None and about and "layout" not in about:
        warnings.warn(
            f"{path}: has no digest, as those of earlier versions; damage to it would not be noticed",
            OlivineWarning,
            stacklevel=3,
        )
    elif about and digest != digest_of(tensors, about):
        raise UserError(f"{path}: damaged: its content is not what its own digest says; copy or make it anew")
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return
    try:
        said = json.loads(beside.read_text(encoding="utf-8")).get("sha256")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{beside}: cannot read this description of the weights ({error})") from error
    if said is not None and said != hashlib.sha256(path.read_bytes()).hexdigest():
        raise UserError(f"{path}: not the file that {beside.name} beside it describes (SHA-256); copy or make it anew")


def digest_of(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """SHA-256 over names, types, shapes and bytes of all tensors, and over their description, in hexadecimal."""
    digest = hashlib.sha256(json.dumps(about).encode())
    for key in sorted(tensors):
        tensor = tensors[key]
        digest.update(f"\0{key}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_finite(tensors: dict[str, Tensor], path: Path) -> None:
    """Refuse weights with NaN or infinity in them: such a network gives the first class to every point."""
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{path}: {key} holds numbers that are not finite; these weights are of no use")


def load_weights(
    module: nn.Module,
    source: Path | str | Weights,
    *,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    allow_partial: bool = False,
) -> LoadReport:
    """Load weights into a module of the same architecture.

    Args:
        module: the module, changed in place.
        source: what `read_weights` takes, or what it returned.
        only: take only keys that start with one of these; empty takes all.
        skip: leave out keys that start with one of these.
        allow_partial: keep what fits and leave the rest of the module as it is, instead of refusing.

    Returns:
        What matched.

    Raises:
        UserError: the file does not cover what was asked for exactly, or, with `allow_partial`, nothing of it fits; or
            a tensor is of another kind of number, or not finite. The module is then unchanged.
    """
    weights = source if isinstance(source, Weights) else read_weights(source)
    asked = _Selection(tuple(only), tuple(skip))
    ours = {key: value for key, value in module.state_dict().items() if asked.takes(key)}
    theirs = {key: value for key, value in weights.tensors.items() if asked.takes(key)}
    common = [key for key in ours if key in theirs]
    matched = tuple(key for key in common if ours[key].shape == theirs[key].shape)
    report = LoadReport(
        path=weights.path,
        matched=matched,
        missing=tuple(key for key in ours if key not in theirs),
        unexpected=tuple(key for key in sorted(theirs) if key not in ours),
        mismatched=tuple(
            (key, tuple(theirs[key].shape), tuple(ours[key].shape)) for key in common if key not in set(matched)
        ),
    )
    if not matched or not (report.complete or allow_partial):
        made_as = weights.about.get("backbone")
        hint = f" (the file holds {json.dumps(made_as)})" if made_as else ""
        raise UserError(f"these weights do not fit the network{hint}: {report}")
    numbers = {key: _as(ours[key], theirs[key], key, weights.path) for key in matched}
    with torch.no_grad():
        for key, value in numbers.items():
            ours[key].copy_(value)
    return report


def _as(ours: Tensor, theirs: Tensor, key: str, path: Path) -> Tensor:
    """A file's tensor in the type of the module's; refuses whole numbers for fractions, and what then overflows."""
    if theirs.is_floating_point() != ours.is_floating_point() or theirs.is_complex():
        raise UserError(f"{path}: {key} is of {theirs.dtype}, and the network's of {ours.dtype}")
    value = theirs.to(ours.dtype)
    check_finite({key: value}, path)
    return value


@functools.cache
def code_version() -> str:
    """Twelve hexadecimal digits that change with any source file of the package.

    They are of the files as they were when the process first asked, which a run does when it opens its folder: what is
    edited while it trains is not what it ran.
    """
    root = Path(olivine.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


@dataclass(frozen=True)
class _Selection:
    """Which keys are asked for."""

    only: tuple[str, ...]
    skip: tuple[str, ...]

    def takes(self, key: str) -> bool:
        """Whether `key` starts with one of `only` (where given) and with none of `skip`."""
        return (not self.only or key.startswith(self.only)) and not key.startswith(self.skip)


def _locate(source: Path) -> Path:
    """The safetensors file that a path means."""
    path = source / WEIGHTS_FILE if source.is_dir() else source
    if path.is_file():
        return path
    if source.is_dir():
        raise UserError(f"{source}: no {WEIGHTS_FILE} in this folder; a run writes it when it is finished")
    raise UserError(f"{source}: no such run folder or weights file")
