"""A folder of one's own, used where it lies: scans, a folder of images for each camera, and one calibration file.

    <root>/calibration.yaml            cameras, as of olivine.calibration; and the key `folder` (data.folder_keys)
          /lidar/NAME.pcd              scans of any format of olivine.scans; folders in it are scenes
          /CAM_FRONT/NAME.jpg          images, as the lens bends them: they are rectified when they are read
          /labels/NAME.label           labels of points, where there are any; /boxes/NAME.txt likewise
          /poses.txt                   poses, where they are known
    <root>/camseg/CAM_FRONT/NAME.png   weak labels of the rectified images, with <root>/camseg/manifest.json

Points are in the frame of the scans' files (or of the calibration's common LiDAR frame, where it names LiDARs); rows
without a return are left out. Nothing is copied and nothing is written.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from olivine.calibration import Calibration, Trajectory, read_calibration, rectification, require_plausible
from olivine.config import Config
from olivine.data.folder_files import IMAGES, Taken, files_in, image_folders, matched, scan_folder, scan_folders
from olivine.data.folder_intensity import intensity_range
from olivine.data.folder_keys import CALIBRATIONS, FolderKeys, calibration_file, read_keys
from olivine.data.folder_labels import labels_of, read_boxes, read_poses, read_raw_labels
from olivine.data.frame import Boxes, Camera, Frame
from olivine.data.images import image_size
from olivine.data.labels import ClassSet, load_class_set, without_classes
from olivine.data.mask_names import check_camera_names
from olivine.data.masks import UNKNOWN, MaskManifest, read_manifest
from olivine.data.scan_folders import PERIOD_US, chosen_scenes
from olivine.data.scan_points import ScanPoints, points_of
from olivine.data.splits import SplitConfig
from olivine.errors import OlivineWarning, UserError
from olivine.files import existing, write_bytes
from olivine.geometry import invert, transform_points
from olivine.scans import SUFFIXES, read_scan


class FolderConfig(Config):
    """Scans, images and a calibration file, as somebody keeps them."""

    name: Literal["folder"] = "folder"
    """Which dataset this is."""

    root: Path
    """The folder."""

    calibration: Path | None = None
    """The calibration file, also of any form that `olivine convert` takes; by default `calibration.yaml` in the root
    (or `.json`, or `calib.yaml`, `.json`, `.txt`). In a YAML of ours the key `folder` says where the rest lies."""

    masks: Path | None = None
    """Folder of weak-label masks with their `manifest.json`; by default `<root>/camseg` where it exists."""

    superpixels: Path | None = None
    """Folder of superpixels with their `manifest.json`; by default `<root>/superpixels` where it exists."""

    classes: Path | None = None
    """Class set of your own, a YAML file: names, raw ids of labels, prompts. Without it labels are not read."""

    @classmethod
    def recognise(cls, root: Path) -> list[FolderConfig]:
        """The dataset that a folder is, if it is one: it has a calibration file, and scans in it or in one folder."""
        if calibration_file(root) is None:
            return []
        return [cls(root=root)] if scan_folders(root, FolderKeys()) else []

    def open(self, split: SplitConfig) -> Folder:
        """The frames of a split: `all`, one that the key `folder.splits` names, or a list of scenes.

        Raises:
            UserError: the folder, its calibration or its scans are missing or damaged; scans and images cannot be
                brought together; the range of intensities is not told and cannot be measured; or nothing is selected.
        """
        if not self.root.is_dir():
            raise UserError(f"{self.root}: no such folder")
        path = self.calibration or calibration_file(self.root)
        if path is None:
            raise UserError(
                f"{self.root}: no calibration; write one as {CALIBRATIONS[0]} (docs/guide/data.md), or name it with "
                "data.calibration=..."
            )
        return Folder(self, split, read_calibration(path), read_keys(path))


class Folder:
    """The frames of a folder, by scene and name (see `olivine.data.frame.Dataset`).

    Tokens are `<scene>/<name>`; the scene of scans that lie in no folder of their own is called as the root.
    `SplitConfig.every = n` keeps the 1st, (n+1)-th, … scan.

    Args:
        config: where it lies.
        split: which of its scans.
        calibration: of its cameras.
        keys: how its files are to be read.

    Raises:
        UserError: as of `FolderConfig.open`.
    """

    name = "folder"

    def __init__(self, config: FolderConfig, split: SplitConfig, calibration: Calibration, keys: FolderKeys) -> None:
        self.root, self._keys, self._calibration = config.root, keys, calibration
        check_camera_names(calibration.cameras, calibration.source)
        self._lidar_from_sensor = _lidar_from_sensor(calibration, keys)
        self.classes: ClassSet = load_class_set(config.classes) if config.classes else without_classes(self.name)
        self._masks = config.masks or existing(config.root / "camseg")
        self.superpixels = config.superpixels or existing(config.root / "superpixels")
        self.manifest: MaskManifest | None = read_manifest(self._masks) if self._masks else None
        scans = files_in(scan_folder(config.root, keys), SUFFIXES)
        self._recordings = [scan.scene for scan in scans]
        self._scans = _in_scenes(scans, config.root.resolve().name or "root", keys)
        self._images = self._matched(scans)
        self._labels = _labels_folder(config, keys)
        self._boxes = existing(config.root / keys.boxes)
        poses = config.root / keys.poses
        self._poses = read_poses(poses, len(scans)) if poses.exists() else None
        self.intensity_max = intensity_range(config.root, [scan.path for scan in scans], keys)
        self._rows = _chosen(self._scans, split, keys, config.root)
        self._judge_calibration()

    def _judge_calibration(self) -> None:
        """Refuse a calibration that the first scan shows to be none; damaged files are named when they are read."""
        unsized = [name for name, camera in self._calibration.cameras.items() if camera.model.size is None]
        try:
            points_m = self._read(self._scans[self._rows[0]].path).points_m
            sizes = {camera: image_size(image.path) for camera, image in self._images_of(0) if camera in unsized}
        except UserError:
            return
        require_plausible(self._calibration, points_m, sizes)

    def _matched(self, scans: list[Taken]) -> dict[str, list[Taken | None]]:
        """The image of each scan, by camera, of the cameras that have images."""
        folders = image_folders(self.root, self._keys, tuple(self._calibration.cameras))
        found: dict[str, list[Taken | None]] = {}
        lost = [camera for camera in self._calibration.cameras if camera not in folders]
        if lost:
            _warn(f"{self.root}: no images of {', '.join(lost)}; name their folders with the keys folder.images.NAME")
        for camera, folder in folders.items():
            images = files_in(folder, IMAGES)
            found[camera] = matched(scans, images, self._keys, camera) if images and scans else [None] * len(scans)
            without = sum(image is None for image in found[camera])
            if without:
                _warn(f"{folder}: {without} of {len(scans)} scans have no image of {camera}, {len(images)} are there")
        return found

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Frame:
        """Read one frame.

        Raises:
            UserError: a file is missing or damaged; the message names it.
        """
        row = self._rows[index]
        scan = self._scans[row]
        cloud = self._read(scan.path)
        labels = self.label_path(index)
        raw = None if labels is None else cloud.of_points(read_raw_labels(labels, cloud.rows))
        return Frame(
            token=self.token(index),
            scene=scan.scene,
            points_lidar_m=cloud.points_m,
            intensity=cloud.intensity,
            intensity_max=self.intensity_max or 1.0,
            timestamp_us=self._time_us(row),
            cameras=self.cameras(index),
            labels=None if raw is None else self.classes.learn(raw),
            label_fault=None if raw is None else self.classes.strange(raw, str(labels)),
            boxes=self._boxes_of(row),
            global_from_lidar=self._pose(row),
            returns=cloud.returns,
            rings=cloud.rings,
        )

    def token(self, index: int) -> str:
        """Token of the frame, `<scene>/<name>`."""
        scan = self._scans[self._rows[index]]
        return f"{scan.scene}/{scan.name}"

    def label_path(self, index: int) -> Path | None:
        """File of the labels of the frame's points; None where there are none."""
        row = self._rows[index]
        return None if self._labels is None else labels_of(self._labels / self._recordings[row], self._scans[row].name)

    def labels_name(self, index: int) -> str:
        """File of the labels of the frame's points, below the root."""
        row = self._rows[index]
        return str(PurePosixPath(self._keys.labels, self._recordings[row], f"{self._scans[row].name}.label"))

    def scene(self, index: int) -> str:
        """Scene that the frame belongs to."""
        return self._scans[self._rows[index]].scene

    def scan_path(self, index: int) -> Path:
        """File of the frame's scan."""
        return self._scans[self._rows[index]].path

    def mask_names(self, index: int) -> tuple[str, ...]:
        """Where the masks of a frame's images lie below a folder of masks, without reading anything."""
        return tuple(_mask_name(camera, image) for camera, image in self._images_of(index))

    def cameras(self, index: int) -> tuple[Camera, ...]:
        """The cameras of a frame, in the order of the calibration, of which at most the images' headers are read.

        Raises:
            UserError: an image is missing or damaged, or not of the size that it is calibrated for.
        """
        return tuple(self._camera(self._rows[index], name, image) for name, image in self._images_of(index))

    def write_predictions(self, folder: Path, token: str, classes: NDArray[np.uint8]) -> Path:
        """Write one frame's classes as raw ids, 32 bits for every row of the scan's file: `<scene>/<name>.label`.

        Args:
            folder: where to.
            token: of the frame.
            classes: [N] uint8 class 1…C of every point, 0 for none.
        """
        scene, _, name = token.rpartition("/")
        scan = next(scan for scan in self._scans if (scan.scene, scan.name) == (scene, name))
        returns = read_scan(scan.path, self._keys.columns).returns()
        raw = np.full(len(returns), self.classes.train_to_raw[0], "<u4")
        raw[returns] = self.classes.train_to_raw[classes]
        path = folder / f"{token}.label"
        write_bytes(path, raw.tobytes())
        return path

    def _read(self, path: Path) -> ScanPoints:
        """The points of a scan in the LiDAR frame."""
        scan = read_scan(path, self._keys.columns)
        if any(scan.origin_m):
            raise UserError(f"{path}: its coordinates are those of a map, not of the sensor; give scans as measured")
        cloud = points_of(scan)
        if self._lidar_from_sensor is not None:
            moved = transform_points(self._lidar_from_sensor, cloud.points_m).astype(np.float32)
            cloud = replace(cloud, points_m=moved)
        if self.intensity_max is None:
            return replace(cloud, intensity=None)
        if cloud.intensity is None:
            raise UserError(f"{path}: has no intensity, and other scans have; set folder.intensity_max to none")
        return cloud

    def _images_of(self, index: int) -> list[tuple[str, Taken]]:
        row = self._rows[index]
        found = ((camera, images[row]) for camera, images in self._images.items())
        return [(camera, image) for camera, image in found if image is not None]

    def _camera(self, row: int, name: str, image: Taken) -> Camera:
        calibrated = self._calibration.camera(name)
        size = calibrated.model.size or image_size(image.path)
        rectifier = rectification(calibrated.model.sized(size, str(image.path)))
        timed = image.time_us is not None and self._scans[row].time_us is not None
        below = _mask_name(name, image)
        return Camera(
            name=name,
            image_path=image.path,
            size=size,
            intrinsics=rectifier.rectified.intrinsics,
            camera_from_lidar=calibrated.camera_from_lidar @ self._moved(row, image),
            timestamp_us=int(image.time_us or 0) if timed else self._time_us(row),
            mask_path=self._masks / below if self._masks else None,
            mask_classes=UNKNOWN if self.manifest is None else len(self.manifest.classes),
            segments_path=self.superpixels / below if self.superpixels else None,
            rectifier=rectifier if rectifier.changes else None,
        )

    def _time_us(self, row: int) -> int:
        """When a scan was taken; by its place, as a LiDAR that turns at 10 Hz takes them, where nothing says so."""
        time_us = self._scans[row].time_us
        return row * PERIOD_US if time_us is None else time_us

    def _pose(self, row: int) -> NDArray[np.float64] | None:
        if not isinstance(self._poses, Trajectory):
            return None if self._poses is None else self._poses[row]
        time_us = self._scans[row].time_us
        return None if time_us is None else _at(self._poses, time_us)

    def _moved(self, row: int, image: Taken) -> NDArray[np.float64]:
        """[4, 4] from the LiDAR at the scan's time to the LiDAR at the image's, as far as poses tell."""
        pose = self._pose(row)
        if not isinstance(self._poses, Trajectory) or pose is None or image.time_us is None:
            return np.eye(4)
        then = _at(self._poses, image.time_us)
        return np.eye(4) if then is None else invert(then) @ pose

    def _boxes_of(self, row: int) -> Boxes | None:
        if self._boxes is None:
            return None
        return read_boxes(self._boxes / self._recordings[row] / f"{self._scans[row].name}.txt")


