"""KITTI's text files of objects: a line per labelled or detected object of one frame.

    Car 0.00 0 1.85 387.63 181.54 423.81 203.12 1.67 1.87 3.69 -16.53 2.39 58.49 1.57 [0.92]
    │   │    │ │    └ image box: left, top, right, bottom (px)                         └ score, of a detection
    │   │    │ └ alpha (rad)   └ height, width, length (m)    │                   └ rotation_y (rad)
    │   │    └ occlusion 0…3             location: middle of the bottom, rectified camera 0 (m)
    │   └ truncation 0…1
    └ type

Areas whose objects were not labelled are lines of the type `DontCare`, anywhere in the file: an image box and nothing
else. A file without lines is a frame without objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from olivine.errors import UserError
from olivine.files import write_text
from olivine.reading import TEXT_BYTES, read_file

DONT_CARE = "DontCare"
"""The type of an area whose objects were not labelled."""

COLUMNS = 15
"""Of a labelled object; a detection has one more, its score."""

UNSET_SIZE_M = -1.0
"""Height, width and length where there is no box in space: DontCare areas, and detections in the image alone."""

UNSET_ALPHA_RAD = -10.0
"""Alpha and rotation where no heading is known."""

UNSET_LOCATION_M = -1000.0
"""Location where there is no box in space."""

_SCORE = 15
_ALPHA, _IMAGE_BOX, _SIZE, _LOCATION = 2, slice(3, 7), slice(7, 10), slice(10, 13)


@dataclass(frozen=True)
class ObjectLabels:
    """The objects of one frame, labelled or detected, in file order.

    Attributes:
        names: [M] type of each, e.g. `Car`.
        truncation: [M] float64, how much lies outside the image, 0…1; −1 unknown.
        occlusion: [M] int64, 0 fully visible, 1 partly, 2 largely occluded, 3 unknown; −1 not given.
        alpha_rad: [M] float64, heading as seen from the camera; −10 unknown.
        image_box: [M, 4] float64, left, top, right, bottom in pixels.
        size_hwl_m: [M, 3] float64, height, width, length; −1 where there is no box in space.
        location_m: [M, 3] float64, middle of the bottom face in the rectified frame of camera 0 (x right, y down, z
            forward).
        rotation_y_rad: [M] float64, turn about the camera's y axis; 0 is a heading along x.
        score: [M] float64 of detections, higher is surer; None for labels.
    """

    names: tuple[str, ...]
    truncation: NDArray[np.float64]
    occlusion: NDArray[np.int64]
    alpha_rad: NDArray[np.float64]
    image_box: NDArray[np.float64]
    size_hwl_m: NDArray[np.float64]
    location_m: NDArray[np.float64]
    rotation_y_rad: NDArray[np.float64]
    score: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        count = len(self.names)
        for field, columns in _SHAPES.items():
            found = np.shape(getattr(self, field))
            if found != (count, *columns):
                raise UserError(f"ObjectLabels.{field}: has the shape {list(found)}; give {[count, *columns]}")
        if self.score is not None and np.shape(self.score) != (count,):
            raise UserError(f"ObjectLabels.score: has the shape {list(np.shape(self.score))}; give {[count]}")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def empty(cls, *, scored: bool = False) -> ObjectLabels:
        """No objects; with `scored`, no detections."""
        return _from_rows((), np.empty((0, COLUMNS - 1 + scored)), scored=scored)

    @property
    def is_dont_care(self) -> NDArray[np.bool_]:
        """[M] bool, which lines are areas without labels instead of objects."""
        return np.fromiter((name == DONT_CARE for name in self.names), np.bool_, len(self))

    def take(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> ObjectLabels:
        """Some of the objects.

        Args:
            which: [M] bool, or rows in the order that is wanted.
        """
        rows = np.arange(len(self))[which]
        return ObjectLabels(
            tuple(self.names[row] for row in rows),
            **{field: getattr(self, field)[rows] for field in _SHAPES},
            score=None if self.score is None else self.score[rows],
        )


_SHAPES: dict[str, tuple[int, ...]] = {
    "truncation": (),
    "occlusion": (),
    "alpha_rad": (),
    "image_box": (4,),
    "size_hwl_m": (3,),
    "location_m": (3,),
    "rotation_y_rad": (),
}


def read_objects(path: Path, scored: bool = False) -> ObjectLabels:
    """Read the objects of one frame; Windows' line ends, spaces at their ends and empty lines are fine.

    Args:
        path: a text file of KITTI's object layout.
        scored: the file holds detections: every line must have a score, and may lack a box in space (sizes −1).
            Otherwise scores are left out where lines have them.

    Raises:
        UserError: no such file, or a line with too few or too many columns, something that is no finite number, a
            negative size, or an image box whose corners are swapped; the line is named.
    """
    what = "this file of detections" if scored else "this label file"
    try:
        text = read_file(path, what, limit=TEXT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: is no text file ({error.reason}); give a text file of KITTI's object layout"
        ) from error
    numbers, words = _words(text)
    names = tuple(line[0] for line in words)
    try:
        _check_columns(words, scored)
        rows = _numbers(words, scored)
        _check(names, rows, scored)
    except _BadLineError as error:
        raise UserError(f"{path}: line {numbers[error.row]} {error}") from None
    return _from_rows(names, rows, scored=scored)


def write_objects(path: Path, objects: ObjectLabels, *, decimals: int = 4) -> None:
    """Write the objects of one frame, whole or not at all; with their scores where they have some.

    Args:
        path: the file; its folder is created where missing.
        objects: what `read_objects` then reads again, up to rounding. Scores are written in full, so that their order
            survives.
        decimals: digits kept behind the point; KITTI's own labels have 2.

    Raises:
        UserError: what is no finite number, or the file cannot be written.
    """
    columns = [objects.truncation[:, None], objects.occlusion[:, None], objects.alpha_rad[:, None], objects.image_box]
    columns += [objects.size_hwl_m, objects.location_m, objects.rotation_y_rad[:, None]]
    rows = np.concatenate(columns, axis=1, dtype=np.float64)
    scores: Sequence[str] = [""] * len(objects)
    if objects.score is not None:
        scores = [f" {float(score)!r}" for score in objects.score]
    if not np.isfinite(rows).all() or (objects.score is not None and not np.isfinite(objects.score).all()):
        raise UserError(f"{path}: an object that is to be written has a number that is not finite; leave it out")
    lines = zip(objects.names, rows.tolist(), scores, strict=True)
    write_text(
        path,
        "".join(
            f"{name} {' '.join(_shortest(value, decimals) for value in row)}{score}\n" for name, row, score in lines
        ),
    )


class _BadLineError(Exception):
    """What is wrong with one of the lines, and what to do."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


