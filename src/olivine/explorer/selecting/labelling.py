"""Labels of a dataset's points by selections, in files of the dataset's own layout, a frame at a time.

The folder that they are written to also holds what they mean and how they were made:

    classes.yaml       the classes, for `data.classes=...`
    selections.yaml    the selections, for `olivine explore ... --select`

Laid over the dataset, the labels are read as its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from olivine.data.frame import Dataset, ListsLabels, NamesLabels
from olivine.data.labels import ClassSet
from olivine.errors import UserError
from olivine.explorer.mistakes.survey import Survey
from olivine.explorer.selecting.selection import Combined, Selection, Selector, class_set, selections_text
from olivine.explorer.subject.moments import Moment, Moments
from olivine.files import locked, write_bytes, writing
from olivine.prediction.sources import Reading
from olivine.reading import TEXT_BYTES, below, read_file

CLASSES, SELECTIONS = "classes.yaml", "selections.yaml"


@dataclass
class Labelled:
    """What became of the frames that were to be labelled.

    Attributes:
        out: the folder of labels.
        written: frames whose labels were written now.
        kept: frames whose labels were there.
        points: points of the frames written now.
        selected: how many of them each class has.
        conflicts: how many of them selections of different names hold; the last one counts.
        failed: frames that have no labels.
        troubles: (place of the frame, reason) of the first of these.
    """

    out: Path
    written: int = 0
    kept: int = 0
    points: int = 0
    selected: dict[str, int] = field(default_factory=dict)
    conflicts: int = 0
    failed: int = 0
    troubles: list[tuple[int, str]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The same, ready for `json.dumps`."""
        return {**vars(self), "out": str(self.out)}

    def __str__(self) -> str:
        """For people, on one line."""
        classes = ", ".join(f"{name} {count:,}" for name, count in self.selected.items())
        said = f"{self.written} frames labelled, {self.kept} kept, {self.failed} failed: {self.out}"
        contested = f"; {self.conflicts:,} points are in selections of several names, and have the last"
        return f"{said}; of {self.points:,} points {classes}{contested if self.conflicts else ''}"


class Labelling:
    """The work of labelling frames by selections.

    Args:
        moments: the frames and networks.
        selections: of several that hold a point the last one counts.
        out: a new folder, or that of an earlier labelling by the same selections, which then goes on: what is there is
            kept.
        places: of the frames; all where left out.

    Raises:
        UserError: there are no selections, or a network of theirs is not there.
    """

    def __init__(
        self, moments: Moments, selections: Sequence[Selection], out: Path, places: Sequence[int] | None = None
    ) -> None:
        self._moments, self._out = moments, out
        self._text = selections_text(moments, selections)
        self._selector = Selector(moments, selections)
        self._classes = class_set(self._selector.names, moments.dataset.classes)
        self._places = list(range(len(moments)) if places is None else places)
        self._survey: Survey[tuple[Combined, NDArray[np.uint16]]] | None = None
        self._stopped = threading.Event()

    @property
    def total(self) -> int:
        """How many frames are to be labelled."""
        return len(self._places)

    def stop(self) -> None:
        """Label no further frame; from any thread."""
        self._stopped.set()
        if self._survey is not None:
            self._survey.stop()

    def run(self, tell: Callable[[Labelled], object] = lambda _: None) -> Labelled:
        """Label the frames.

        Args:
            tell: called after each frame with what became of those so far.

        Raises:
            UserError: the folder holds something else, somebody writes to it, or a file cannot be written or is none
                of the dataset's.
        """
        found = Labelled(self._out, selected=dict.fromkeys(self._selector.names, 0))
        paths = {place: label_path(self._moments.dataset, place, self._out) for place in self._places}
        with self._folder():
            order = [place for place, path in paths.items() if not path.exists()]
            found.kept = len(paths) - len(order)
            self._survey = survey = Survey(self._moments, [], self._label, order)
            if self._stopped.is_set():
                survey.stop()
            for place, (combined, raw) in survey:
                write_bytes(paths[place], encoded(raw, paths[place]))
                self._count(combined, found)
                tell(found)
            found.failed, found.troubles = survey.failed, survey.troubles
            self._write_tables()
        return found

    @contextmanager
    def _folder(self) -> Iterator[None]:
        """Take the folder; nobody else writes to it meanwhile."""
        out = self._out
        if out.exists() and not out.is_dir():
            raise UserError(f"{out}: labels go to a folder, and this is a file")
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
        try:
            with locked(out):
                self._begin()
                yield
        except BlockingIOError as error:
            raise UserError(f"{out}: labels are just being written to this folder; choose another") from error

    def _begin(self) -> None:
        """Write what the labels mean, or see that those which are there mean the same."""
        out = self._out
        begun = (out / SELECTIONS).exists()
        if not begun and any(not entry.name.startswith(".") for entry in out.iterdir()):
            raise UserError(f"{out}: holds files but no {SELECTIONS}; choose an empty folder")
        for name, text in ((SELECTIONS, self._text), (CLASSES, classes_text(self._classes))):
            path = out / name
            if not path.exists():
                write_bytes(path, text.encode())
            elif read_file(path, "this file", limit=TEXT_BYTES) != text.encode():
                raise UserError(f"{path}: these labels were made by other selections; choose another folder")

    def _label(self, moment: Moment) -> tuple[Combined, NDArray[np.uint16]]:
        """What is selected of a frame, and the raw label of each row of its file."""
        combined, frame = self._selector(moment), moment.frame
        rows = Reading(frame, frame.returns).per_row(combined.classes)
        return combined, self._classes.train_to_raw[rows]

    def _count(self, combined: Combined, found: Labelled) -> None:
        found.written += 1
        found.points += len(combined.classes)
        found.conflicts += combined.conflicts
        counts = np.bincount(combined.classes, minlength=len(self._selector.names) + 1)[1:]
        for name, count in zip(self._selector.names, counts.tolist(), strict=True):
            found.selected[name] += count

    def _write_tables(self) -> None:
        """What the dataset finds labels by, for all that are there."""
        dataset: object = self._moments.dataset
        if isinstance(dataset, ListsLabels):
            for name, data in dataset.label_tables(self._out, self._classes).items():
                write_bytes(below(self._out, name, "the dataset"), data)


