"""SemanticKITTI: Velodyne scans, their labels and poses, and the two colour cameras, as frames.

Read from the folders as they are downloaded (KITTI odometry: `velodyne`, `image_2`, `image_3`; SemanticKITTI: `labels`,
`poses.txt`, `calib.txt`). A sequence without image folders gives frames without cameras, which is all that
fine-tuning needs.

    <root>/[dataset/]sequences/<sequence>/velodyne/<frame>.bin   float32 × 4: x, y, z (metres), intensity 0…1
                                         /labels/<frame>.label   uint32: class in the low 16 bits
                                         /image_2/<frame>.png    left colour camera (image_3: right)
                                         /calib.txt poses.txt times.txt
    <root>/camseg/<sequence>/image_2/<frame>.png                 weak labels, with <root>/camseg/manifest.json
    <root>/superpixels/<sequence>/image_2/<frame>.png            superpixels, likewise
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from olivine.calibration.formats.kitti import camera_from_first
from olivine.calibration.rows import matrix_row, read_calibration_rows
from olivine.config import Config
from olivine.data.frame import Camera, Frame
from olivine.data.images import image_size
from olivine.data.labels import load_class_set
from olivine.data.masks import UNKNOWN, MaskManifest, read_manifest
from olivine.data.scan_folders import read_label_file, read_rows
from olivine.data.splits import SplitConfig, every_nth
from olivine.errors import UserError
from olivine.files import existing
from olivine.geometry import invert, rigid_transform
from olivine.reading import TEXT_BYTES, read_file

SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"),
    "val": ("08",),
    "trainval": tuple(f"{number:02d}" for number in range(11)),
    "test": tuple(f"{number:02d}" for number in range(11, 22)),
}
"""The official splits: sequences of each. `all` is also known: whatever sequences are there."""

_PLAUSIBLE = 1e9
"""Times (seconds) and poses (metres) stay far below this; beyond it, microseconds no longer fit their integers."""

FRAME_PERIOD_US = 100_000
"""The Velodyne turns at 10 Hz; used where a sequence has no `times.txt`."""


class SemanticKittiConfig(Config):
    """SemanticKITTI, or any dataset in its layout."""

    name: Literal["semantickitti"] = "semantickitti"
    """Which dataset this is."""

    root: Path
    """Folder that contains `sequences/` or `dataset/sequences/`."""

    masks: Path | None = None
    """Folder of weak-label masks with their `manifest.json`; None is `<root>/camseg` where that exists."""

    superpixels: Path | None = None
    """Folder of superpixels with their `manifest.json`; None is `<root>/superpixels` where that exists."""

    cameras: tuple[Literal["image_2", "image_3"], ...] = ("image_2",)
    """The colour cameras to read, left and right; one without a folder in a sequence is left out there."""

    classes: Path | None = None
    """Class set of your own, a YAML file: names, raw ids of labels, prompts. By default that of the dataset."""

    @classmethod
    def recognise(cls, root: Path) -> list[SemanticKittiConfig]:
        """The dataset that a folder is, if it is one; one with scribbles is ScribbleKITTI's."""
        sequences = find_sequences(root)
        return [] if sequences is None or any(sequences.glob("*/scribbles")) else [cls(root=root)]

    def open(self, split: SplitConfig) -> SemanticKitti:
        """The frames of a split.

        Raises:
            UserError: no such folder, split or sequence, a damaged calibration, or nothing selected.
        """
        return SemanticKitti(self, split)


@dataclass(frozen=True)
class Calibration:
    """What `calib.txt` says, for the cameras asked for.

    Attributes:
        camera0_from_lidar: [4, 4] float64, `Tr`.
        intrinsics: [3, 3] float64 of each camera.
        camera_from_lidar: [4, 4] float64 of each camera, its offset from camera 0 included.
    """

    camera0_from_lidar: NDArray[np.float64]
    intrinsics: dict[str, NDArray[np.float64]]
    camera_from_lidar: dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class _Sequence:
    """One sequence: where its files are and everything of it that is read once."""

    folder: Path
    frames: tuple[str, ...]
    scans: dict[str, Path]
    labelled: bool
    calibration: Calibration | None
    poses: NDArray[np.float64] | None
    times_s: NDArray[np.float64] | None


