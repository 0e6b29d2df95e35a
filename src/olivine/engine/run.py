"""A run's folder: everything one training leaves behind, under `runs/<name>/`.

    config.yaml           the fully resolved configuration
    inputs.json           digests of what it reads, compared when it is resumed
    metrics.jsonl         one JSON object a line: losses of a step, or scores of an evaluation
    log.txt               what was said on the way
    checkpoints/          last.pt, best.pt, epoch-<k>.pt
    weights.safetensors   the trained backbone, with weights.json beside it
    results.json          the scores of the finished run

`runs/latest` points at the folder that was opened last. Of many processes only the main one writes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from olivine import __version__
from olivine.components import own_code
from olivine.config import Config, dump
from olivine.errors import UserError, printable
from olivine.files import append_line, locked, write_json, write_text, writing
from olivine.weights.file import WEIGHTS_FILE, code_version

_log = logging.getLogger("olivine")

LOOP_MAY_DIFFER = (
    "out",
    "train.workers",
    "train.save_every",
    "train.keep_every",
    "train.log_every",
    "train.tensorboard",
)
"""Settings of every run that may change when it is resumed: nothing it leaves depends on them but files for people."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Attributes:
        path: the folder.
    """

    path: Path

    @staticmethod
    def open(
        out: Path,
        name: str,
        config: Config,
        *,
        resume: bool = False,
        may_differ: Collection[str] = (),
        inputs: Mapping[str, str] | None = None,
        main: bool = True,
    ) -> RunFolder:
        """Make the folder of a new run, or go back to that of an interrupted one.

        A folder in which no step was done is begun anew, whatever was to be done in it.

        Args:
            out: folder of all runs.
            name: name of this run.
            config: its configuration, written to `config.yaml`.
            resume: continue the run of that name; where there is none, it starts anew.
            may_differ: dotted keys that may change when resuming, since they do not change the result.
            inputs: digests of what it reads, by name (see `olivine.engine.inputs`); None compares nothing.
            main: whether this process writes; the others only learn the path.

        Raises:
            UserError: the name cannot be a folder, a run of that name exists and `resume` is not set, its
                configuration or what it reads differs, or the folder cannot be written.
        """
        if name in {"", ".", "..", "latest"} or Path(name).name != name:
            raise UserError(f"name={name!r} cannot name a run; use a plain folder name other than 'latest'")
        run = RunFolder(Path(out) / name)
        if not main:
            return run
        if run.begun:
            if not resume:
                raise UserError(
                    f"{run.path}: a run of this name exists; continue it with --resume or choose another name"
                )
            if run.config_path.exists():
                run.check_config(config, may_differ)
            run.check_inputs(inputs or {})
        if run.path.is_dir():
            with run.alone():  # another program may be about to do its first step
                run._tidy()
        if inputs is not None:
            write_json(run.inputs_path, dict(inputs))
        write_text(run.config_path, dump(config))
        own = "".join(f", {name} {digest}" for name, digest in own_code(config).items())
        run._note(f"olivine {__version__}, code {code_version()}{own}")
        _point(Path(out) / "latest", name)
        return run

    def check_config(self, config: Config, may_differ: Collection[str] = ()) -> None:
        """Compare a configuration with the one this run was made with.

        Args:
            config: the configuration now.
            may_differ: dotted keys that may change, since they do not change the result.

        Raises:
            UserError: another key differs, or the run's configuration cannot be read.
        """
        try:
            stored = yaml.safe_load(self.config_path.read_text(encoding="utf-8"))
            # A key that came after the run was begun has its default in it. What no longer fits is compared as it is.
            with contextlib.suppress(ValidationError):
                stored = type(config).model_validate(stored).model_dump(mode="json")
            before = _flatten(stored)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"{self.config_path}: cannot read this run's configuration ({error})") from error
        now = _flatten(config.model_dump(mode="json"))
        absent = object()
        differing = [
            key
            for key in {**before, **now}
            if key not in may_differ and before.get(key, absent) != now.get(key, absent)
        ]
        if differing:
            changes = ", ".join(f"{key} (was {before.get(key)!r}, now {now.get(key)!r})" for key in differing)
            raise UserError(f"{self.path}: cannot resume with another configuration: {changes}")

    def check_inputs(self, inputs: Mapping[str, str]) -> None:
        """Compare what a run reads with what it read when it began.

        Raises:
            UserError: something differs.
        """
        if not inputs:
            return
        if not self.inputs_path.exists():
            self.log("this run began with a version that did not note what it reads; whether that changed is not known")
            return
        try:
            before = dict(json.loads(self.inputs_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{self.inputs_path}: cannot read what this run began with ({error})") from error
        changed = [name for name in {**before, **inputs} if before.get(name) != inputs.get(name)]
        if changed:
            raise UserError(
                f"{self.path}: cannot resume: {', '.join(changed)} changed since the run began; "
                "put back what was there, or start a run of another name"
            )

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other programs from training in this folder meanwhile; however this one ends, the folder is free again.

        Raises:
            UserError: another program trains here.
        """
        # The folder itself is locked, so that no file stays behind.
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locked(self.path))
            except BlockingIOError as error:
                raise UserError(
                    f"{self.path}: another program is training in this folder; let it end or stop it"
                ) from error
            except OSError as error:
                self._note(f"this file system has no locks ({error}); nothing keeps a second program out")
            yield

    @property
    def begun(self) -> bool:
        """Whether steps were done here: there is a checkpoint, a line of metrics, or weights."""
        metrics = self.metrics_path
        kept = (self.checkpoint_path("last"), self.checkpoint_path("best"), self.path / WEIGHTS_FILE)
        return any(path.exists() for path in kept) or (metrics.exists() and metrics.stat().st_size > 0)

    def _tidy(self) -> None:
        """Remove what a program that was killed in the middle of writing left."""
        for folder in (self.path, self.path / "checkpoints"):
            for partial in folder.glob(".*.partial"):
                with contextlib.suppress(OSError):
                    partial.unlink()

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def inputs_path(self) -> Path:
        """Digests of what the run reads."""
        return self.path / "inputs.json"

    @property
    def metrics_path(self) -> Path:
        """The metrics, one JSON object a line."""
        return self.path / "metrics.jsonl"

    def checkpoint_path(self, name: str) -> Path:
        """File of the checkpoint `"last"`, `"best"` or `"epoch-<k>"`."""
        return self.path / "checkpoints" / f"{name}.pt"

    def log(self, message: str) -> None:
        """Say one line: in `log.txt` with the time, and through the `olivine` logger."""
        self._note(message)
        _log.info(message)

    def _note(self, message: str) -> None:
        append_line(self.path / "log.txt", f"{time.strftime('%Y-%m-%d %H:%M:%S')} {printable(message, lines=True)}")

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Append one object to `metrics.jsonl`."""
        append_line(self.metrics_path, json.dumps(line))

    def metrics(self) -> list[dict[str, Any]]:
        """The objects of `metrics.jsonl`, in order; empty where there is none.

        Raises:
            UserError: a line is damaged; a last one without its end is left out, since a run may be writing it.
        """
        if not self.metrics_path.exists():
            return []
        *lines, _ = self.metrics_path.read_bytes().split(b"\n")
        found = []
        for number, line in enumerate(lines, start=1):
            try:
                found.append(dict(json.loads(line)))
            except (ValueError, TypeError) as error:
                raise UserError(f"{self.metrics_path}: line {number} is damaged ({error}); remove it") from error
        return found

    def metrics_bytes(self) -> int:
        """Length of `metrics.jsonl`, made safe on the disk."""
        if not self.metrics_path.exists():
            return 0
        with writing(self.metrics_path), self.metrics_path.open("ab") as file:
            os.fsync(file.fileno())
            return file.tell()

    def truncate_metrics(self, length: int) -> None:
        """Forget the metrics after the first `length` bytes: the steps that a resumed run will do again."""
        if self.metrics_path.exists():
            with writing(self.metrics_path):
                os.truncate(self.metrics_path, min(length, self.metrics_path.stat().st_size))

    def write_results(self, results: dict[str, Any]) -> None:
        """Write `results.json`."""
        write_json(self.path / "results.json", results)


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of nested mappings by dotted key; an empty mapping has none."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves.update(_flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return leaves


def _point(link: Path, target: str) -> None:
    """Point a symbolic link at `target`, replacing the old one in one step."""
    partial = link.with_name(f".{link.name}.partial")
    # The link is a convenience: some file systems have none, and a run must not fail for it.
    with contextlib.suppress(OSError):
        partial.unlink(missing_ok=True)
        partial.symlink_to(target)
        partial.replace(link)
