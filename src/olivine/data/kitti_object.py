"""KITTI's 3-D object benchmark: single moments of a Velodyne and a left colour camera, with boxes of objects.

    <root>/[training/]velodyne/000000.bin   float32 × 4: x, y, z (metres), intensity 0…1
                      image_2/000000.png    left colour camera, of a size that differs from frame to frame
                      calib/000000.txt      `olivine.data.kitti_boxes`
                      label_2/000000.txt    `olivine.data.kitti_labels`; optional, as in the official test set
                      planes/000000.txt     the road's plane in the rectified camera frame; optional
    <root>/testing/…                        the official test set, in the same folders
    <root>/ImageSets/train.txt              the frames of a split, a name per line, where they are not the official ones
    <root>/camseg/image_2/000000.png        weak labels, with <root>/camseg/manifest.json
    <root>/superpixels/image_2/000000.png   superpixels, likewise

Frames are moments of different drives in no order: there are no poses, no times and no neighbours. Each is a scene of
its own, so that methods that compare two frames see two views of one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from olivine.calibration.formats.kitti import KittiCalibration
from olivine.config import Config
from olivine.data.frame import Boxes, Camera, Frame
from olivine.data.images import image_size
from olivine.data.kitti_boxes import boxes_from_objects
from olivine.data.kitti_labels import ObjectLabels, read_objects
from olivine.data.labels import without_classes
from olivine.data.masks import UNKNOWN, MaskManifest, read_manifest
from olivine.data.scan_folders import read_rows
from olivine.data.splits import KITTI_OBJECT_SPLITS, SplitConfig, kitti_object_frames
from olivine.errors import UserError
from olivine.files import existing
from olivine.reading import TEXT_BYTES, read_file

TRAINING, TESTING = "training", "testing"

CAMERA = "image_2"
"""The left colour camera, the only one that is read."""

_IMAGE_ENDINGS = (".png", ".jpg", ".PNG", ".JPG", ".jpeg")
_LIMITS = ((40, 0.15, 0), (25, 0.3, 1), (25, 0.5, 2))
"""Of easy, moderate and hard: least height of the image box (px), most truncation, most occlusion."""


class KittiObjectConfig(Config):
    """KITTI's 3-D object benchmark, or any dataset in its layout."""

    name: Literal["kitti_object"] = "kitti_object"
    """Which dataset this is."""

    root: Path
    """Folder that contains `training/`, or `velodyne/`, `calib/` and what belongs to them."""

    masks: Path | None = None
    """Folder of weak-label masks with their `manifest.json`; None is `<root>/camseg` where that exists."""

    superpixels: Path | None = None
    """Folder of superpixels with their `manifest.json`; None is `<root>/superpixels` where that exists."""

    field_of_view: bool = True
    """Keep only the points that fall on the image, as detectors of the benchmark are trained and scored."""

    @classmethod
    def recognise(cls, root: Path) -> list[KittiObjectConfig]:
        """The dataset that a folder is, if it is one."""
        return [cls(root=root)] if any(_is_part(folder) for folder in _places(root).values()) else []

    def open(self, split: SplitConfig) -> KittiObject:
        """The frames of a split: `train`, `val`, `trainval` or `test`, `all`, or frames by name.

        What a name means is said by `<root>/ImageSets/<name>.txt` where there is one, else by the official lists.

        Raises:
            UserError: no such folder or split, frames of it that are not there, or nothing selected.
        """
        return KittiObject(self, split)


