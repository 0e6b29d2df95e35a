"""The files of a folder of scans and images: where they lie, when they were taken, and which belong together."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from olivine.data.file_times import time_of_date, time_of_name, time_of_number
from olivine.data.folder_keys import FolderKeys, below_root
from olivine.errors import UserError
from olivine.reading import TEXT_BYTES, read_file
from olivine.scans import SUFFIXES

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
"""Endings of files of images, in small letters."""

TIMES = "timestamps.txt"
"""File of times beside scans or images: a line for each file in order: a time, a date and a time, or its name and
a time."""


@dataclass(frozen=True)
class Taken:
    """A file that a sensor took.

    Attributes:
        scene: the recording it belongs to, empty for files that lie in no folder of their own.
        name: without its ending, unique in the scene.
        path: the file.
        time_us: when it was taken, microseconds; None where nothing says so.
    """

    scene: str
    name: str
    path: Path
    time_us: int | None


def scan_folder(root: Path, keys: FolderKeys) -> Path:
    """The folder of the scans.

    Raises:
        UserError: none holds any, or several do.
    """
    if keys.scans is not None:
        return below_root(root, keys.scans, "scans")
    found = scan_folders(root, keys)
    if len(found) != 1:
        several = f"several folders hold files of clouds ({', '.join(folder.name for folder in found)})"
        raise UserError(
            f"{root}: {several if found else 'no folder holds files of clouds'}; those end in {', '.join(SUFFIXES)}; "
            "name theirs with the key folder.scans of the calibration"
        )
    return found[0]


def scan_folders(root: Path, keys: FolderKeys) -> list[Path]:
    """The root if it holds scans, else the folders in it that do, themselves or in folders of their own."""
    # Labels and boxes may end as scans do.
    return _holding(root, SUFFIXES, {keys.labels, keys.boxes, "camseg", "superpixels", *keys.images.values()})


def image_folders(root: Path, keys: FolderKeys, cameras: Collection[str]) -> dict[str, Path]:
    """The folder of each camera's images, of those cameras that have one.

    Raises:
        UserError: a folder that a key names is not there, or a key names no camera of the calibration.
    """
    unknown = [name for name in keys.images if name not in cameras]
    if unknown:
        raise UserError(f"{root}: folder.images names {unknown[0]!r}, and the calibration has {', '.join(cameras)}")
    named = {name: below_root(root, folder, f"images.{name}") for name, folder in keys.images.items()}
    for name in cameras:
        places = (root / name, root / "images" / name, root / "cameras" / name)
        found = next((folder for folder in places if folder.is_dir()), None)
        if name not in named and found is not None:
            named[name] = found
    if not named and len(cameras) == 1:
        only = _holding(root, IMAGES, {"camseg", "superpixels", keys.labels})
        named = {next(iter(cameras)): only[0]} if len(only) == 1 else {}
    return {name: named[name] for name in cameras if name in named}


def files_in(folder: Path, suffixes: Collection[str]) -> list[Taken]:
    """The files of a sensor by scene and name, numbers in names in their order.

    Raises:
        UserError: two files have one name, or a file of times does not fit.
    """
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    places = [("", folder), *((path.name, path) for path in below)]
    return [taken for scene, place in places for taken in _in_one(scene, place, suffixes)]


def matched(scans: Sequence[Taken], images: Sequence[Taken], keys: FolderKeys, camera: str) -> list[Taken | None]:
    """The image of each scan, or None where it has none.

    Raises:
        UserError: neither names nor times bring them together.
    """
    if keys.match != "times":
        of_name = {(image.scene, image.name): image for image in images}
        found = [of_name.get((scan.scene, scan.name)) for scan in scans]
        if keys.match == "stems" or any(found):
            return found
    if any(taken.time_us is None for taken in (*scans, *images)):
        raise UserError(
            f"{images[0].path.parent}: no image of {camera} has the name of a scan (as {scans[0].name}), and their "
            f"times are not known; give equal names, names that are times, or a {TIMES} beside scans and images"
        )
    return _nearest(scans, images, keys.max_gap_ms * 1e3)


def _holding(root: Path, suffixes: Collection[str], others: Collection[str]) -> list[Path]:
    """The root, if it holds files with these endings, else the folders in it that do, or whose folders do."""
    if any(_files(root, suffixes)):
        return [root]
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    return [
        path
        for path in folders
        if path.name not in others
        and (any(_files(path, suffixes)) or any(any(_files(one, suffixes)) for one in path.iterdir() if one.is_dir()))
    ]


def _files(folder: Path, suffixes: Collection[str]) -> Iterator[Path]:
    return (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )


def _in_one(scene: str, folder: Path, suffixes: Collection[str]) -> list[Taken]:
    """The files of one folder."""
    paths = sorted(_files(folder, suffixes), key=lambda path: (_numbered(path.stem), path.name))
    for first, second in itertools.pairwise(paths):
        if first.stem == second.stem:
            raise UserError(f"{second}: {first.name} has the same name without its ending; remove one of them")
    times = _listed_times(folder / TIMES, paths) or [_us(time_of_name(path.stem)) for path in paths]
    return [Taken(scene, path.stem, path, time) for path, time in zip(paths, times, strict=True)]


def _numbered(stem: str) -> tuple[tuple[int, int | str], ...]:
    """A name as it is sorted: its numbers as numbers."""
    parts = re.split(r"([0-9]+)", stem)
    return tuple((0, int(part)) if place % 2 else (1, part) for place, part in enumerate(parts))


def _listed_times(path: Path, files: Sequence[Path]) -> list[int | None] | None:
    """The times that a file lists, in the order of the files; None where there is no such file."""
    if not path.exists():
        return None
    text = read_file(path, "these times", limit=TEXT_BYTES).decode("utf-8", errors="replace")
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != len(files):
        raise UserError(f"{path}: {len(lines)} times for {len(files)} files; a line for each file, in their order")
    dated = [time_of_date(" ".join(line)) for line in lines]
    if all(len(line) == 2 for line in lines) and None in dated:
        named = {Path(name).stem: time for name, time in lines}
        lines = [[named.get(file.stem, "")] for file in files]
    numbered = [time_of_number(line[0]) if len(line) == 1 else None for line in lines]
    times = [_us(number if date is None else date) for number, date in zip(numbered, dated, strict=True)]
    if None in times:
        place = times.index(None)
        raise UserError(
            f"{path}: no time for {files[place].name}; a line is a time in s, ms, us or ns, a date and a time, or a "
            "name and a time"
        )
    return times


def _nearest(scans: Sequence[Taken], images: Sequence[Taken], max_gap_us: float) -> list[Taken | None]:
    """The image nearest in time to each scan, if it is near enough: of its scene, or of all where that has none."""
    ordered = sorted(images, key=lambda image: (image.time_us or 0, image.scene, image.name))
    of_scene: dict[str, list[Taken]] = {}
    for image in ordered:
        of_scene.setdefault(image.scene, []).append(image)
    times = {scene: np.array([image.time_us for image in own], np.int64) for scene, own in of_scene.items()}
    every = np.array([image.time_us for image in ordered], np.int64)
    found: list[Taken | None] = []
    for scan in scans:
        own, known, at = of_scene.get(scan.scene, ordered), times.get(scan.scene, every), scan.time_us or 0
        after = int(np.searchsorted(known, at))
        around = [place for place in (after - 1, after) if 0 <= place < len(known)]
        nearest = min(around, key=lambda place: abs(int(known[place]) - at))
        found.append(own[nearest] if abs(int(known[nearest]) - at) <= max_gap_us else None)
    return found


def _us(time_ns: int | None) -> int | None:
    return None if time_ns is None else time_ns // 1000
