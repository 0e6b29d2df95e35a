"""Datasets of labelled scans without cameras: what SemanticKITTI's relatives have in common.

A relative's own file says where its scans and labels lie and what their numbers mean; this one reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from olivine.data.beams import ring_column
from olivine.data.frame import Frame
from olivine.data.labels import ClassSet
from olivine.data.masks import MaskManifest
from olivine.data.splits import SplitConfig
from olivine.errors import UserError
from olivine.reading import read_file

PERIOD_US = 100_000
"""Time between scans that have none of their own, as that of a LiDAR that turns at 10 Hz."""


@dataclass(frozen=True)
class ScanFiles:
    """The files of one scan.

    Attributes:
        scene: the recording, or the part of the dataset, it belongs to.
        name: its name within the scene.
        cloud: float32 rows of the points.
        labels: 32-bit raw label of each point.
        place: its place in the scene, which gives it a time.
        labelled: whether they are there.
    """

    scene: str
    name: str
    cloud: Path
    labels: Path
    place: int
    labelled: bool = True


@dataclass(frozen=True)
class ScanFormat:
    """What the numbers of a scan mean.

    Attributes:
        columns: of a point: x, y, z (metres), intensity, and what follows is left out, but for a ring.
        ring: the column that numbers the beams, or None.
        intensity_max: top of the range of intensities.
        intensity_gain: what they are multiplied by before they are cut off at that top.
    """

    columns: int = 4
    ring: int | None = None
    intensity_max: float = 1.0
    intensity_gain: float = 1.0


class ScanFolders:
    """Labelled scans, one file each, in order (see `olivine.data.frame.Dataset`). There are no poses and no cameras.

    Args:
        name: the dataset's name, as in recipes.
        classes: its classes.
        scans: all scans of the split.
        split: thins them out: `every = n` keeps the 1st, (n+1)-th, … scan.
        form: what their numbers mean.
        where: the dataset's folder.

    Raises:
        UserError: nothing is selected, or scenes are to be counted.
    """

    manifest: MaskManifest | None = None
    superpixels: Path | None = None

    def __init__(
        self,
        name: str,
        classes: ClassSet,
        scans: Sequence[ScanFiles],
        split: SplitConfig,
        form: ScanFormat,
        where: Path,
    ) -> None:
        self.name, self.classes, self._form, self.root = name, classes, form, where
        if split.unit == "scene":
            raise UserError(f"{name}: split.every counts scans here; leave split.unit out")
        self._scans = list(scans)[:: split.every]
        if not self._scans:
            raise UserError(f"{where}: no scans in split {split.split!r} with every={split.every}")

    def __len__(self) -> int:
        return len(self._scans)

    def token(self, index: int) -> str:
        """Token of the scan, `<scene>/<name>`."""
        return f"{self.scene(index)}/{self._scans[index].name}"

    def scene(self, index: int) -> str:
        """Scene that the scan belongs to."""
        return self._scans[index].scene

    def label_path(self, index: int) -> Path | None:
        """File of the scan's labels; None without any."""
        return self._scans[index].labels if self._scans[index].labelled else None

    def labels_name(self, index: int) -> str:
        """File of the scan's labels, below the dataset's folder."""
        return self._scans[index].labels.relative_to(self.root).as_posix()

    def __getitem__(self, index: int) -> Frame:
        """Read one frame.

        Raises:
            UserError: a scan or label file is missing or damaged; the message names the file.
        """
        files, form = self._scans[index], self._form
        rows = read_rows(files.cloud, form.columns)
        raw = read_label_file(files.labels, len(rows)) if files.labelled else None
        intensity = (
            rows[:, 3]
            if form.intensity_gain == 1
            else np.minimum(rows[:, 3] * np.float32(form.intensity_gain), np.float32(form.intensity_max))
        )
        return Frame(
            token=self.token(index),
            scene=files.scene,
            points_lidar_m=np.ascontiguousarray(rows[:, :3]),
            intensity=np.ascontiguousarray(intensity),
            intensity_max=form.intensity_max,
            timestamp_us=files.place * PERIOD_US,
            labels=None if raw is None else self.classes.learn(raw),
            label_fault=None if raw is None else self.classes.strange(raw, str(files.labels)),
            rings=None if form.ring is None else ring_column(rows[:, form.ring]),
        )


def read_rows(path: Path, columns: int) -> NDArray[np.float32]:
    """Read a scan, [N, columns] float32.

    Raises:
        UserError: missing, empty, or not a whole number of points.
    """
    content = read_file(path)
    if not content or len(content) % (4 * columns):
        raise UserError(
            f"{path}: truncated scan, {len(content)} bytes is not a whole number of {4 * columns}-byte points"
        )
    return np.frombuffer(content, "<f4").reshape(-1, columns).astype(np.float32)


def read_label_file(path: Path, points: int) -> NDArray[np.uint32]:
    """Read the raw class of every point of a scan, [N] uint32 in 0…65535 (an instance number above is dropped).

    Raises:
        UserError: missing, or not of the scan's length.
    """
    content = read_file(path)
    if len(content) != 4 * points:
        raise UserError(f"{path}: {len(content)} bytes of labels for a scan of {points} points; expected {4 * points}")
    raw: NDArray[np.uint32] = np.frombuffer(content, np.dtype("<u4")) & np.uint32(0xFFFF)
    return raw


def scans_below(scene: str, clouds: Path, labels: Path) -> list[ScanFiles]:
    """The scans of a folder by name, each with its labels where the folder of labels is there.

    Args:
        scene: what they belong to.
        clouds: folder of `NAME.bin`, endings in any case; hidden files are none.
        labels: folder of `NAME.label`; a scan without one among others that have them is an error when it is read.
    """
    found = sorted(path for path in clouds.iterdir() if path.suffix.lower() == ".bin" and not path.name.startswith("."))
    labelled = labels.is_dir()
    return [
        ScanFiles(scene, path.stem, path, labels / f"{path.stem}.label", place, labelled)
        for place, path in enumerate(found)
    ]


def chosen_scenes(
    split: SplitConfig, known: Mapping[str, Sequence[str]], present: Sequence[str], where: Path
) -> list[str]:
    """The scenes of a split, each checked to be there.

    Args:
        split: a name of `known`, `all` for what is there, or a list of scenes.
        known: scenes by name of the split.
        present: scenes that are there, in order.
        where: the folder, for messages.

    Raises:
        UserError: no such split, or a scene that is not there.
    """
    if split.split == "all":
        return list(present)
    if isinstance(split.split, list):
        chosen: Sequence[str] = split.split
    elif split.split in known:
        chosen = known[split.split]
    else:
        raise UserError(
            f"{where}: no split named {split.split!r}; known are {', '.join([*known, 'all'])}, or list scenes"
        )
    missing = [scene for scene in chosen if scene not in present]
    if missing:
        raise UserError(f"{where}: no scans of {', '.join(missing)} (split {split.split!r})")
    return list(chosen)
