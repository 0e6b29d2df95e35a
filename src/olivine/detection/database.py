"""Objects of a labelled split, cut out of their scans: what object sampling pastes into other scans.

A database is a folder that is made once: `points.bin`, the points of all objects one after another; `objects.npz`,
their boxes; and `index.json`, written last, which says what the objects were cut from. Building it holds the folder's
lock, so that of several programs that want it one builds and the others wait.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.data.frame import Dataset
from olivine.data.intensity import range_of
from olivine.detection.annotated import annotated_boxes
from olivine.errors import UserError
from olivine.files import locked, replacing, write_bytes, write_json, writing
from olivine.geometry import enlarged, points_in_boxes

LAYOUT = 1
"""Number of the folder's layout, in its index."""
MARGIN_M = 0.01
"""How far beyond a box's sides points still belong to its object, along x and y of the box; as published."""
SAMPLED = 64
"""Frames, spread evenly over the split, whose points are read for its digest."""

_INDEX, _OBJECTS, _POINTS = "index.json", "objects.npz", "points.bin"
_ROW = 4  # x, y, z, intensity
_log = logging.getLogger("olivine")


@dataclass(frozen=True)
class ObjectDatabase:
    """The objects of a split. K objects.

    Attributes:
        folder: where they lie.
        names: [K] category of each, as the dataset writes it.
        boxes: [K, 7] float64 where each stood in its scan's LiDAR frame.
        difficulty: [K] int64 how hard each is to see, -1 where the dataset's rule says nothing; None where the dataset
            has no such rule.
        frame: [K] int64 place of its scan in the split.
        start: [K + 1] int64 object k owns the rows `start[k]:start[k + 1]` of the points.
        intensity_max: top of the range of the intensities; None where there are none, and their column is zero.
    """

    folder: Path
    names: tuple[str, ...]
    boxes: NDArray[np.float64]
    difficulty: NDArray[np.int64] | None
    frame: NDArray[np.int64]
    start: NDArray[np.int64]
    intensity_max: float | None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def counts(self) -> NDArray[np.int64]:
        """[K] points of each object."""
        return np.diff(self.start)

    def points(self, row: int) -> NDArray[np.float32]:
        """[P, 4] float32 points of object `row`: x, y, z about the centre of its box, in the LiDAR's axes, intensity.

        Raises:
            UserError: the file of the points is missing or cut off.
        """
        path, count = self.folder / _POINTS, int(self.counts[row])
        try:
            found = np.fromfile(path, "<f4", count * _ROW, offset=int(self.start[row]) * _ROW * 4)
        except OSError as error:
            raise UserError(f"{path}: cannot read the objects' points ({error}); {_ANEW}") from error
        if len(found) != count * _ROW:
            raise UserError(f"{path}: is cut off; {_ANEW}")
        return found.reshape(-1, _ROW).astype(np.float32)


_ANEW = "set sampling.rebuild=true to make this database anew"


def open_database(folder: Path, dataset: Dataset, *, rebuild: bool = False) -> ObjectDatabase:
    """The database of a split's objects; made where the folder holds none.

    Args:
        folder: where it lies, or is to lie.
        dataset: the split, with whole scans: points outside a camera's view belong to objects too.
        rebuild: make it anew, whatever the folder holds.

    Raises:
        UserError: the folder holds a database of other data, or a damaged one; a frame has no annotated boxes; a box
            has a side of no length; or the folder cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(locked(folder, wait=True))
        except OSError as error:
            _log.info("%s: this file system has no locks (%s); it may be made twice", folder, error)
        if rebuild or not (folder / _INDEX).exists():
            _build(folder, dataset)
            return _read(folder)[0]
    return _of(dataset, _read(folder))


def points_of_objects(points_m: NDArray[np.float32], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[M, N] which points [N, 3] belong to the objects in boxes [M, 7], up to `MARGIN_M` beside them included."""
    return points_in_boxes(points_m, enlarged(boxes, (2 * MARGIN_M, 2 * MARGIN_M, 0)))


def frames_digest(dataset: Dataset) -> dict[str, str]:
    """SHA-256 of what objects are cut from, by name.

    Args:
        dataset: the split.

    Returns:
        `frames` (their tokens in order), and of `SAMPLED` frames `boxes` and `points`.
    """
    frames = hashlib.sha256()
    for index in range(len(dataset)):
        frames.update(dataset.token(index).encode() + b"\0")
    boxes, points = hashlib.sha256(), hashlib.sha256()
    for index in np.unique(np.linspace(0, len(dataset) - 1, min(SAMPLED, len(dataset))).round().astype(int)):
        frame = dataset[int(index)]
        annotated = annotated_boxes(frame)
        boxes.update("\0".join(annotated.names).encode() + b"\0")
        boxes.update(np.ascontiguousarray(annotated.boxes, np.float64).tobytes())
        boxes.update(b"" if annotated.difficulty is None else np.asarray(annotated.difficulty, np.int64).tobytes())
        points.update(np.ascontiguousarray(frame.points_lidar_m, np.float32).tobytes())
        if frame.intensity is not None:
            points.update(np.ascontiguousarray(frame.intensity, np.float32).tobytes())
    digests = {"frames": frames, "boxes": boxes, "points": points}
    return {name: digest.hexdigest() for name, digest in digests.items()}