def _words(text: str) -> tuple[list[int], list[list[str]]]:
    """(number in the file, words) of the lines that are not empty."""
    lines = [(number, line.split()) for number, line in enumerate(text.split("\n"), start=1)]
    filled = [(number, words) for number, words in lines if words]
    return [number for number, _ in filled], [words for _, words in filled]


def _check_columns(words: list[list[str]], scored: bool) -> None:
    for row, line in enumerate(words):
        count = len(line)
        if scored and count == COLUMNS:
            raise _BadLineError(row, f"has no score; a detection has {COLUMNS + 1} columns, the last its score")
        if count < COLUMNS + scored:
            raise _BadLineError(
                row, f"has {count} columns instead of {COLUMNS + scored}; write every line in KITTI's object layout"
            )
        if count > COLUMNS + 1:
            raise _BadLineError(row, f"has {count} columns, more than {COLUMNS + 1}; write one object per line")


def _numbers(words: list[list[str]], scored: bool) -> NDArray[np.float64]:
    """[M, 14 or 15] what stands behind the names."""
    width = COLUMNS - 1 + scored
    try:
        rows = np.array([[float(word) for word in line[1 : width + 1]] for line in words], np.float64)
    except ValueError:
        raise next(_not_numbers(words, width)) from None
    return rows.reshape(len(words), width)


def _not_numbers(words: list[list[str]], width: int) -> Iterator[_BadLineError]:
    for row, line in enumerate(words):
        for column, word in enumerate(line[1 : width + 1], start=2):
            try:
                float(word)
            except ValueError:
                yield _BadLineError(row, f"has {word[:40]!r} in column {column}, where a number is due; correct it")


def _check(names: tuple[str, ...], rows: NDArray[np.float64], scored: bool) -> None:
    """Refuse numbers that no object can have."""
    for row, column in np.argwhere(~np.isfinite(rows)).tolist():
        raise _BadLineError(
            row, f"has {rows[row, column]} in column {column + 2}, which is not finite; correct or remove the line"
        )
    real = np.fromiter((name != DONT_CARE for name in names), np.bool_, len(names))
    negative = real & (rows[:, _SIZE] < 0).any(1)
    if scored:
        negative &= ~_unset(rows[:, _SIZE])
    for row in np.flatnonzero(negative).tolist():
        raise _BadLineError(
            row, f"has a negative size ({_shown(rows[row, _SIZE])}); give height, width and length in metres"
        )
    for row in np.flatnonzero((rows[:, 5] < rows[:, 3]) | (rows[:, 6] < rows[:, 4])).tolist():
        raise _BadLineError(
            row,
            f"has an image box that ends before it begins ({_shown(rows[row, _IMAGE_BOX])}); give left, top, right and "
            "bottom",
        )
    for row in np.flatnonzero(rows[:, 1] % 1).tolist():
        raise _BadLineError(row, f"has the occlusion {rows[row, 1]:g}; give 0, 1, 2 or 3, or -1 where it is unknown")


def _unset(sizes: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((sizes == UNSET_SIZE_M).all(1))


def _shown(numbers: NDArray[np.float64]) -> str:
    return " ".join(f"{number:g}" for number in numbers)


def _from_rows(names: tuple[str, ...], rows: NDArray[np.float64], *, scored: bool) -> ObjectLabels:
    return ObjectLabels(
        names=names,
        truncation=rows[:, 0],
        occlusion=rows[:, 1].astype(np.int64),
        alpha_rad=rows[:, _ALPHA],
        image_box=rows[:, _IMAGE_BOX],
        size_hwl_m=rows[:, _SIZE],
        location_m=rows[:, _LOCATION],
        rotation_y_rad=rows[:, 13],
        score=rows[:, 14] if scored else None,
    )


def _shortest(value: float, decimals: int) -> str:
    """A number without what says nothing: -10 for -10.0000."""
    text = f"{value:.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text
