"""Labels put right by marks: the dataset's own label files again, with other classes where marks say which.

A file is written for each frame in which something is put right, under its name in the dataset, so that the folder can
be laid over the dataset; all other rows, and instance numbers, stay as they are. `marks.json` beside them has the marks
that were followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from olivine.data.frame import Dataset, KeepsLabels
from olivine.errors import UserError
from olivine.explorer.mistakes.marks import MARKS_FILE, Mark, Marks, marks_text
from olivine.files import replacing, write_bytes, write_text, writing
from olivine.reading import SCAN_BYTES, below, read_file

_CLASS_BITS = 0xFFFF
_RIGHT = "say that the label is right"
_UNKNOWN = "do not say what it should be"
_ELSEWHERE = "are of other data"
_CLOSED = "are of frames that are not opened"
_CHANGED = "are of points that are labelled otherwise by now"


@dataclass
class Corrected:
    """What became of marks.

    Attributes:
        out: the folder of labels.
        frames: label files written.
        things: marks followed.
        points: points that have another class by them.
        passed_over: how many marks were not followed, by the reason.
    """

    out: Path
    frames: int = 0
    things: int = 0
    points: int = 0
    passed_over: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The same, ready for `json.dumps`."""
        return {**vars(self), "out": str(self.out)}

    def __str__(self) -> str:
        """For people, on one line."""
        rest = "".join(f"; {count} marks {reason}" for reason, count in self.passed_over.items())
        return f"{self.things} labels put right in {self.frames} frames, {self.points:,} points: {self.out}{rest}"


def write_corrected(dataset: Dataset, marks: Marks, out: Path) -> Corrected:
    """Write the labels of frames in which marks say that a label is wrong and what it should be.

    Args:
        dataset: its opened frames are put right, and no others.
        marks: of marks of the same points the last one counts.
        out: a folder that is new or empty.

    Raises:
        UserError: there are no marks, the dataset does not say where its labels lie, a mark names a class or a point
            that there is not, the folder holds something, or a file cannot be read or written.
    """
    if not isinstance(dataset, KeepsLabels):
        raise UserError(f"{dataset.name} does not say in which files its labels lie, so that they cannot be put right")
    every = marks.all()
    if not every:
        raise UserError(f"{marks.path}: no marks; mark label errors in the explorer first, or name a file with --marks")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: labels go to a folder that is new or empty")
    done = Corrected(out)
    places = {dataset.token(place): place for place in range(len(dataset))}
    by_frame: dict[int, list[Mark]] = {}
    for mark in every:
        reason = _reason(mark, dataset, places)
        if reason:
            done.passed_over[reason] = done.passed_over.get(reason, 0) + 1
        else:
            by_frame.setdefault(places[mark.token], []).append(mark)
    files = _Files(dataset, marks.path)
    for place, own in by_frame.items():
        files.follow(place, own)  # what cannot be followed is refused before anything is written
    followed = list[Mark]()
    for place in sorted(by_frame):
        correction = files.follow(place, by_frame[place])
        _count(correction, len(by_frame[place]), done)
        if correction.marks:
            _write(below(out, files.name(place), dataset.name), correction.raw)
            followed += correction.marks
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    write_text(out / MARKS_FILE, marks_text(followed))
    return done


def _reason(mark: Mark, dataset: Dataset, places: dict[str, int]) -> str:
    """Why a mark is not followed; empty where it is."""
    if mark.dataset != dataset.name:
        return _ELSEWHERE
    if mark.label == "right":
        return _RIGHT
    if not mark.better:
        return _UNKNOWN
    return "" if mark.token in places else _CLOSED


class _Correction(NamedTuple):
    """The marks of a frame that were followed, how many points have another class by them, and its [R] raw labels."""

    marks: list[Mark]
    points: int
    raw: NDArray[np.integer]


def _count(correction: _Correction, marks: int, done: Corrected) -> None:
    done.frames += bool(correction.marks)
    done.things += len(correction.marks)
    done.points += correction.points
    if len(correction.marks) < marks:
        changed = done.passed_over.get(_CHANGED, 0)
        done.passed_over[_CHANGED] = changed + marks - len(correction.marks)


class _Files:
    """The label files of a dataset, and what marks make of them."""

    def __init__(self, dataset: KeepsLabels, marks: Path) -> None:
        self._dataset, self._marks = dataset, marks

    def name(self, place: int) -> str:
        """Where the labels of a frame are below the dataset's folder."""
        path = self._path(place)
        if not path.is_relative_to(self._dataset.root):
            raise UserError(f"{path}: lies outside of {self._dataset.root}, so that no folder can be laid over it")
        return path.relative_to(self._dataset.root).as_posix()

    def follow(self, place: int, marks: Sequence[Mark]) -> _Correction:
        """The labels of a frame by its marks; those are left out whose points are labelled otherwise by now."""
        frame, path = self._dataset[place], self._path(place)
        labels, raw = frame.labels, _read(path)
        if labels is None:
            raise self._without(place)
        row = np.arange(len(labels)) if frame.returns is None else np.flatnonzero(frame.returns)
        followed, changed = list[Mark](), np.zeros(len(labels), bool)
        for mark in marks:
            points = mark.points()
            if points[-1] >= len(labels):
                said = f"a mark names point {points[-1]} of frame {frame.token}, which has {len(labels)}"
                raise UserError(f"{self._marks}: {said}; it was made with other data")
            given, better = (self._number(name) for name in (mark.given, mark.better))
            own = points[labels[points] == given]
            if 2 * len(own) < len(points):
                continue
            raw[row[own]] = self._with_class(raw[row[own]], better, path)
            changed[own] = True
            followed.append(mark)
        return _Correction(followed, int(changed.sum()), raw)

    def _path(self, place: int) -> Path:
        path = self._dataset.label_path(place)
        if path is None:
            raise self._without(place)
        return path

    def _without(self, place: int) -> UserError:
        return UserError(f"{self._marks}: frame {self._dataset.token(place)} is marked, and has no labels here")

    def _number(self, name: str) -> int:
        names = self._dataset.classes.names
        if name not in names:
            raise UserError(f"{self._marks}: a mark names the class {name!r}; there are {', '.join(names)}")
        return names.index(name) + 1

    def _with_class(self, raw: NDArray[np.integer], number: int, path: Path) -> NDArray[np.integer]:
        """Raw labels [n] of another class; what stands above its 16 bits stays."""
        own = int(self._dataset.classes.train_to_raw[number])
        if own > np.iinfo(raw.dtype).max:
            raise UserError(f"{path}: its labels are {raw.dtype}, and a class has number {own}")
        wide = raw.astype(np.int64)
        return ((wide & ~_CLASS_BITS) | own).astype(raw.dtype)


def _read(path: Path) -> NDArray[np.integer]:
    """[R] the whole numbers of a label file, a copy."""
    if path.suffix.lower() == ".npy":
        stored: NDArray[np.integer] = np.array(np.load(path, allow_pickle=False))
        return stored
    content = read_file(path, "these labels", limit=SCAN_BYTES)
    numbers = np.dtype("u1" if path.suffix.lower() == ".bin" else "<u4")
    values: NDArray[np.integer] = np.frombuffer(content, numbers).copy()
    return values


def _write(path: Path, raw: NDArray[np.integer]) -> None:
    """A label file of the kind that was read."""
    if path.suffix.lower() != ".npy":
        write_bytes(path, raw.tobytes())
        return
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        np.save(file, raw)