def default_name(dataset: Dataset) -> str:
    """A name for a split's own database: other data have another."""
    digests = "".join(frames_digest(dataset).values())
    return f"{dataset.name}-{hashlib.sha256(digests.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class _Cut:
    """One object, cut out of its scan; fields as of `ObjectDatabase`."""

    name: str
    box: NDArray[np.float64]
    difficulty: int
    frame: int
    points: NDArray[np.float32]


def _build(folder: Path, dataset: Dataset) -> None:
    """Cut out every object of a split and write the three files."""
    _log.info("%s: cutting out the objects of %d frames", folder, len(dataset))
    (folder / _INDEX).unlink(missing_ok=True)
    cuts: list[_Cut] = []
    counts: list[int] = []
    digest = hashlib.sha256()
    with writing(folder / _POINTS), replacing(folder / _POINTS, shared=True) as file:
        for cut in _objects(dataset):
            data = cut.points.astype("<f4").tobytes()
            digest.update(data)
            file.write(data)
            counts.append(len(cut.points))
            cuts.append(cut)
    _write_objects(folder / _OBJECTS, cuts, counts)
    first = dataset[0]
    write_json(
        folder / _INDEX,
        {
            "layout": LAYOUT,
            "dataset": dataset.name,
            "frames": len(dataset),
            "objects": {name: sum(cut.name == name for cut in cuts) for name in sorted({cut.name for cut in cuts})},
            "margin_m": MARGIN_M,
            "rated": annotated_boxes(first).difficulty is not None,
            "intensity_max": range_of(first),
            "made_from": frames_digest(dataset),
            "sha256": {_POINTS: digest.hexdigest(), _OBJECTS: _digest(folder / _OBJECTS)},
        },
    )


def _objects(dataset: Dataset) -> Iterator[_Cut]:
    """Every object of a split, frame by frame, in the order of the labels."""
    for index in range(len(dataset)):
        frame = dataset[index]
        annotated = annotated_boxes(frame)
        intensity = np.zeros(len(frame.points_lidar_m)) if frame.intensity is None else frame.intensity
        cloud = np.column_stack([frame.points_lidar_m, intensity])
        inside = points_of_objects(frame.points_lidar_m, annotated.boxes)
        for row, box in enumerate(annotated.boxes):
            points = cloud[inside[row]].astype(np.float64)
            points[:, :3] -= box[:3]
            difficulty = -1 if annotated.difficulty is None else int(annotated.difficulty[row])
            yield _Cut(annotated.names[row], box, difficulty, index, points.astype(np.float32))


def _write_objects(path: Path, cuts: list[_Cut], counts: list[int]) -> None:
    content = io.BytesIO()
    np.savez(
        content,
        names=np.array([cut.name for cut in cuts], np.str_),
        boxes=np.array([cut.box for cut in cuts], np.float64).reshape(-1, 7),
        difficulty=np.array([cut.difficulty for cut in cuts], np.int64),
        frame=np.array([cut.frame for cut in cuts], np.int64),
        start=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
    )
    write_bytes(path, content.getvalue())


def _read(folder: Path) -> tuple[ObjectDatabase, dict[str, Any]]:
    """A whole database and its index."""
    path = folder / _INDEX
    try:
        index = dict(json.loads(path.read_text(encoding="utf-8")))
        if index["layout"] != LAYOUT:
            raise ValueError(f"layout {index['layout']}, and this version has {LAYOUT}")
        for name, digest in index["sha256"].items():
            if _digest(folder / name) != digest:
                raise ValueError(f"{name} is not what the index says (SHA-256)")
        with np.load(folder / _OBJECTS, allow_pickle=False) as arrays:
            objects = {key: arrays[key] for key in ("names", "boxes", "difficulty", "frame", "start")}
        database = ObjectDatabase(
            folder,
            tuple(map(str, objects["names"])),
            objects["boxes"],
            objects["difficulty"] if index["rated"] else None,
            objects["frame"],
            objects["start"],
            None if index["intensity_max"] is None else float(index["intensity_max"]),
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: no readable database of objects ({error}); {_ANEW}") from error
    return database, index


def _of(dataset: Dataset, found: tuple[ObjectDatabase, dict[str, Any]]) -> ObjectDatabase:
    """The database, if it was made from this split."""
    database, index = found
    made, now = index["made_from"], frames_digest(dataset)
    other = [name for name in now if made.get(name) != now[name]]
    if other:
        raise UserError(
            f"{database.folder}: a database of other data, a split of {index['frames']} frames of {index['dataset']} "
            f"(other {', '.join(other)}); choose another folder with sampling.database, or {_ANEW}"
        )
    return database


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
