"""What people said of labels that were doubted: a file that several may write at once, each mark whole or absent.

The file is JSON: `{"format": 1, "marks": [...]}`. A mark says of which points of which frame it is, so that it holds
for whatever network found them: it is of a thing when at least half of the points of both are the same.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from olivine.config import Config, validate
from olivine.errors import UserError
from olivine.explorer.subject.opening import Subject
from olivine.files import locked, write_text, writing
from olivine.reading import TEXT_BYTES, read_file

MARKS_FILE = "marks.json"
"""Name of the file beside a run's weights."""

_SAME = 0.5
_MOST_POINTS = 1 << 25


class Mark(Config):
    """What somebody said of the label of a thing."""

    dataset: str
    """Name of the dataset."""

    token: str
    """Token of the frame."""

    scene: str = ""
    """The recording that the frame belongs to."""

    rows: tuple[tuple[int, int], ...]
    """The points: first and last row of each stretch, rising."""

    given: str
    """Class that the points are labelled as."""

    proposed: str
    """Class that was proposed instead."""

    label: Literal["right", "wrong"]
    """Whether the label is."""

    better: str = ""
    """The class that it should be, where the label is wrong and somebody knows."""

    run: str = ""
    """The network that doubted the label."""

    time: str = ""
    """When this was said, UTC."""

    @field_validator("rows")
    @classmethod
    def _rising(cls, rows: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        ends = [end for stretch in rows for end in stretch]
        if not rows or ends[0] < 0 or ends != sorted(ends):
            raise ValueError("rows are stretches [first, last], rising")
        if ends[-1] >= _MOST_POINTS:
            raise ValueError(f"no scan has {ends[-1]} points")
        return rows

    def points(self) -> NDArray[np.int64]:
        """[n] the rows one by one."""
        return np.concatenate([np.arange(first, last + 1) for first, last in self.rows])


class Marks:
    """The marks of a file. Several threads and processes may read and write it.

    Args:
        path: the file; it and its folder are made with the first mark.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._marks: tuple[Mark, ...] = ()

    def all(self) -> tuple[Mark, ...]:
        """Every mark, the oldest first.

        Raises:
            UserError: the file is no such file.
        """
        with self._lock:
            return self._read()

    def of(self, dataset: str, token: str, given: str, rows: NDArray[np.integer]) -> Mark | None:
        """What was last said of the label of a thing, or None.

        Args:
            dataset: its name; frames of several datasets may have one token.
            token: of its frame.
            given: class that its points are labelled as; a label that was put right since has no mark.
            rows: [n] its points.

        Raises:
            UserError: the file is no such file.
        """
        of = (dataset, token, given)
        said = [mark for mark in self.all() if (mark.dataset, mark.token, mark.given) == of]
        return next((mark for mark in reversed(said) if same(mark.points(), rows)), None)

    def add(self, mark: Mark) -> None:
        """Write a mark, in place of any other of the same thing.

        Raises:
            UserError: the file is no such file, or cannot be written.
        """
        self._rewrite(lambda marks: [*_others(marks, mark.dataset, mark.token, mark.points()), mark])

    def remove(self, dataset: str, token: str, rows: NDArray[np.integer]) -> None:
        """Take back what was said of a thing.

        Raises:
            UserError: the file is no such file, or cannot be written.
        """
        self._rewrite(lambda marks: list(_others(marks, dataset, token, rows)))

    def _rewrite(self, change: Callable[[Sequence[Mark]], Sequence[Mark]]) -> None:
        with self._lock, self._alone():
            write_text(self.path, marks_text(change(self._read())))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from writing meanwhile. The file itself is replaced, so another one is locked."""
        beside = self.path.with_name(f".{self.path.name}.lock")
        with writing(self.path):
            beside.parent.mkdir(parents=True, exist_ok=True)
            beside.touch()
        with locked(beside, wait=True):
            yield

    def _read(self) -> tuple[Mark, ...]:
        """The marks; parsed anew where the file has changed."""
        if not self.path.exists():
            self._seen, self._marks = None, ()
            return ()
        about = self.path.stat()
        seen = (about.st_ino, about.st_mtime_ns, about.st_size)
        if seen != self._seen:
            self._marks, self._seen = _parsed(self.path), seen
        return self._marks


def marks_text(marks: Iterable[Mark]) -> str:
    """Marks as their file has them."""
    lines = ",\n".join(json.dumps(mark.model_dump(exclude_defaults=True), ensure_ascii=False) for mark in marks)
    return f'{{"format": 1, "marks": [\n{lines}\n]}}\n'


def marks_of(subject: Subject, path: Path | None = None) -> Marks:
    """The marks of what is looked at.

    Args:
        subject: what is looked at.
        path: the file; by default `MARKS_FILE` beside the weights of the first run, or here where there is none.
    """
    if path is None:
        beside = next((run.path for run in subject.runs), Path())
        path = (beside if beside.is_dir() else beside.parent) / MARKS_FILE
    return Marks(path)


def stretches(rows: NDArray[np.integer]) -> tuple[tuple[int, int], ...]:
    """[n] rising rows as (first, last) of each stretch without a gap."""
    parts = np.split(np.asarray(rows), np.flatnonzero(np.diff(rows) > 1) + 1)
    return tuple((int(part[0]), int(part[-1])) for part in parts if len(part))


def same(rows: NDArray[np.integer], others: NDArray[np.integer]) -> bool:
    """Whether two lists of rows, each rising, are of the same thing: at least half of the points of both are shared."""
    shared = len(np.intersect1d(rows, others, assume_unique=True))
    return shared >= _SAME * max(len(rows), len(others))


def now() -> str:
    """The time as marks have it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _others(marks: Iterable[Mark], dataset: str, token: str, rows: NDArray[np.integer]) -> Iterator[Mark]:
    frame = (dataset, token)
    return (mark for mark in marks if (mark.dataset, mark.token) != frame or not same(mark.points(), rows))


def _parsed(path: Path) -> tuple[Mark, ...]:
    try:
        content: Any = json.loads(read_file(path, "this file of marks", limit=TEXT_BYTES))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: no file of marks: {error}; name another with --marks, or repair it") from error
    if not isinstance(content, dict) or content.get("format") != 1 or not isinstance(content.get("marks"), list):
        raise UserError(f"{path}: no file of marks; name another with --marks")
    return tuple(validate(Mark, mark, f"{path}: mark {place}") for place, mark in enumerate(content["marks"]))