def label_path(dataset: Dataset, place: int, out: Path) -> Path:
    """The file of a frame's labels below a folder: as the dataset has them, else named by the frame.

    Raises:
        UserError: the dataset names one that is not below the folder.
    """
    name = dataset.labels_name(place) if isinstance(dataset, NamesLabels) else f"{dataset.token(place)}.label"
    return below(out, name, dataset.name)


def encoded(raw: NDArray[np.uint16], path: Path) -> bytes:
    """Raw labels [R] as the file's ending says: `.bin` of a byte each, else of 32 bits.

    Raises:
        UserError: a label is no byte.
    """
    if path.suffix != ".bin":
        return raw.astype("<u4").tobytes()
    if len(raw) and raw.max() > 255:
        raise UserError(f"{path}: labels of this dataset are bytes, and a class has number {raw.max()}")
    return raw.astype(np.uint8).tobytes()


def classes_text(classes: ClassSet) -> str:
    """A class set as the file of it, which `olivine.data.labels.load_class_set` reads."""
    rows = zip(classes.names, classes.train_to_raw[1:].tolist(), classes.colors[1:].tolist(), strict=True)
    tree = {
        "source": "selections by similarity, `olivine explore`",
        "classes": [{"name": name, "raw": [raw], "color": color} for name, raw, color in rows],
        "ignored": [int(classes.train_to_raw[0])],
    }
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def places_of(moments: Moments, frames: str) -> list[int]:
    """The places of the frames that are named.

    Args:
        moments: the frames.
        frames: `all`, or names of scenes and tokens of frames, with commas.

    Raises:
        UserError: there is no such scene or frame.
    """
    dataset = moments.dataset
    if frames == "all":
        return list(range(len(dataset)))
    wanted = dict.fromkeys(frames.split(","), 0)
    found = []
    for place in range(len(dataset)):
        names = {dataset.scene(place), dataset.token(place)} & wanted.keys()
        found += [place] if names else []
        for name in names:
            wanted[name] += 1
    missing = [name for name, count in wanted.items() if not count]
    if missing:
        raise UserError(f"--frames: there is no scene or frame {missing[0]!r} here")
    return found
