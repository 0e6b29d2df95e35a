"""What a conversion has done so far, kept beside what it writes, so that it goes on where it was stopped.

    OUT/.convert/begun.json      the recipe and the source
    OUT/.convert/journal.jsonl   a line for every frame that was written or turned out unusable, in order
    OUT/.convert/poses.npz       poses that had to be estimated

A line is written after the files of its frame; a frame without its line is made again, and gives the same files. The
folder is removed when the dataset is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from olivine import __version__
from olivine.errors import UserError
from olivine.files import append_line, locked, write_json, writing
from olivine.logs.log import Log
from olivine.logs.recipe import ConvertConfig
from olivine.reading import opened, read_file

FOLDER = ".convert"

_ENDS = 1 << 16

Entry = dict[str, Any]
"""What is noted of a frame: see `olivine.logs.writer`."""


class Journal:
    """The notes of a conversion into one folder.

    Args:
        out: the dataset's folder.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / FOLDER
        self._path = self.folder / "journal.jsonl"
        self._begun = self.folder / "begun.json"
        self._out = out

    def begin(self, log: Log, config: ConvertConfig) -> int:
        """Start, or go on.

        Returns:
            How many frames are done.

        Raises:
            UserError: it was begun with another recipe or source.
        """
        now = {"olivine": __version__, "source": _marks(log), "recipe": config.model_dump(mode="json")}
        self.folder.mkdir(exist_ok=True)
        done = self._mend()
        before = json.loads(read_file(self._begun)) if self._begun.exists() else None
        if before != now:
            if before is not None and done:
                raise UserError(
                    f"{self._out}: was begun with {_difference(before, now)}; go on with that, or remove it"
                )
            shutil.rmtree(self.folder)
            self.folder.mkdir()
            write_json(self._begun, now)
            done = 0
        return done

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the dataset's folder for this process, made where missing.

        Raises:
            UserError: it holds something else, or another process converts into it.
        """
        out = self._out
        if out.exists() and not self.folder.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out}: already exists and is not an empty folder; choose another or remove it")
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
        try:
            with locked(out):
                yield
        except BlockingIOError as error:
            raise UserError(f"{self._out}: another conversion into this folder is running") from error

    def add(self, entry: Entry) -> None:
        """Note a frame, whose files are written."""
        append_line(self._path, json.dumps(entry, separators=(",", ":")))

    def entries(self) -> Iterator[Entry]:
        """The notes, in order, one at a time."""
        if not self._path.exists():
            return
        with self._path.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)

    def remove(self) -> None:
        """The dataset is whole; forget how it came to be."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _mend(self) -> int:
        """Cut off a line that was being written when it was stopped; returns how many whole ones there are."""
        if not self._path.exists():
            return 0
        with self._path.open("rb+") as file:
            end = lines = 0
            for line in file:
                if line.endswith(b"\n"):
                    end, lines = end + len(line), lines + 1
            file.truncate(end)
        return lines


def _marks(log: Log) -> list[list[Any]]:
    """What tells the files of a log from others: names, sizes, and a digest of their ends."""
    root = log.path if log.path.is_dir() else log.path.parent
    return [[_below(file, root), file.stat().st_size, _ends(file)] for file in log.files]


def _below(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name


def _ends(path: Path) -> str:
    with opened(path, "this part of the log") as file:
        digest = hashlib.sha256(file.read(_ENDS))
        size = path.stat().st_size
        if size > _ENDS:
            file.seek(max(size - _ENDS, _ENDS))
            digest.update(file.read(_ENDS))
    return digest.hexdigest()[:16]


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What another conversion differs in, the first thing that does."""
    if before.get("source") != now["source"]:
        return "another source, or the source has changed since"
    if before.get("olivine") != now["olivine"]:
        return f"olivine {before.get('olivine')}, and this is {now['olivine']}"
    old, new = dict(_flat(before.get("recipe"), "")), dict(_flat(now["recipe"], ""))
    key = next(key for key in (*new, *old) if old.get(key) != new.get(key))
    return f"another recipe: {key} was {old.get(key)!r}, and is {new.get(key)!r} now"


def _flat(tree: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of a plain tree."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _flat(value, f"{place}.{key}".removeprefix("."))
    elif isinstance(tree, list) and tree:
        for number, value in enumerate(tree):
            yield from _flat(value, f"{place}.{number}")
    else:
        yield place, tree