class SemanticKitti:
    """The frames of a SemanticKITTI split, in the order of the split's sequences, scans sorted within each.

    `timestamp_us` is the line of `times.txt` that the frame number names, counted from the start of the sequence, or
    100 ms per frame number where there is no such file; images share the time of their scan. `global_from_lidar`
    has the LiDAR of frame 0 as its global frame; it is None in a sequence without `poses.txt`. Tokens are
    `<sequence>/<frame>`.

    `SplitConfig.every = n` keeps the 1st, (n+1)-th, (2n+1)-th, … of all sorted scans: the published subsets (n = 100
    gives 192 of the 19 130 training scans). With `unit="scene"` it keeps every n-th sequence instead.

    Args:
        config: where the dataset lies.
        split: `train`, `val`, `trainval`, `test`, `all` (what is there), or a list of sequences.

    Raises:
        UserError: no such folder, split or sequence, a damaged calibration, or nothing selected.
    """

    name = "semantickitti"

    def __init__(self, config: SemanticKittiConfig, split: SplitConfig) -> None:
        sequences = _sequences_folder(config.root)
        self.root = config.root
        self._below = sequences.relative_to(config.root).as_posix()
        chosen = _choose(sequences, split)
        self.classes = load_class_set(config.classes or "semantickitti")
        self._masks = config.masks or existing(config.root / "camseg")
        self.superpixels = config.superpixels or existing(config.root / "superpixels")
        self.manifest: MaskManifest | None = read_manifest(self._masks) if self._masks else None
        opened = [_open_sequence(sequences / name, config.cameras, self.labels_of(name)) for name in chosen]
        self._scans = [(sequence, frame) for sequence in opened for frame in sequence.frames]
        if split.unit != "scene":
            self._scans = self._scans[:: split.every]
        if not self._scans:
            raise UserError(f"{sequences}: no scans in split {split.split!r} with every={split.every}")

    @staticmethod
    def labels_of(sequence: str) -> str:  # noqa: ARG004
        """Folder of the labels of a sequence."""
        return "labels"

    def __len__(self) -> int:
        return len(self._scans)

    def __getitem__(self, index: int) -> Frame:
        """Read one frame.

        Raises:
            UserError: a scan, label file or image is missing or damaged; the message names the file.
        """
        sequence, stem = self._scans[index]
        scan = read_rows(sequence.scans[stem], 4)
        label_path = self.label_path(index)
        raw = None if label_path is None else read_label_file(label_path, len(scan))
        number, timestamp_us = int(stem), _timestamp_us(sequence, int(stem))
        return Frame(
            token=self.token(index),
            scene=self.scene(index),
            points_lidar_m=np.ascontiguousarray(scan[:, :3]),
            intensity=np.ascontiguousarray(scan[:, 3]),
            intensity_max=1.0,
            timestamp_us=timestamp_us,
            cameras=self.cameras(index),
            labels=None if raw is None else self.classes.learn(raw),
            label_fault=None if raw is None else self.classes.strange(raw, str(label_path)),
            global_from_lidar=None if sequence.poses is None else sequence.poses[number],
        )

    def token(self, index: int) -> str:
        """Token of the scan, `<sequence>/<frame>`."""
        sequence, stem = self._scans[index]
        return f"{sequence.folder.name}/{stem}"

    def scene(self, index: int) -> str:
        """Sequence that the scan belongs to."""
        return self._scans[index][0].folder.name

    def label_path(self, index: int) -> Path | None:
        """File of the scan's labels; None in a sequence without any."""
        sequence, stem = self._scans[index]
        folder = sequence.folder / self.labels_of(sequence.folder.name)
        return _beside(folder / f"{stem}.label") if sequence.labelled else None

    def labels_name(self, index: int) -> str:
        """File of the scan's labels below the root, whether there are any or not."""
        sequence, stem = self._scans[index]
        name = sequence.folder.name
        return f"{self._below}/{name}/{self.labels_of(name)}/{stem}.label"

    def mask_names(self, index: int) -> tuple[str, ...]:
        """Where the masks of a frame's images lie below a folder of masks, without reading anything."""
        sequence, stem = self._scans[index]
        cameras = sequence.calibration.intrinsics if sequence.calibration else ()
        return tuple(f"{sequence.folder.name}/{name}/{stem}.png" for name in cameras)

    def cameras(self, index: int) -> tuple[Camera, ...]:
        """The cameras of the frame at `index`, of which only the images' headers are read.

        Raises:
            UserError: an image is missing or damaged.
        """
        sequence, stem = self._scans[index]
        if sequence.calibration is None:
            return ()
        cameras, timestamp_us = [], _timestamp_us(sequence, int(stem))
        for name, intrinsics in sequence.calibration.intrinsics.items():
            path, below = _beside(sequence.folder / name / f"{stem}.png"), f"{sequence.folder.name}/{name}/{stem}.png"
            cameras.append(
                Camera(
                    name=name,
                    image_path=path,
                    size=image_size(path),
                    intrinsics=intrinsics,
                    camera_from_lidar=sequence.calibration.camera_from_lidar[name],
                    timestamp_us=timestamp_us,
                    mask_path=self._masks / below if self._masks else None,
                    mask_classes=UNKNOWN if self.manifest is None else len(self.manifest.classes),
                    segments_path=self.superpixels / below if self.superpixels else None,
                )
            )
        return tuple(cameras)


