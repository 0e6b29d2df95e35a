"""Compilers that are scripts, and what a process says that starts with one of them.

The one that works hands out a library that was really compiled, once.
"""

from __future__ import annotations

import os
import shlex
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from olivine import native
from olivine.errors import OlivineWarning
from olivine.native import build
from olivine.sparse import Convolution, SparseTensor

SOMEONE = 12345
"""Another user."""


@pytest.fixture(scope="module")
def compiled() -> Path | None:
    """A library that the machine's compiler made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OLIVINE_NATIVE", raising=False)
        try:
            return build.load().path
        except build.BuildError as error:
            pytest.skip(str(error))


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A process that has not used the kernels, with a cache and a temporary folder of its own."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("OLIVINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.delenv("OLIVINE_NATIVE", raising=False)
    forget()
    yield
    forget()


@dataclass
class Compiler:
    """A script in place of a compiler, that writes down the arguments of each call."""

    path: Path
    log: Path

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of each."""
        text = self.log.read_text() if self.log.exists() else ""
        return [call.splitlines() for call in text.split("call\n")[1:]]


def compiler(folder: Path, body: str) -> Compiler:
    """A compiler that does what `body` says with "$@" and "$out"."""
    made = Compiler(folder / "compiler", folder / "calls")
    log = shlex.quote(str(made.log))
    made.path.write_text(
        f'#!/bin/sh\n{{ echo call; printf "%s\\n" "$@"; }} >> {log}\nfor word; do out=$word; done\n{body}\n'
    )
    made.path.chmod(0o755)
    return made


@pytest.fixture
def working(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiled: Path | None) -> Compiler:
    """A compiler that works, named by CXX."""
    made = compiler(tmp_path, f'cp {shlex.quote(str(compiled))} "$out"')
    monkeypatch.setenv("CXX", str(made.path))
    return made


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """Takes the compilers away."""

    def remove() -> None:
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path / "temporary"))

    return remove


def forget() -> None:
    """As if this process had not looked for kernels yet."""
    native._loaded.cache_clear()
    native._warn.cache_clear()


def start() -> tuple[str, list[str]]:
    """What a process says that starts, convolves three times and gets it right: `(status, warnings)`."""
    forget()
    layer = Convolution(3, 5, 3)
    torch.nn.init.normal_(layer.kernel, generator=torch.Generator().manual_seed(1))
    coordinates = torch.cartesian_prod(torch.zeros(1), *[torch.arange(-2.0, 2.0)] * 3).int()
    features = torch.randn(len(coordinates), 3, generator=torch.Generator().manual_seed(2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", OlivineWarning)
        outputs = [layer(SparseTensor(features, coordinates)).features for _ in range(3)]
        status = native.status()
    with native.disabled():
        expected = layer(SparseTensor(features, coordinates)).features
    for output in outputs:
        torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
    return status, [str(warning.message) for warning in caught if warning.category is OlivineWarning]


def kept() -> list[Path]:
    """The libraries in the cache, and whatever else lies there but for the lock."""
    folder = Path(os.environ["OLIVINE_CACHE"]) / "native"
    return sorted(path for path in folder.iterdir() if path.name != ".lock") if folder.is_dir() else []


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the path another user's."""
    if os.geteuid() == 0:
        os.chown(path, SOMEONE, -1, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: SOMEONE)
