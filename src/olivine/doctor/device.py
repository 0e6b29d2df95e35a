"""Whether a device computes what the CPU computes: all checks, in processes that may break.

An error on a GPU can leave it unusable for the whole process. So the checks run in a process of their own, which says a
line for each; where it breaks, a fresh one goes on with the next.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import torch

import olivine
from olivine import gpu, native
from olivine.doctor import layers, steps
from olivine.doctor.check import Check, Line
from olivine.errors import UserError
from olivine.gpu import ASKED_BY
from olivine.sparse.engines import gpu_engine, triton_engine, using

PATIENCE_S = 120.0
"""So long may a check take, with the start of its process and the compilation of what it runs."""


@dataclass(frozen=True)
class Examined:
    """What is compared.

    Attributes:
        device: as asked for, `cpu`, `cuda` or `cuda:1`.
        name: what it is called.
        engine: what its sparse layers run on.
    """

    device: torch.device
    name: str
    engine: str


def examined(device: str) -> Examined:
    """The device that is asked for.

    Raises:
        UserError: there is none of that name, or no engine for it.
    """
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"--device={device}: no device is called so; give cpu, cuda or cuda:1") from error
    if found.type == "cpu":
        engine = f"our programs in Triton, interpreted ({ASKED_BY}=triton)" if _interpreted(found) else native.status()
        return Examined(found, "the CPU", engine)
    if found.type != "cuda":
        raise UserError(f"--device={device}: only cpu and cuda are compared")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (found.index or 0) >= count:
        raise UserError(f"--device={device}: torch finds {count or 'no'} usable GPU{'s' if count > 1 else ''} here")
    return Examined(found, torch.cuda.get_device_name(found), gpu_engine())


def checks_for(device: torch.device, only: str = "") -> list[Check]:
    """All checks of a device whose name has `only` in it; in other types than float32 where its engine has some.

    Raises:
        UserError: no check is called so.
    """
    reduced = device.type == "cuda" or _interpreted(device)
    every = [*layers.checks(reduced=reduced), *steps.checks(reduced=reduced)]
    found = [check for check in every if only in check.name]
    if not found:
        raise UserError(f"--only={only}: no line is called so; try {every[3].name.partition(' ')[0]} or step")
    return found


def compare(device: torch.device, only: str = "", patience_s: float = PATIENCE_S) -> Iterator[Line]:
    """Every check in turn, whatever becomes of the ones before.

    Args:
        device: what is compared.
        only: the checks whose name has this in it.
        patience_s: how long one may take.

    Raises:
        UserError: no check is called so.
    """
    checks, done = checks_for(device, only), 0
    while done < len(checks):
        with _Process(device, only, done) as process:
            for line in process.lines(patience_s):
                yield line
                done += 1
            if process.trouble and done < len(checks):
                yield Line(checks[done].name, None, checks[done].tolerance, process.trouble)
                done += 1


class _Process:
    """A process that goes through the checks from one on.

    Attributes:
        trouble: why it ended in the middle of a check, or nothing.
    """

    def __init__(self, device: torch.device, only: str, first: int) -> None:
        self.trouble = ""
        self._command = [sys.executable, "-m", __name__, str(device), only, str(first)]
        self._said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def __enter__(self) -> _Process:
        root = str(Path(olivine.__file__).parents[1])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=self._errors
        )
        assert self._process.stdout is not None
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def _listen(self, output: IO[bytes]) -> None:
        """Take the lines that are ours; libraries print others."""
        with output:
            for text in output:
                with contextlib.suppress(ValueError):
                    said = json.loads(text)
                    if isinstance(said, dict) and "check" in said:
                        self._said.put(said)
        self._said.put(None)

    def lines(self, patience_s: float) -> Iterator[Line]:
        """What it says, until it ends."""
        while True:
            try:
                said = self._said.get(timeout=patience_s)
            except queue.Empty:
                self.trouble = f"took more than {patience_s:g} s"
                return
            if said is None:
                self.trouble = self._last_words()
                return
            yield Line(said["check"], said["difference"], said["tolerance"], said["trouble"])

    def _last_words(self) -> str:
        """Why it ended, or nothing where it ended between two checks."""
        status = self._process.wait()
        if status in (0, _BETWEEN):
            return ""
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip().splitlines()
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return f"its process ended with {how}" + (f": {words[-1].strip()[:200]}" if words else "")


_BETWEEN = 70
"""Exit status of a process that said its line, but whose GPU is of no more use."""


def _interpreted(device: torch.device) -> bool:
    """Whether the CPU is to interpret the programs for GPUs."""
    return device.type == "cpu" and os.environ.get(ASKED_BY) == "triton" and os.environ.get("TRITON_INTERPRET") == "1"


def _main(arguments: Sequence[str]) -> int:
    """The process: the checks from one on, a line of JSON for each."""
    device, only, first = torch.device(arguments[0]), arguments[1], int(arguments[2])
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)  # it takes no device without a number
    for check in checks_for(device, only)[first:]:
        line = _line(check, device)
        said = {"check": line.name, "difference": line.difference, "tolerance": line.tolerance}
        sys.stdout.write(json.dumps(said | {"trouble": line.trouble}) + "\n")
        sys.stdout.flush()
        if line.trouble and not _alive(device):
            return _BETWEEN
    return 0


@contextlib.contextmanager
def _programs(device: torch.device) -> Iterator[None]:
    """A block in which the CPU interprets the programs for GPUs, where it is to."""
    if not _interpreted(device):
        yield
        return
    with using(triton_engine()), gpu.using(gpu.triton_kernels()):
        yield


def _line(check: Check, device: torch.device) -> Line:
    try:
        return check.line(device, partial(_programs, device))
    except Exception as error:  # noqa: BLE001 (whatever it is, the other checks go on)
        return Line(check.name, None, check.tolerance, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _alive(device: torch.device) -> bool:
    """Whether the device still computes."""
    try:
        return float(torch.ones(2, device=device).sum()) == 2
    except RuntimeError:
        return False


if __name__ == "__main__":
    status = _main(sys.argv[1:])
    os._exit(status)  # what is left of a broken GPU would end the process with a signal