def read_calibration(path: Path, cameras: tuple[str, ...]) -> Calibration:
    """Read `calib.txt`.

    The projection of camera n is `P_n = K [I | t]` with t the position of camera 0 seen from camera n, so that
    `camera_from_lidar = [I | K⁻¹ P_n[:, 3]] Tr`.

    Args:
        path: the file; rows `P0` … `P3` and `Tr` (LiDAR → camera 0), 12 numbers each.
        cameras: the cameras wanted, e.g. `("image_2",)`.

    Raises:
        UserError: missing, or a row is missing or malformed.
    """
    rows = read_calibration_rows(path)
    tr = _matrix(rows, "Tr", path)
    camera0_from_lidar = rigid_transform(tr[:, :3], tr[:, 3])
    intrinsics, camera_from_lidar = {}, {}
    for camera in cameras:
        projection = _matrix(rows, f"P{camera[-1]}", path)
        intrinsics[camera] = projection[:, :3]
        camera_from_lidar[camera] = camera_from_first(projection) @ camera0_from_lidar
    return Calibration(camera0_from_lidar, intrinsics, camera_from_lidar)


def _matrix(rows: dict[str, str], key: str, path: Path) -> NDArray[np.float64]:
    """Row `key` of a calibration file as [3, 4]."""
    return matrix_row(rows, (key,), 4, path, "use the calib.txt that comes with SemanticKITTI")


def find_sequences(root: Path) -> Path | None:
    """The folder of sequences below a root, or None where there is none."""
    places = (root / "sequences", root / "dataset" / "sequences")
    return next((folder for folder in places if folder.is_dir()), None)


def _sequences_folder(root: Path) -> Path:
    found = find_sequences(root)
    if found is not None:
        return found
    raise UserError(f"{root}: no SemanticKITTI here, it must contain sequences/ or dataset/sequences/")


def _choose(sequences: Path, split: SplitConfig) -> list[str]:
    """Names of the sequences of a split, each checked to be there."""
    present = sorted(folder.name for folder in sequences.iterdir() if (folder / "velodyne").is_dir())
    if split.split == "all":
        chosen = present
    elif isinstance(split.split, list):
        chosen = split.split
    elif split.split in SPLITS:
        chosen = list(SPLITS[split.split])
    else:
        raise UserError(
            f"no SemanticKITTI split named {split.split!r}; known are {', '.join([*SPLITS, 'all'])}, or list sequences"
        )
    missing = [sequence for sequence in chosen if sequence not in present]
    if missing:
        raise UserError(
            f"{sequences}: no scans of sequence {', '.join(missing)} (split {split.split!r}); "
            "list the sequences you have, or use split 'all'"
        )
    return every_nth(chosen, split.every) if split.unit == "scene" else chosen


