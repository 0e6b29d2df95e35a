"""nuScenes: keyframes of v1.0 tables, official or anybody's, with cameras, lidarseg labels, boxes and weak-label masks.

`NuScenesConfig(...).open(split)` resolves the tables through `nuscenes_index` and gives a `NuScenes`, whose frames go
on to `find_pairs`. Anything written in the nuScenes format is read alike, whatever its version folder and its channels
are called; what a folder made of a log says in its `olivine.json` (`data_record`) is honoured.

Points are in the frame of the LiDAR (of the official `LIDAR_TOP` x right, y forward, z up); intensity is 0…255 where no
record says otherwise. Every camera's `camera_from_lidar` goes lidar → ego at the LiDAR's time → global → ego at the
camera's time → camera, in float64; where a pose is unknown, lidar → ego → camera, by the calibration alone.

Format: https://github.com/nutonomy/nuscenes-devkit/blob/master/docs/schema_nuscenes.md
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from olivine.config import Config
from olivine.data.data_record import OFFICIAL_COLUMNS, DataRecord, read_data_record
from olivine.data.frame import Boxes, Camera, Frame
from olivine.data.images import image_size
from olivine.data.labels import ClassSet, load_class_set
from olivine.data.mask_names import check_mask_names, flat_name, mask_name
from olivine.data.masks import UNKNOWN, MaskManifest, read_manifest
from olivine.data.nuscenes_channels import CAMERAS
from olivine.data.nuscenes_files import read_point_labels, read_sweep
from olivine.data.nuscenes_index import BoxIndex, NuScenesIndex, load_boxes, load_index
from olivine.data.nuscenes_labels import label_tables, labels_name
from olivine.data.nuscenes_tables import Category, read_table
from olivine.data.splits import SplitConfig, every_nth, nuscenes_scenes
from olivine.errors import OlivineWarning, UserError
from olivine.files import existing
from olivine.geometry import invert, rigid_transform, rotation_from_quaternion, transform_points

__all__ = ["CAMERAS", "NuScenes", "NuScenesConfig"]

INTENSITY_MAX = 255.0
"""Top of the range of official intensities."""

_LABELS = "nuscenes"


class NuScenesConfig(Config):
    """A folder in the nuScenes v1.0 format."""

    name: Literal["nuscenes"] = "nuscenes"
    """Which dataset this is."""

    root: Path
    """The folder that holds `samples/` and the version folder."""

    version: str = "v1.0-trainval"
    """Name of the folder of tables below `root`."""

    masks: Path | None = None
    """Folder of weak-label masks; by default `<root>/camseg` where it exists."""

    superpixels: Path | None = None
    """Folder of superpixels with their `manifest.json`; by default `<root>/superpixels` where it exists."""

    boxes: bool = True
    """Read the annotated boxes (the table `sample_annotation`), where there are any."""

    lidar: str | None = None
    """Channel of the LiDAR to read; by default `LIDAR_TOP`, or the only one that the tables have."""

    classes: Path | None = None
    """Class set of your own, a YAML file: names, raw ids of labels, prompts. By default that of the dataset."""

    @classmethod
    def recognise(cls, root: Path) -> list[NuScenesConfig]:
        """The datasets that a folder is: one for every folder of tables in it, whatever its name."""
        folders = {file.parent for file in root.glob("*/scene.json")} | {
            path for path in root.glob("v1.0-*") if path.is_dir()
        }
        return [cls(root=root, version=tables.name) for tables in sorted(folders)]

    def open(self, split: SplitConfig) -> NuScenes:
        """Resolve the tables and choose the frames of a split.

        Args:
            split: an official split, `verify`, `parametrize`, `all` (every scene of the tables), or scene names. An
                official split means those of its scenes that the tables hold. `every` counts scenes in the order of
                the scene table, or keyframes with `unit="scan"`.

        Raises:
            UserError: the folder, a table, the record or the mask manifest is missing or damaged, the split is
                unknown, a named scene is not in the tables, nothing is selected, there are several LiDARs and none is
                chosen, or labels number the categories otherwise than the class set.
        """
        tables = self._tables()
        record = read_data_record(tables)
        index = load_index(tables, self.lidar)
        rows = _select(index, split, tables)
        classes = load_class_set(self.classes or _LABELS)
        if (index.labels != b"").any():
            _check_categories(tables, classes)
        if record is None:
            _warn_of_unknown_poses(index, rows, tables)
        boxes = (
            load_boxes(tables, index.sample) if self.boxes and (tables / "sample_annotation.json").exists() else None
        )
        masks = self.masks or existing(self.root / "camseg")
        superpixels = self.superpixels or existing(self.root / "superpixels")
        return NuScenes(tables, index, rows, boxes, masks, superpixels, classes=classes, record=record)

    def _tables(self) -> Path:
        tables = self.root / self.version
        if tables.is_dir():
            return tables
        if not self.root.is_dir():
            raise UserError(f"{self.root}: no such folder; data.root is the folder that holds samples/ and the tables")
        present = sorted(entry.parent.name for entry in self.root.glob("*/scene.json"))
        hint = (
            f"set data.version to one of {', '.join(present)}"
            if present
            else "no folder in the root holds a scene.json"
        )
        raise UserError(f"{tables}: no such version folder; {hint}")


class NuScenes:
    """The chosen keyframes of a nuScenes folder, by scene and time (see `olivine.data.frame.Dataset`).

    Args:
        tables: the folder of the tables, in that of the dataset.
        index: the resolved tables.
        rows: [n] rows of the index that are chosen, in order.
        boxes: the resolved annotations, or None to leave boxes out.
        masks: folder of weak-label masks, or None where there are none.
        superpixels: folder of superpixels, or None where there are none.
        classes: what the labels mean.
        record: what `olivine.json` says, or None where there is none.

    Attributes:
        name: `"nuscenes"`.
        classes: by default the 16 lidarseg challenge classes.
        manifest: what the masks mean, or None where there are none.
        superpixels: as given.
        scenes: the chosen scenes, in scene-table order.
    """

    name = "nuscenes"

    def __init__(
        self,
        tables: Path,
        index: NuScenesIndex,
        rows: NDArray[np.int64],
        boxes: BoxIndex | None,
        masks: Path | None,
        superpixels: Path | None,
        *,
        classes: ClassSet,
        record: DataRecord | None = None,
    ) -> None:
        self.classes, self._record = classes, record
        self._channels: tuple[str, ...] = tuple(index.channels.tolist())
        self.manifest: MaskManifest | None = None if masks is None else read_manifest(masks)
        self.superpixels = superpixels
        self.scenes: tuple[str, ...] = tuple(index.scenes[np.unique(index.scene[rows])].tolist())
        self._root, self._tables = tables.parent, tables
        self._index, self._rows, self._boxes, self._masks = index, rows, boxes, masks
        self._shared: frozenset[str] = frozenset()
        if masks is not None or superpixels is not None:
            self._shared = check_mask_names(self._channels[1:], index.files[:, 1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Frame:
        """The keyframe at `index`, read from disk.

        Raises:
            UserError: the sweep or its label file is missing, or its size is wrong; or there are boxes, which are
                given in the global frame, and no pose.
        """
        row, record = int(self._rows[index]), self._record
        columns, top = (OFFICIAL_COLUMNS, INTENSITY_MAX) if record is None else (record.columns, record.intensity_max)
        cloud = read_sweep(self.sweep_path(index), columns, intensity=top is not None)
        label_path = self.label_path(index)
        raw = None if label_path is None else cloud.of_points(read_point_labels(label_path, cloud.rows))
        return Frame(
            token=self.token(index),
            scene=self.scene(index),
            points_lidar_m=cloud.points_m,
            intensity=cloud.intensity,
            intensity_max=top or 1.0,
            timestamp_us=int(self._index.timestamp_us[row, 0]),
            cameras=self.cameras(index),
            labels=None if raw is None else self.classes.learn(raw),
            label_fault=None if raw is None else self.classes.strange(raw, str(label_path)),
            boxes=self.boxes(index),
            global_from_lidar=self._global_from_sensor(row, 0),
            returns=cloud.returns,
            rings=cloud.rings,
        )

    def token(self, index: int) -> str:
        """Token of the keyframe (of its row in the `sample` table)."""
        return bytes(self._index.sample[self._rows[index]]).decode()

    def scene(self, index: int) -> str:
        """Name of the scene the keyframe belongs to."""
        return str(self._index.scenes[self._index.scene[self._rows[index]]])

    def lidar_token(self, token: str) -> str:
        """Token of the LiDAR reading (of its row in the `sample_data` table) of the keyframe `token`."""
        row = int(np.flatnonzero(self._index.sample == token.encode())[0])
        return bytes(self._index.lidar[row]).decode()

    def sweep_path(self, index: int) -> Path:
        """File of the keyframe's LiDAR sweep."""
        return self._root / bytes(self._index.files[self._rows[index], 0]).decode()

    @property
    def root(self) -> Path:
        """The dataset's folder."""
        return self._root

    def label_path(self, index: int) -> Path | None:
        """File of the keyframe's point labels, or None where the tables name none."""
        file = bytes(self._index.labels[self._rows[index]]).decode()
        return self._root / file if file else None

    def labels_name(self, index: int) -> str:
        """Where labels of the keyframe's points belong below the root, whether the tables name any or not."""
        return labels_name(self._tables, bytes(self._index.lidar[self._rows[index]]).decode())

    def label_tables(self, folder: Path, classes: ClassSet) -> dict[str, bytes]:
        """The tables of lidarseg for the labels below a folder, by their path below the root.

        Raises:
            UserError: the table of categories cannot be read.
        """
        return label_tables(self._tables, [token.decode() for token in self._index.lidar.tolist()], folder, classes)

    def mask_names(self, index: int) -> tuple[str, ...]:
        """Where `olivine label` puts the masks of a keyframe's images below its folder, without reading anything."""
        files = self._index.files[self._rows[index], 1:].tolist()
        named = zip(self._channels[1:], files, strict=True)
        return tuple(mask_name(name, file.decode()) for name, file in named if file)

    def cameras(self, index: int) -> tuple[Camera, ...]:
        """The keyframe's cameras, the official ones first, then others by name.

        Nothing is read from disk but the header of an image whose size the tables do not say. A camera that the tables
        do not have at this keyframe is left out.
        """
        row = int(self._rows[index])
        return tuple(
            self._camera(row, column) for column in range(1, len(self._channels)) if self._index.files[row, column]
        )

    def boxes(self, index: int) -> Boxes | None:
        """The keyframe's annotated boxes in the LiDAR frame; None without annotations in the tables.

        Raises:
            UserError: there are boxes, which are given in the global frame, and no pose.
        """
        if self._boxes is None or not len(self._boxes.boxes):
            return None
        row = int(self._rows[index])
        own = slice(*self._boxes.offsets[row : row + 2])
        global_from_lidar = self._global_from_sensor(row, 0)
        if global_from_lidar is None:
            raise UserError(
                f"sample {self.token(index)!r}: its boxes are given in the global frame, and the pose of its LiDAR is "
                "unknown; add the ego poses, or leave the boxes out with data.boxes=false"
            )
        lidar_from_global = invert(global_from_lidar)
        names = self._boxes.categories[self._boxes.category[own]]
        return Boxes(_boxes_in_lidar(self._boxes.boxes[own], lidar_from_global), tuple(names.tolist()))

    def _camera(self, row: int, column: int) -> Camera:
        index = self._index
        image = self._root / bytes(index.files[row, column]).decode()
        width, height = index.size[row, column].tolist()
        return Camera(
            name=self._channels[column],
            image_path=image,
            size=(width, height) if width and height else image_size(image),
            intrinsics=index.intrinsics[index.calibration[row, column]],
            camera_from_lidar=self._camera_from_lidar(row, column),
            timestamp_us=int(index.timestamp_us[row, column]),
            mask_path=self._mask_path(self._masks, row, column),
            mask_classes=UNKNOWN if self.manifest is None else len(self.manifest.classes),
            segments_path=self._mask_path(self.superpixels, row, column),
        )

    def _mask_path(self, folder: Path | None, row: int, column: int) -> Path | None:
        """Where the mask of an image lies in a folder of masks, if there is one."""
        if folder is None:
            return None
        channel, image = self._channels[column], bytes(self._index.files[row, column]).decode()
        path, flat = folder / mask_name(channel, image), flat_name(channel, image)
        # Folders of masks made before names had folders in them; a name that two images share says nothing.
        if path != folder / flat and flat not in self._shared and not path.exists() and (folder / flat).exists():
            return folder / flat
        return path

    def _camera_from_lidar(self, row: int, column: int) -> NDArray[np.float64]:
        """[4, 4] through the poses of both times; by the calibration alone where one is unknown."""
        lidar, camera = self._global_from_sensor(row, 0), self._global_from_sensor(row, column)
        if lidar is None or camera is None:
            lidar, camera = self._ego_from_sensor(row, 0), self._ego_from_sensor(row, column)
        return invert(camera) @ lidar

    def _global_from_sensor(self, row: int, column: int) -> NDArray[np.float64] | None:
        """[4, 4] pose of a sensor at its own reading's time; None where it is unknown."""
        ego = self._index.ego_pose[row, column]
        if np.isnan(ego[0]) or (self._record is not None and self._record.poses == "unknown"):
            return None
        return rigid_transform(ego[:4], ego[4:]) @ self._ego_from_sensor(row, column)

    def _ego_from_sensor(self, row: int, column: int) -> NDArray[np.float64]:
        sensor = self._index.sensor_pose[self._index.calibration[row, column]]
        return rigid_transform(sensor[:4], sensor[4:])