class KittiObject:
    """The frames of a split, in the order of their numbers (see `olivine.data.frame.Dataset`).

    Tokens are the frames' names (`000008`), and each is the scene of its own (`training/000008`). `timestamp_us` is 0,
    since the benchmark gives no times, and `global_from_lidar` None. `SplitConfig.every = n` keeps the 1st, (n+1)-th,
    … frame. Boxes leave the DontCare areas out, which `objects` has.

    Args:
        config: where the dataset lies.
        split: which frames; `all` is every frame that has a scan, of `training/` where there is one.

    Raises:
        UserError: as of `KittiObjectConfig.open`.
    """

    name = "kitti_object"

    def __init__(self, config: KittiObjectConfig, split: SplitConfig) -> None:
        self._part, self._folder = _part(config.root, split)
        self._frames = _choose(config.root, self._folder, split)
        self._field_of_view = config.field_of_view
        self.classes = without_classes(self.name)
        self._masks = config.masks or existing(config.root / "camseg")
        self.superpixels = config.superpixels or existing(config.root / "superpixels")
        self.manifest: MaskManifest | None = read_manifest(self._masks) if self._masks else None
        self.labelled: bool = (self._folder / "label_2").is_dir()
        self._pictured = (self._folder / CAMERA).is_dir()
        if self._field_of_view and not self._pictured:
            raise UserError(
                f"{self._folder}: no folder {CAMERA}, and cropping clouds to the image needs the images' sizes; unpack "
                "the images, or set field_of_view to false"
            )

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Frame:
        """Read one frame.

        Raises:
            UserError: a file is missing or damaged, or an object has a side of no length; the message names the file.
        """
        scan = read_rows(self._file(index, "velodyne", "bin"), 4)
        calibration = self.calibration(index)
        if self._field_of_view:
            scan = scan[calibration.in_view(scan[:, :3], self.image_size(index))]
        return Frame(
            token=self.token(index),
            scene=self.scene(index),
            points_lidar_m=np.ascontiguousarray(scan[:, :3]),
            intensity=np.ascontiguousarray(scan[:, 3]),
            intensity_max=1.0,
            timestamp_us=0,
            cameras=self.cameras(index, calibration),
            boxes=self._boxes(index, calibration) if self.labelled else None,
            ground_lidar=self._ground(index, calibration),
        )

    def token(self, index: int) -> str:
        """Name of the frame, e.g. `000008`."""
        return self._frames[index]

    def scene(self, index: int) -> str:
        """Part and name of the frame, e.g. `training/000008`: every frame is a scene of its own."""
        return f"{self._part}/{self._frames[index]}"

    def mask_names(self, index: int) -> tuple[str, ...]:
        """Where the mask of a frame's image lies below a folder of masks, without reading anything.

        The test set numbers its frames from 0 again, so its masks lie below `testing/`.
        """
        below = "" if self._part == TRAINING else f"{self._part}/"
        return (f"{below}{CAMERA}/{self._frames[index]}.png",) if self._pictured else ()

    def cameras(self, index: int, calibration: KittiCalibration | None = None) -> tuple[Camera, ...]:
        """The camera of the frame at `index`, of which only the image's header is read; none without images.

        Args:
            index: which frame.
            calibration: of the frame, where it was read already.

        Raises:
            UserError: the image or the calibration is missing or damaged.
        """
        if not self._pictured:
            return ()
        known, (name,) = calibration or self.calibration(index), self.mask_names(index)
        return (
            Camera(
                name=CAMERA,
                image_path=self._image(index),
                size=self.image_size(index),
                intrinsics=known.intrinsics,
                camera_from_lidar=known.camera_from_lidar,
                timestamp_us=0,
                mask_path=self._masks / name if self._masks else None,
                mask_classes=UNKNOWN if self.manifest is None else len(self.manifest.classes),
                segments_path=self.superpixels / name if self.superpixels else None,
            ),
        )

    def image_size(self, index: int) -> tuple[int, int]:
        """(width, height) in pixels of a frame's image, from its header.

        Raises:
            UserError: the image is missing or damaged.
        """
        return image_size(self._image(index))

    def calibration(self, index: int) -> KittiCalibration:
        """The calibration of a frame.

        Raises:
            UserError: missing or damaged; see `KittiCalibration.read`.
        """
        return KittiCalibration.read(self._file(index, "calib", "txt"))

    def objects(self, index: int) -> ObjectLabels:
        """All labelled objects of a frame in file order, DontCare areas among them.

        Raises:
            UserError: there are no labels, or the frame's file is missing or damaged.
        """
        if not self.labelled:
            raise UserError(f"{self._folder}: no folder label_2, so no frame here has labelled objects")
        return read_objects(self._file(index, "label_2", "txt"))

    def road_plane(self, index: int) -> NDArray[np.float64] | None:
        """The plane of the road below a frame.

        Returns:
            [4] float64 (a, b, c, d), a·x + b·y + c·z + d = 0 in the rectified camera frame (metres), (a, b, c) of
            length 1 and pointing up (b < 0); None where the dataset has no folder `planes`.

        Raises:
            UserError: there are planes, but that of this frame is missing or damaged.
        """
        return read_plane(self._file(index, "planes", "txt")) if (self._folder / "planes").is_dir() else None

    def _ground(self, index: int, calibration: KittiCalibration) -> NDArray[np.float64] | None:
        plane = self.road_plane(index)
        return None if plane is None else plane @ calibration.rectified_from_lidar

    def _boxes(self, index: int, calibration: KittiCalibration) -> Boxes:
        objects = self.objects(index)
        objects = objects.take(~objects.is_dont_care)
        flat = np.flatnonzero((objects.size_hwl_m <= 0).any(axis=1))
        if len(flat):
            raise UserError(
                f"{self._file(index, 'label_2', 'txt')}: object {flat[0] + 1} ({objects.names[flat[0]]}; DontCare "
                "areas do not count) has a side of no length; give height, width and length, or remove the line"
            )
        boxes = boxes_from_objects(objects, calibration)
        return Boxes(boxes, objects.names, difficulty_of(objects), objects.image_box)

    def _file(self, index: int, folder: str, ending: str) -> Path:
        return self._folder / folder / f"{self._frames[index]}.{ending}"

    def _image(self, index: int) -> Path:
        """The image of a frame, PNG as in the benchmark or JPEG as in some that have its layout."""
        paths = [self._folder / CAMERA / f"{self._frames[index]}{ending}" for ending in _IMAGE_ENDINGS]
        return next((path for path in paths if path.exists()), paths[0])