def _open_sequence(folder: Path, cameras: tuple[str, ...], labels: str) -> _Sequence:
    """Read what a sequence has once: the scan list, calibration, poses and times."""
    scans = _scans(folder / "velodyne")
    frames = tuple(scans)
    present = tuple(camera for camera in cameras if (folder / camera).is_dir())
    poses_path, times_path = folder / "poses.txt", folder / "times.txt"
    needs_calibration = present or poses_path.exists()
    calibration = read_calibration(folder / "calib.txt", present) if needs_calibration else None
    lines = int(frames[-1]) + 1 if frames else 0
    poses = None
    if calibration is not None and poses_path.exists():
        poses = _global_from_lidar(_table(poses_path, 12, lines), calibration.camera0_from_lidar)
    times_s = _table(times_path, 1, lines)[:, 0] if times_path.exists() else None
    return _Sequence(folder, frames, scans, (folder / labels).is_dir(), calibration, poses, times_s)


def _scans(folder: Path) -> dict[str, Path]:
    """The scans of a folder by stem, in the order of their numbers, however wide these are written.

    Endings are compared without case; hidden files, such as other systems leave beside each file, are none.
    """
    found = [path for path in folder.iterdir() if path.suffix.lower() == ".bin" and not path.name.startswith(".")]
    for path in sorted(found):
        if not (path.stem.isascii() and path.stem.isdecimal()):
            raise UserError(f"{path}: a scan is named by its frame number, as in 000000.bin")
    of_number: dict[int, Path] = {}
    for path in sorted(found):
        other = of_number.setdefault(int(path.stem), path)
        if other is not path:
            raise UserError(f"{path}: frame {int(path.stem)} is there twice, {other.name} is the other; remove one")
    return {of_number[number].stem: of_number[number] for number in sorted(of_number)}


def _beside(path: Path) -> Path:
    """A file of a scan: as named, or with its ending in capitals where only that is there."""
    loud = path.with_suffix(path.suffix.upper())
    return loud if not path.exists() and loud.exists() else path


def _global_from_lidar(rows: NDArray[np.float64], camera0_from_lidar: NDArray[np.float64]) -> NDArray[np.float64]:
    """[F, 12] poses of camera 0 → [F, 4, 4] poses of the LiDAR, relative to its own at frame 0."""
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3] = rows.reshape(-1, 3, 4)
    return invert(camera0_from_lidar) @ poses @ camera0_from_lidar


def _table(path: Path, columns: int, lines: int) -> NDArray[np.float64]:
    """A text file of numbers whose line n belongs to frame n, [F, columns]."""
    try:
        table = np.array(_read_text(path).split(), dtype=np.float64).reshape(-1, columns)
    except ValueError as error:
        raise UserError(f"{path}: expected {columns} numbers a line") from error
    bad = np.flatnonzero(~(np.abs(table) < _PLAUSIBLE).all(axis=1))
    if len(bad):
        raise UserError(f"{path}: line {bad[0] + 1} is not finite, or beyond {_PLAUSIBLE:g}; mend or remove the file")
    if len(table) < lines:
        raise UserError(f"{path}: {len(table)} lines, but line n belongs to frame n and the last frame is {lines - 1}")
    return table


def _timestamp_us(sequence: _Sequence, number: int) -> int:
    if sequence.times_s is None:
        return number * FRAME_PERIOD_US
    return round(float(sequence.times_s[number]) * 1e6)


def _read_text(path: Path) -> str:
    return read_file(path, limit=TEXT_BYTES).decode("utf-8", errors="replace")