def _select(index: NuScenesIndex, split: SplitConfig, tables: Path) -> NDArray[np.int64]:
    """Rows of the index that a split keeps, in order."""
    present = index.scenes.tolist()
    if isinstance(split.split, list):
        unknown = [scene for scene in split.split if scene not in set(present)]
        if unknown:
            raise UserError(f"{tables / 'scene.json'}: no scene named {unknown[0]!r}; the table has {_few(present)}")
        wanted = set(split.split)
    else:
        wanted = set(present) if split.split == "all" else set(nuscenes_scenes(split.split))
    scenes = [row for row, scene in enumerate(present) if scene in wanted]
    if split.unit != "scan":
        scenes = every_nth(scenes, split.every)
    rows = np.flatnonzero(np.isin(index.scene, scenes))
    if split.unit == "scan":
        rows = rows[split.every - 1 :: split.every]
    if not len(rows):
        raise UserError(
            f"{tables}: split {split.split!r} with every={split.every} selects nothing; the tables have {_few(present)}"
        )
    return rows


def _warn_of_unknown_poses(index: NuScenesIndex, rows: NDArray[np.int64], tables: Path) -> None:
    """Say so where readings of the chosen keyframes have no pose."""
    read = index.files[rows] != b""
    unknown = int((read & np.isnan(index.ego_pose[rows, :, 0])).sum())
    if unknown:
        warnings.warn(
            f"{tables / 'ego_pose.json'}: the poses of {unknown} of {int(read.sum())} readings are empty, so they are "
            "unknown: points reach images by the calibration alone, and what needs poses is refused",
            OlivineWarning,
            stacklevel=3,
        )


