"""Compiling the kernels on first use, and keeping them for the next.

A library is compiled by the system's C++ compiler, without a shell, for one instruction set, and kept under the user's
cache folder by a name that tells instruction set, source and compiler. A folder or library that someone else could
have written is not used.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from olivine.errors import OlivineWarning, UserError
from olivine.folders import cache_folder

INSTRUCTION_SETS = {
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"),
    "avx2": ("-mavx2", "-mfma"),
    "neon": (),
    "generic": (),
}
"""Compiler flags of each instruction set."""

_FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-ffp-contract=fast", "-fPIC", "-shared", "-pthread", "-w")
_COMPILERS = ("c++", "g++", "clang++")
_TIMEOUT_S = 300
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class BuildError(Exception):
    """Why there is no library, in one line."""


def instruction_set() -> str:
    """The instruction set to use: the one named by `OLIVINE_NATIVE`, else the best of this CPU.

    Raises:
        UserError: `OLIVINE_NATIVE` names none.
    """
    named = os.environ.get("OLIVINE_NATIVE", "")
    if named in INSTRUCTION_SETS:
        return named
    if named not in ("", "1"):
        raise UserError(f"OLIVINE_NATIVE={named}: set it to 0 (off), 1 or one of {', '.join(INSTRUCTION_SETS)}")
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "neon"
    # PyTorch knows what CPU and operating system support together.
    return {"AVX512": "avx512", "AVX2": "avx2"}.get(torch.backends.cpu.get_cpu_capability(), "generic")


def build() -> Path:
    """The path of the library for this machine, compiled now if need be.

    Where the cache folder cannot be used, the library lies in a folder of its own that the caller removes after loading
    (see `is_temporary`).

    Raises:
        BuildError: there is neither a compiled library nor a compiler that can make one.
        UserError: `OLIVINE_NATIVE` names no instruction set.
    """
    if os.name != "posix":
        raise BuildError(f"the kernels are for Linux and macOS, not {platform.system()}")
    chosen, compiler, folder = instruction_set(), _compiler(), cache_folder() / "native"
    source = _digest(*(part for file in _sources() for part in (file.name.encode(), file.read_bytes())))
    stem = f"{sys.platform}-{platform.machine()}-{chosen}-{source}"
    # Without a compiler, what another one made of this source is as good.
    kept = folder.glob(f"{stem}-*.so") if compiler is None else [folder / f"{stem}-{_identity(compiler)}.so"]
    usable = [path for path in sorted(kept) if _is_ours(folder) and _is_ours(path)]
    if usable:
        return usable[0]
    if compiler is None:
        raise BuildError("no C++ compiler found; install g++ or clang, or set CXX")
    try:
        _make_private(folder)
    except OSError as error:
        warnings.warn(
            f"{folder}: {error.strerror or error}, so the kernels are compiled at every start; set OLIVINE_CACHE to a "
            "folder of your own that can be written",
            OlivineWarning,
            stacklevel=1,
        )
        return _compile(compiler, chosen, Path(tempfile.mkdtemp(prefix=_TEMPORARY)) / f"{stem}.so")
    path = folder / f"{stem}-{_identity(compiler)}.so"
    with _lock(folder):
        # Another process may have made it while this one waited.
        return path if _is_ours(path) else _compile(compiler, chosen, path)


_TEMPORARY = "olivine-native-"


def is_temporary(library: Path) -> bool:
    """Whether a library of `build` lies in a folder that this process should remove."""
    return library.parent.name.startswith(_TEMPORARY)


def _compile(compiler: list[str], chosen: str, path: Path) -> Path:
    """Compile to a temporary name and rename, so that a kill at any moment leaves no half-written library."""
    units = [str(file) for file in _sources() if file.suffix == ".cpp"]
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".so")
    os.close(descriptor)
    made = Path(name)
    try:
        _run([*compiler, *_FLAGS, *INSTRUCTION_SETS[chosen], *units, "-o", name])
        made.chmod(stat.S_IRWXU)
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)
    return path


def _run(command: list[str]) -> None:
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S
        )
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run: {error.strerror or error}") from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} took more than {_TIMEOUT_S} s") from error
    if result.returncode < 0:
        raise BuildError(f"{command[0]} was killed by {signal.Signals(-result.returncode).name}")
    if result.returncode > 0:
        said = [line.strip() for line in result.stderr.splitlines() if "error" in line] or [result.stderr.strip()]
        raise BuildError(f"{command[0]} failed with status {result.returncode}: {said[0][:300]}")


def _compiler() -> list[str] | None:
    """The command of `CXX`, else the first C++ compiler on the path."""
    named = shlex.split(os.environ.get("CXX", ""))
    if named:
        return named if shutil.which(named[0]) else None
    return next(([path] for path in map(shutil.which, _COMPILERS) if path), None)


def _identity(compiler: list[str]) -> str:
    """A digest that changes with the command and when another compiler stands behind it."""
    program = Path(shutil.which(compiler[0]) or compiler[0]).resolve()
    state = program.stat()
    return _digest(shlex.join(compiler).encode(), f"{program}|{state.st_size}|{state.st_mtime_ns}".encode())


def _sources() -> list[Path]:
    return sorted(file for file in Path(__file__).parent.iterdir() if file.suffix in (".cpp", ".h"))


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256(" ".join(_FLAGS).encode())
    for part in parts:
        digest.update(b"%d " % len(part) + part)
    return digest.hexdigest()[:16]


def _make_private(folder: Path) -> None:
    """Make the folder if need be, and sure that this user and no other can write to it.

    Raises:
        OSError: it cannot be made or written, or is another user's.
    """
    folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    if folder.stat().st_uid == os.geteuid():
        folder.chmod(stat.S_IRWXU)
    if not _is_ours(folder):
        raise PermissionError(errno.EPERM, "belongs to another user")
    with tempfile.TemporaryFile(dir=folder):
        pass


def _is_ours(path: Path) -> bool:
    """Whether the path exists, belongs to this user (or root) and nobody else can write to it."""
    try:
        state = path.stat()
    except OSError:
        return False
    return state.st_uid in (os.geteuid(), 0) and not state.st_mode & _OTHERS_MAY_WRITE


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Let one process at a time compile. It is let go when its holder ends, however that ends."""
    import fcntl

    with (folder / ".lock").open("w") as file:
        # Without locks (some network file systems) several may compile: each renames a whole library into place.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
