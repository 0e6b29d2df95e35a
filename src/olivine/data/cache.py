"""Plain arrays kept between runs: what is slow to derive from a dataset's files is derived once per machine.

An entry is one `.npz` file in the user's cache folder, named by what it belongs to and stamped with the state of the
files it was made from. A stale, damaged or missing entry is simply made again; nothing in it is ever unpickled.
"""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from olivine.errors import OlivineWarning
from olivine.files import cache_folder, replacing

Arrays = dict[str, NDArray[np.generic]]

_STAMP = "stamp"


def stamp_of(files: Iterable[Path], version: int) -> str:
    """What an entry made from `files` depends on: their paths, sizes and modification times, and the entry's layout.

    Args:
        files: the source files; one that does not exist counts as absent, so that adding it later is noticed.
        version: number of the entry's layout, raised whenever the code that makes it changes.
    """
    parts = [str(version)]
    for file in files:
        state = file.stat() if file.exists() else None
        parts.append(f"{file.resolve()}|{state.st_size}|{state.st_mtime_ns}" if state else f"{file.resolve()}|absent")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def cached_arrays(name: str, stamp: str, make: Callable[[], Arrays]) -> Arrays:
    """The arrays of an entry, from the cache where its stamp is right, else from `make`, which are then stored.

    Args:
        name: file stem of the entry, unique to what it belongs to.
        stamp: from `stamp_of`; an entry with another stamp is replaced.
        make: derives the arrays; none of them of object dtype.

    Returns:
        The arrays by name.
    """
    path = cache_folder() / f"{name}.npz"
    arrays = _load(path, stamp)
    if arrays is None:
        arrays = make()
        try:
            _store(path, stamp, arrays)
        except OSError as error:
            warnings.warn(
                f"{path.parent}: cannot keep the index here ({error.strerror or error}), so every start derives it "
                "anew; set OLIVINE_CACHE to a folder that can be written",
                OlivineWarning,
                stacklevel=1,  # one place whoever asks, so that several entries warn once
            )
    return arrays


def _load(path: Path, stamp: str) -> Arrays | None:
    """The stored arrays, or None where there are none, they are damaged, or their stamp differs."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored[_STAMP]) != stamp:
                return None
            return {name: stored[name] for name in stored.files if name != _STAMP}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _store(path: Path, stamp: str, arrays: Arrays) -> None:
    """Write an entry; a reader meets a whole one or none."""
    with replacing(path, shared=True) as file:
        np.savez(file, **{_STAMP: np.array(stamp)}, **arrays)  # type: ignore[arg-type]
