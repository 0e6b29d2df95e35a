"""Reading what somebody else wrote: regular files of plausible size only, and paths that stay below their folder.

Every reader of datasets goes through here. A folder of data may hold a pipe that never ends, a device, a folder where
a file is due or a sparse file of a terabyte; each is refused in one line that names it, before it is read. Symbolic
links are followed, since datasets are often assembled from them; it is the text of a path that must stay below a root.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from olivine.errors import UserError

SCAN_BYTES = 512 << 20
"""No scan and no file of point labels is larger: 26 million points of 20 bytes."""

IMAGE_BYTES = 256 << 20
"""No camera image and no mask is larger, compressed."""

TEXT_BYTES = 64 << 20
"""No calibration, pose or time file and no manifest is larger."""


@contextlib.contextmanager
def opened(path: Path, what: str = "this file", *, limit: int | None = None, missing: str = "") -> Iterator[BinaryIO]:
    """Open a regular file to be read.

    Args:
        path: the file.
        what: what it is, for messages, e.g. `"this LiDAR sweep"`.
        limit: refuse a file of more bytes; None takes any size, for readers that hold only a part at a time.
        missing: what to say, and to do, where there is no such file.

    Yields:
        The open file, at its start.

    Raises:
        UserError: missing, no regular file (a folder, pipe or device), too large, or unreadable.
    """
    try:
        descriptor = _descriptor(path, what)
        with os.fdopen(_regular(descriptor, path, what, limit), "rb") as file:
            yield file
    except FileNotFoundError as error:
        raise UserError(f"{path}: {missing or f'cannot read {what} ({error.strerror})'}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot read {what} ({error.strerror or error})") from error


def read_file(path: Path, what: str = "this file", *, limit: int = SCAN_BYTES, missing: str = "") -> bytes:
    """The whole content of a regular file; arguments and errors are those of `opened`."""
    with opened(path, what, limit=limit, missing=missing) as file:
        content = file.read(min(os.fstat(file.fileno()).st_size, limit))  # a buffer of the limit's size costs time
        while len(content) < limit and (more := file.read(min(1 << 16, limit - len(content)))):
            content += more  # of a file that grows, or says that it is empty, as those of /proc do
        return content


def below(root: Path, name: str, source: str) -> Path:
    """The file `root / name`, where the text of `name` does not lead out of `root`.

    Args:
        root: a folder.
        name: a path below it, with `/` between its parts, as a table or a manifest gives it.
        source: what gives it, named in the error.

    Raises:
        UserError: the path is empty, absolute, has a part `..`, or holds a NUL.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise UserError(f"{source}: names the file {name!r}, which is not below {root}; give paths below the root")
    return root / name


def _descriptor(path: Path, what: str) -> int:
    try:
        # Not blocking: opening a pipe that nobody writes to would wait for ever.
        return os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:
        raise UserError(f"{str(path)!r}: cannot read {what} ({error})") from error


def _regular(descriptor: int, path: Path, what: str, limit: int | None) -> int:
    """The descriptor of a regular file that is not too large; closes and refuses any other."""
    state = os.fstat(descriptor)
    complaint = ""
    if stat.S_ISDIR(state.st_mode):
        complaint = "it is a folder"
    elif not stat.S_ISREG(state.st_mode):
        complaint = "it is a pipe or a device, not a regular file"
    elif limit is not None and state.st_size > limit:
        complaint = f"its {state.st_size} bytes are more than the {limit} that are plausible"
    if complaint:
        os.close(descriptor)
        raise UserError(f"{path}: cannot read {what} ({complaint})")
    return descriptor