def _check_categories(tables: Path, classes: ClassSet) -> None:
    """Compare the numbers that the tables give to categories, where they do, with those the class set maps."""
    path = tables / "category.json"
    if not path.exists():
        return
    for rows in read_table(path, Category):
        for row in rows:
            known = classes.raw_names.get(row.name)
            if row.index is not None and known not in (None, row.index):
                raise UserError(
                    f"{path}: {row.name!r} has index {row.index}, but the class set {classes.name} maps the labels "
                    f"of an edition in which it is {known}; number the labels as lidarseg does"
                )


def _few(scenes: list[str]) -> str:
    """A count and the first names, for messages."""
    return f"{len(scenes)} scene(s): {', '.join(scenes[:5])}{', …' if len(scenes) > 5 else ''}"


def _boxes_in_lidar(boxes: NDArray[np.float64], lidar_from_global: NDArray[np.float64]) -> NDArray[np.float64]:
    """Carry boxes into the LiDAR frame.

    Args:
        boxes: [M, 10] centre, (width, length, height), quaternion, in the global frame.
        lidar_from_global: [4, 4] pose.

    Returns:
        [M, 7] (x, y, z, dx, dy, dz, yaw); the yaw is that of the heading projected on the LiDAR's xy plane.
    """
    carried = np.zeros((len(boxes), 7))
    carried[:, :3] = transform_points(lidar_from_global, boxes[:, :3])
    carried[:, 3:6] = boxes[:, [4, 3, 5]]
    for row, quaternion in enumerate(boxes[:, 6:]):
        heading = lidar_from_global[:3, :3] @ rotation_from_quaternion(quaternion)[:, 0]
        carried[row, 6] = np.arctan2(heading[1], heading[0])
    return carried
