"""Files that are whole or absent, locks that end with their process, and where this machine's own files are kept.

A file is written under a temporary name in its own folder, flushed to the disk and renamed, so a kill at any moment
leaves the previous version. A disk that is full, or a folder that may not be written, is the user's to mend and
becomes a `UserError` of one line.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from olivine.errors import UserError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure of the operating system while writing `path` into a one-line `UserError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{path}: cannot write this file ({reason}); free some space or choose another folder"
        ) from error


def check_folder(folder: Path) -> None:
    """Refuse a folder to which no file could be written, before there is work done for one; writes nothing.

    Args:
        folder: it need not be there yet.

    Raises:
        UserError: it is a file, lies below one, or may not be written to.
    """
    there = next((place for place in (folder, *folder.absolute().parents) if place.exists()), folder)
    if not there.is_dir():
        raise UserError(f"{there}: a folder is wanted here, and this is a file; choose another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{there}: nothing may be written to this folder; choose another")


@contextlib.contextmanager
def replacing(path: Path, *, shared: bool = False, stale: Path | None = None) -> Iterator[IO[bytes]]:
    """A file to write into, which takes the name `path` when it is whole and on the disk.

    Args:
        path: the file; its folder is created where missing.
        shared: several processes may write it at once; each then has a temporary file of its own, which a kill leaves
            behind. Otherwise there is one, which the next save overwrites.
        stale: a file that describes what `path` held before; removed when the new content is safely on the disk, so
            that a kill never leaves it beside content that it does not describe.

    Raises:
        OSError: the disk is full or the folder cannot be written; as with any other error inside, the previous file is
            untouched and no temporary file stays behind.
    """
    partial = path.with_name(f".{path.name}.{os.getpid() if shared else 'partial'}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if stale is not None:
            stale.unlink(missing_ok=True)
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_bytes(path: Path, data: bytes | memoryview, *, stale: Path | None = None) -> None:
    """Replace the file at `path` by `data`, at once or not at all.

    Args:
        path: the file; its folder is created where missing.
        data: the whole content.
        stale: as of `replacing`.

    Raises:
        UserError: the disk is full or the folder cannot be written; see `replacing`.
    """
    with writing(path), replacing(path, stale=stale) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """`write_bytes` of indented JSON."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def append_line(path: Path, line: str) -> None:
    """Append one line of text; raises `UserError` where the disk is full."""
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a file or folder; the system drops it with the process, however that ends.

    Args:
        path: what is locked; it is there already, and nothing is written to it.
        wait: wait for whoever holds it.

    Raises:
        BlockingIOError: another process holds it, and `wait` is off.
        OSError: this file system has no locks. Windows has none of this kind; there nothing is locked.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def cache_folder() -> Path:
    """The folder of the cache: `$OLIVINE_CACHE`, else `$XDG_CACHE_HOME/olivine`, else `~/.cache/olivine`."""
    own = os.environ.get("OLIVINE_CACHE")
    if own:
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "olivine"


def existing(folder: Path) -> Path | None:
    """The folder if it is there, else None: for what a dataset may or may not have."""
    return folder if folder.is_dir() else None


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system lets a folder be opened."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
