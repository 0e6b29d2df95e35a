"""Compiling the kernels on first use, and keeping them for the next.

A library is compiled by the system's C++ compiler, without a shell, for one instruction set, and kept under the user's
cache folder by a name that tells instruction set, source and flags, compiler, and its own content. What someone else
could have written, or is not the whole of what was compiled, is not loaded.
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
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from olivine.errors import UserError
from olivine.files import cache_folder, locked
from olivine.native.library import Library

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
_UNFINISHED = ".unfinished-"


class BuildError(Exception):
    """Why there is no library, in one line."""


@dataclass(frozen=True)
class Kernels:
    """Loaded kernels.

    Attributes:
        library: them.
        path: the file they are kept in for the next start, or None.
        unkept: why they are not kept and how to mend it, in one line, or None.
    """

    library: Library
    path: Path | None
    unkept: str | None = None


def instruction_set() -> str:
    """The instruction set to use: the one named by `OLIVINE_NATIVE`, else the best of this machine.

    Raises:
        UserError: `OLIVINE_NATIVE` names none that this machine has.
    """
    usable, named = _usable(), os.environ.get("OLIVINE_NATIVE", "")
    if named in usable:
        return named
    if named not in ("", "1"):
        raise UserError(
            f"OLIVINE_NATIVE={named}: set it to 0 (off), 1 (the best of this machine) or one of {', '.join(usable)}"
        )
    return usable[0]


def _usable() -> tuple[str, ...]:
    """The instruction sets of this machine, best first."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "neon", "generic"
    # PyTorch knows what CPU and operating system support together.
    more = {"AVX512": ("avx512", "avx2"), "AVX2": ("avx2",)}
    return (*more.get(torch.backends.cpu.get_cpu_capability(), ()), "generic")


def load() -> Kernels:
    """The kernels for this machine: those that were kept, else compiled now.

    Raises:
        BuildError: there are none and no compiler that can make them.
        OSError: a file cannot be read or written.
        UserError: `OLIVINE_NATIVE` names no instruction set of this machine.
    """
    if os.name != "posix":
        raise BuildError(f"the kernels are for Linux and macOS, not {platform.system()}")
    chosen, folder = instruction_set(), _folder()
    stem = f"{sys.platform}-{platform.machine()}-{chosen}-{_source_digest(chosen)}"
    try:
        compiler = _compiler()
    except BuildError:
        # What another compiler made of this source is as good.
        if kept := _load_kept(folder, stem):
            return kept
        raise
    name = f"{stem}-{_identity(compiler)}"
    if kept := _load_kept(folder, name):
        return kept
    try:
        _make_private(folder)
    except OSError as error:
        unkept = f"{folder}: {error.strerror or error}; set OLIVINE_CACHE to a folder of your own that can be written"
        return Kernels(_compile(compiler, chosen), None, unkept)
    with _lock(folder):
        # Another process may have made it while this one waited.
        return _load_kept(folder, name) or _make(compiler, chosen, folder, name)


def _folder() -> Path:
    try:
        return (cache_folder() / "native").absolute()
    except RuntimeError as error:  # the user has no home
        raise BuildError(f"{error}; set OLIVINE_CACHE to a folder of your own") from error


def _load_kept(folder: Path, name: str) -> Kernels | None:
    """The first library of the folder whose name begins so, and that can be trusted and loaded."""
    _tighten(folder)
    if not _is_ours(folder, stat.S_IFDIR):
        return None
    for path in sorted(folder.glob(f"{name}-*.so")):
        with contextlib.suppress(OSError, AttributeError):
            # The loader crashes on a file that was cut short, so that trying is no way to find out.
            if _is_ours(path, stat.S_IFREG) and path.stem.endswith(f"-{_digest(path.read_bytes())}"):
                return Kernels(Library(path), path)
    return None


def _make(compiler: list[str], chosen: str, folder: Path, name: str) -> Kernels:
    """Compile a library, load it, and keep it in the folder in place of those of its name that cannot be used."""
    for unusable in folder.glob(f"{name}-*.so"):
        unusable.unlink(missing_ok=True)
    _sweep(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=_UNFINISHED, ignore_cleanup_errors=True) as temporary:
        made = Path(temporary) / "library.so"
        library = _compile_to(compiler, chosen, made)
        path = folder / f"{name}-{_digest(made.read_bytes())}.so"
        # Renamed when whole, so that a kill at any moment leaves nothing that the next start could take for a library.
        made.replace(path)
    return Kernels(library, path)