def _mask_name(camera: str, image: Taken) -> str:
    return "/".join(part for part in (camera, image.scene, f"{image.name}.png") if part)


def _at(poses: Trajectory, time_us: int) -> NDArray[np.float64] | None:
    """The pose at a time, or None where it is not known."""
    time_ns = np.int64(time_us) * 1000
    return poses.at(time_ns) if bool(poses.covers(time_ns)[0]) else None


def _lidar_from_sensor(calibration: Calibration, keys: FolderKeys) -> NDArray[np.float64] | None:
    """[4, 4] from the scans' frame into the common one; None where they are one."""
    if not calibration.lidars:
        return None
    if keys.lidar is None and len(calibration.lidars) > 1:
        raise UserError(
            f"{calibration.source}: names the LiDARs {', '.join(calibration.lidars)}; say which the scans are of with "
            "the key folder.lidar"
        )
    return calibration.lidar_from_sensor(keys.lidar or next(iter(calibration.lidars)))


def _in_scenes(scans: list[Taken], root: str, keys: FolderKeys) -> list[Taken]:
    """The scans, each with the name of its scene."""
    found, counts = [], dict[str, int]()
    for scan in scans:
        scene = scan.scene or root
        place = counts[scene] = counts.get(scene, -1) + 1
        part = "" if keys.scene_scans is None else f"-{place // keys.scene_scans:03d}"
        found.append(replace(scan, scene=f"{scene}{part}"))
    return found


def _labels_folder(config: FolderConfig, keys: FolderKeys) -> Path | None:
    folder = existing(config.root / keys.labels)
    if folder is not None and config.classes is None:
        _warn(f"{folder}: labels are not read, since nothing says what they mean; set data.classes=my_classes.yaml")
        return None
    return folder


def _chosen(scans: list[Taken], split: SplitConfig, keys: FolderKeys, root: Path) -> list[int]:
    """Rows of the scans that a split keeps."""
    scenes = list(dict.fromkeys(scan.scene for scan in scans))
    wanted = chosen_scenes(split, keys.splits, scenes, root)
    if split.unit == "scene":
        wanted = wanted[split.every - 1 :: split.every]
    rows = [row for scene in wanted for row, scan in enumerate(scans) if scan.scene == scene]
    rows = rows if split.unit == "scene" else rows[:: split.every]
    if not rows:
        raise UserError(f"{root}: no scans in split {split.split!r} with every={split.every}")
    return rows


def _warn(problem: str) -> None:
    warnings.warn(problem, OlivineWarning, stacklevel=4)