def difficulty_of(objects: ObjectLabels) -> NDArray[np.int64]:
    """How hard each object is to see, by the benchmark's limits.

    The height is that of the image box and one more pixel, as the published detectors count it where they choose the
    objects to learn from; the benchmark's own scores count it without.

    Returns:
        [M] int64: 0 easy, 1 moderate, 2 hard, −1 none of them, which DontCare areas are too.
    """
    height_px = objects.image_box[:, 3] - objects.image_box[:, 1] + 1
    found = np.full(len(objects), -1, np.int64)
    for level in reversed(range(len(_LIMITS))):
        least_px, truncation, occlusion = _LIMITS[level]
        seen = (height_px >= least_px) & (objects.truncation <= truncation) & (objects.occlusion <= occlusion)
        found[seen & ~objects.is_dont_care] = level
    return found


def read_plane(path: Path) -> NDArray[np.float64]:
    """Read a file of one road plane: three lines of heading, then its four numbers.

    Returns:
        [4] float64, as of `KittiObject.road_plane`.

    Raises:
        UserError: missing, no regular file, or its fourth line is not four finite numbers with a direction.
    """
    text = read_file(path, "this road plane", limit=TEXT_BYTES).decode("utf-8", errors="replace")
    lines = text.splitlines()
    try:
        plane = np.array(lines[3].split() if len(lines) > 3 else [], np.float64).reshape(4)
    except ValueError:
        plane = np.zeros(4)
    length = np.linalg.norm(plane[:3])
    if not (np.isfinite(plane).all() and length > 0):
        raise UserError(f"{path}: line 4 must be the four numbers of a plane, finite and with a direction")
    return np.asarray(plane / (-length if plane[1] > 0 else length))


def _places(root: Path) -> dict[str, Path]:
    """Where the parts of the dataset may lie."""
    training = root if (root / "velodyne").is_dir() else root / TRAINING
    return {TRAINING: training, TESTING: root / TESTING}


def _is_part(folder: Path) -> bool:
    return (folder / "velodyne").is_dir() and (folder / "calib").is_dir()


def _part(root: Path, split: SplitConfig) -> tuple[str, Path]:
    """Name and folder of the part that a split belongs to."""
    places = _places(root)
    wanted = TESTING if split.split == "test" else TRAINING
    if split.split == "all" and not _is_part(places[TRAINING]) and _is_part(places[TESTING]):
        wanted = TESTING
    if not _is_part(places[wanted]):
        raise UserError(f"{root}: no KITTI object benchmark here, it must contain {wanted}/velodyne and {wanted}/calib")
    return wanted, places[wanted]


def _choose(root: Path, folder: Path, split: SplitConfig) -> list[str]:
    """The names of a split's frames, each checked to have a scan."""
    if split.unit == "scene":
        raise UserError("kitti_object: split.every counts scans here; leave split.unit out")
    scans = (folder / "velodyne").iterdir()
    present = sorted(path.stem for path in scans if path.suffix == ".bin" and not path.name.startswith("."))
    if split.split == "all":
        chosen = present
    elif isinstance(split.split, list):
        chosen = split.split
    else:
        chosen = _listed(root, split.split)
    missing = sorted(set(chosen).difference(present))
    if missing:
        raise UserError(
            f"{folder / 'velodyne'}: {len(missing)} of the {len(chosen)} frames of split {_shortened(split.split)} are "
            f"not here ({missing[0]}{', …' if len(missing) > 1 else ''}); unpack them, or use split 'all' or a list of "
            "the frames that you have"
        )
    chosen = chosen[:: split.every]
    if not chosen:
        raise UserError(f"{folder / 'velodyne'}: no scans in split {split.split!r}")
    return chosen


def _listed(root: Path, split: str) -> list[str]:
    """The names of a split's frames, by the list of this dataset or the official one."""
    if split not in KITTI_OBJECT_SPLITS:
        raise UserError(
            f"no split of kitti_object named {split!r}; known are {', '.join([*KITTI_OBJECT_SPLITS, 'all'])}, or list "
            "frames"
        )
    path = root / "ImageSets" / f"{split}.txt"
    if not path.exists():
        return list(kitti_object_frames(split))
    return sorted(read_file(path, "this list of frames", limit=TEXT_BYTES).decode("utf-8", errors="replace").split())


def _shortened(split: str | list[str]) -> str:
    return repr(split) if isinstance(split, str) else f"[{', '.join(split[:3])}{', …' if len(split) > 3 else ''}]"
