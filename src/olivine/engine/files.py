"""Files that are whole or absent: everything a run leaves behind is written through here.

A file is written under a temporary name in its own folder, flushed to the disk and renamed, so a kill at any moment
leaves the previous version. A disk that is full, or a folder that may not be written, is the user's to mend and
becomes a `UserError` of one line.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def write_bytes(path: Path, data: bytes | memoryview, *, stale: Path | None = None) -> None:
    """Replace the file at `path` by `data`, at once or not at all.

    Args:
        path: the file; its folder is created where missing.
        data: the whole content.
        stale: a file that describes what `path` held before; removed when the new content is safely on the disk, so
            that a kill never leaves it beside content that it does not describe.

    Raises:
        UserError: the disk is full or the folder cannot be written; the previous file is untouched and no temporary
            file stays behind.
    """
    # One fixed temporary name per file: what a kill leaves behind is overwritten by the next save.
    partial = path.with_name(f".{path.name}.partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if stale is not None:
                stale.unlink(missing_ok=True)
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


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


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system lets a folder be opened."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