def _compile(compiler: list[str], chosen: str) -> Library:
    """A library whose file is gone when it is loaded."""
    with tempfile.TemporaryDirectory(prefix="olivine-native-", ignore_cleanup_errors=True) as temporary:
        return _compile_to(compiler, chosen, Path(temporary) / "library.so")


def _compile_to(compiler: list[str], chosen: str, made: Path) -> Library:
    units = [str(file) for file in _sources() if file.suffix == ".cpp"]
    _run([*compiler, *_FLAGS, *INSTRUCTION_SETS[chosen], *units, "-o", str(made)])
    try:
        made.chmod(stat.S_IRWXU)
        return Library(made)
    except (OSError, AttributeError) as error:
        raise BuildError(f"{compiler[0]} made no library that can be loaded: {error}") from error


def _run(command: list[str]) -> None:
    try:
        # In a session of its own, so that all that the compiler started can be ended; in English, to find its errors.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
        )
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run: {error.strerror or error}") from error
    with process:
        try:
            _, said = process.communicate(timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise BuildError(f"{command[0]} took more than {_TIMEOUT_S} s") from error
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode < 0:
        raise BuildError(f"{command[0]} was killed: {signal.strsignal(-process.returncode)}")
    if process.returncode > 0:
        lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it did not say why"]
        cause = next((line for line in lines if "error" in line), lines[0])
        raise BuildError(f"{command[0]} failed with status {process.returncode}: {cause[:300]}")


def _compiler() -> list[str]:
    """The command of `CXX`, else the first C++ compiler on the path.

    Raises:
        BuildError: there is none.
    """
    named = os.environ.get("CXX", "")
    try:
        command = shlex.split(named)
    except ValueError as error:
        raise BuildError(f"CXX={named} is no command: {error}") from error
    if command:
        if shutil.which(command[0]):
            return command
        raise BuildError(f"CXX={named}: no program {command[0]} that can be run")
    found = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if found is None:
        raise BuildError("no C++ compiler found; install g++ or clang, or set CXX")
    return [found]


def _identity(compiler: list[str]) -> str:
    """A digest that changes with the command and when another compiler stands behind it.

    Every word that is a program counts, because the first may only be a wrapper like ccache.
    """
    programs = [Path(found).resolve() for found in map(shutil.which, compiler) if found]
    states = [(str(program), program.stat().st_size, program.stat().st_mtime_ns) for program in programs]
    return _digest(repr((compiler, states)).encode())


def _sources() -> list[Path]:
    return sorted(file for file in Path(__file__).parent.iterdir() if file.suffix in (".cpp", ".h"))


def _source_digest(chosen: str) -> str:
    sources = [(file.name, file.read_bytes()) for file in _sources()]
    return _digest(repr((_FLAGS, INSTRUCTION_SETS[chosen], sources)).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _make_private(folder: Path) -> None:
    """Make the folder if need be, and sure that this user and no other can write to it.

    Raises:
        OSError: it cannot be made or written, or is another user's.
    """
    folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    if not _is_ours(folder, stat.S_IFDIR):
        raise PermissionError(errno.EPERM, "another user can write to it")
    with tempfile.TemporaryFile(dir=folder):
        pass


def _tighten(folder: Path) -> None:
    """Keep others from writing to the folder if it is this user's."""
    with contextlib.suppress(OSError):
        state = folder.stat()
        if state.st_uid == os.geteuid() and state.st_mode & _OTHERS_MAY_WRITE:
            folder.chmod(stat.S_IMODE(state.st_mode) & ~_OTHERS_MAY_WRITE)


def _is_ours(path: Path, kind: int) -> bool:
    """Whether the path is of this kind, belongs to this user (or root) and nobody else can write to it.

    The folder may be reached through a link, a library may not be one.
    """
    try:
        state = path.stat() if kind == stat.S_IFDIR else path.lstat()
    except OSError:
        return False
    ours = state.st_uid in (os.geteuid(), 0) and not state.st_mode & _OTHERS_MAY_WRITE
    return ours and stat.S_IFMT(state.st_mode) == kind


def _sweep(folder: Path) -> None:
    """Remove what processes left that were killed while they compiled."""
    for left in folder.glob(f"{_UNFINISHED}*"):
        # Without locks another process may still be at work on a young one.
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _TIMEOUT_S:
                shutil.rmtree(left)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Let one process at a time compile. It is let go when its holder ends, however that ends."""
    with contextlib.ExitStack() as held:
        # Without locks (some network file systems) several may compile: each renames a whole library into place.
        with contextlib.suppress(OSError):
            (folder / ".lock").touch()
            held.enter_context(locked(folder / ".lock", wait=True))
        yield
