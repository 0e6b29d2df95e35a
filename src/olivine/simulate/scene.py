"""One simulated scene: build its street, drive through it, write what the sensors see and collect the table rows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from olivine.data.labels import IGNORED, load_class_set
from olivine.data.masks import UNKNOWN
from olivine.geometry import invert, quaternion_from_rotation, transform_points
from olivine.simulate import tables
from olivine.simulate.annotations import Annotator
from olivine.simulate.config import SimulateConfig
from olivine.simulate.layout import Thing, ego_offset_m, populate
from olivine.simulate.rig import CAMERAS, KEYFRAME_S, LIDAR, CameraMount, Drive, ego_from_lidar
from olivine.simulate.sensors import Light, photograph, scan
from olivine.simulate.street import Street
from olivine.simulate.tables import Row, Tables, token
from olivine.simulate.weak_labels import spoil
from olivine.simulate.world import Snapshot, World
from olivine.streams import stream

_EPOCH_US = 1_600_000_000_000_000
_SCENE_US = 1_000_000_000
# Footprint of the ego vehicle with some room around it, from the rear axle.
_EGO_REAR_M, _EGO_FRONT_M, _EGO_HALF_WIDTH_M = -1.8, 5.0, 1.5


@dataclass(frozen=True)
class SceneResult:
    """What one scene contributes.

    Attributes:
        tables: its rows.
        points: [C + 1] int64 LiDAR returns per training class, 0 = none.
        true_pixels: [C + 1] int64 pixels of each class, then those that show none.
        weak_pixels: [C + 1] int64 pixels of each weak label, then those without one.
        labelled: how many of the pixels that show a class have a weak label.
        correct: how many of them have the right one.
    """

    tables: Tables
    points: NDArray[np.int64]
    true_pixels: NDArray[np.int64]
    weak_pixels: NDArray[np.int64]
    labelled: int
    correct: int


def simulate_scene(root: Path, config: SimulateConfig, number: int) -> SceneResult:
    """Simulate scene `number` (1, 2, …) and write its files under `root`, whose sensor folders exist."""
    return _SceneWriter(root, config, number).run()


class _SceneWriter:
    """The state of one scene while it is being written."""

    def __init__(self, root: Path, config: SimulateConfig, number: int) -> None:
        self._root, self._config, self._number = root, config, number
        self._classes = load_class_set("nuscenes")
        self._rng = stream("scene", config.seed, number)
        self._name = f"scene-{number:04d}"
        self._token = token(config.seed, self._name)
        speed = float(self._rng.uniform(*config.ego_speed_mps))
        drive_m = 1.3 * speed * KEYFRAME_S * config.keyframes_per_scene
        street = Street(self._rng, drive_m, config.bend_rad)
        things = populate(street, self._rng, config.traffic, speed)
        self._drive = Drive(self._rng, street, ego_offset_m(street), speed)
        things = _out_of_the_way(street, things, self._drive, config.keyframes_per_scene)
        self._world = World(street, street.ground(self._rng), things)
        self._light = Light.draw(self._rng)
        self._annotator = Annotator(self._token, self._world.things)
        self._tables: Tables = {name: [] for name in tables.SCENE_TABLES}
        self._points = np.zeros(self._classes.count + 1, np.int64)
        self._true_pixels, self._weak_pixels = np.zeros((2, self._classes.count + 1), np.int64)
        self._labelled = self._correct = 0

    def run(self) -> SceneResult:
        """Write all keyframes."""
        for keyframe in range(self._config.keyframes_per_scene):
            self._keyframe(keyframe)
        _chain(self._tables["sample"])
        for channel in (LIDAR, *(camera.name for camera in CAMERAS)):
            _chain([row for row in self._tables["sample_data"] if f"/{channel}/" in row["filename"]])
        self._tables["instance"], self._tables["sample_annotation"] = self._annotator.tables()
        samples = self._tables["sample"]
        self._tables["scene"].append(
            {
                "token": self._token,
                "log_token": token("log"),
                "nbr_samples": len(samples),
                "first_sample_token": samples[0]["token"],
                "last_sample_token": samples[-1]["token"],
                "name": self._name,
                "description": "simulated street",
            }
        )
        pixels = (self._true_pixels, self._weak_pixels)
        return SceneResult(self._tables, self._points, *pixels, self._labelled, self._correct)

    def _keyframe(self, keyframe: int) -> None:
        time_s = keyframe * KEYFRAME_S
        sample_token = token(self._token, "sample", keyframe)
        snapshot = self._world.at(time_s)
        self._tables["sample"].append(
            {
                "token": sample_token,
                "timestamp": self._timestamp_us(time_s),
                "prev": "",
                "next": "",
                "scene_token": self._token,
            }
        )
        self._lidar(snapshot, sample_token, time_s)
        for camera in CAMERAS:
            self._camera(snapshot, sample_token, time_s + camera.delay_us * 1e-6, camera)

    def _lidar(self, snapshot: Snapshot, sample_token: str, time_s: float) -> None:
        pose = self._drive.global_from_ego(time_s)
        sweep = scan(snapshot, pose, self._config.lidar, self._rng)
        row = self._record(sample_token, LIDAR, time_s, pose, "pcd.bin", (0, 0))
        sweep.points.tofile(self._root / row["filename"])
        labels = f"lidarseg/{self._config.version}/{row['token']}_lidarseg.bin"
        sweep.category.tofile(self._root / labels)
        self._tables["lidarseg"].append({"token": row["token"], "sample_data_token": row["token"], "filename": labels})
        self._annotator.add(sample_token, snapshot, sweep, (pose @ ego_from_lidar())[:3, 3])
        self._points += np.bincount(self._classes.learn(sweep.category), minlength=len(self._points))

    def _camera(self, snapshot: Snapshot, sample_token: str, time_s: float, camera: CameraMount) -> None:
        config, size = self._config, self._config.image_size
        pose = self._drive.global_from_ego(time_s)
        view = photograph(
            snapshot,
            pose @ camera.ego_from_camera(),
            camera.intrinsics(size),
            size,
            self._light,
            config.camera,
            self._rng,
        )
        row = self._record(sample_token, camera.name, time_s, pose, "jpg", size)
        path = self._root / row["filename"]
        Image.fromarray(view.image).save(path, quality=config.camera.jpeg_quality)
        learned = self._classes.learn(view.category)
        truth = np.where(learned == IGNORED, UNKNOWN, learned - 1).astype(np.uint8)
        weak = spoil(truth, view.owner, self._classes.names, config.weak_labels, self._rng)
        for folder, mask in (("truth", truth), ("camseg", weak)):
            Image.fromarray(mask).save(self._root / folder / camera.name / f"{path.stem}.png", compress_level=3)
        shown = truth != UNKNOWN
        self._true_pixels += self._count(truth)
        self._weak_pixels += self._count(weak)
        self._labelled += int((shown & (weak != UNKNOWN)).sum())
        self._correct += int((shown & (weak == truth)).sum())

    def _count(self, mask: NDArray[np.uint8]) -> NDArray[np.int64]:
        """[C + 1] pixels of each class, then unknown ones."""
        pixels = np.bincount(mask.ravel(), minlength=UNKNOWN + 1)
        return np.append(pixels[: self._classes.count], pixels[UNKNOWN])

    def _record(
        self,
        sample_token: str,
        channel: str,
        time_s: float,
        global_from_ego: NDArray[np.float64],
        suffix: str,
        size: tuple[int, int],
    ) -> Row:
        """Add and return the `sample_data` row of one reading, with its `ego_pose`."""
        timestamp_us = self._timestamp_us(time_s)
        row = {
            "token": token(sample_token, channel),
            "sample_token": sample_token,
            "ego_pose_token": token(sample_token, channel),
            "calibrated_sensor_token": token("calibrated_sensor", channel),
            "timestamp": timestamp_us,
            "fileformat": suffix.partition(".")[0],
            "is_key_frame": True,
            "height": size[1],
            "width": size[0],
            "filename": f"samples/{channel}/simulated-{self._name}__{channel}__{timestamp_us}.{suffix}",
            "prev": "",
            "next": "",
        }
        self._tables["sample_data"].append(row)
        self._tables["ego_pose"].append(
            {
                "token": row["ego_pose_token"],
                "timestamp": timestamp_us,
                "rotation": quaternion_from_rotation(global_from_ego[:3, :3]).tolist(),
                "translation": global_from_ego[:3, 3].tolist(),
            }
        )
        return row

    def _timestamp_us(self, time_s: float) -> int:
        return _EPOCH_US + self._number * _SCENE_US + round(time_s * 1e6)


def _out_of_the_way(street: Street, things: list[Thing], drive: Drive, keyframes: int) -> list[Thing]:
    """Leave out the things that the ego vehicle would touch in some keyframe, such as people on a crossing."""
    kept = np.ones(len(things), bool)
    s, d, along, across = np.array([(t.s_m, t.d_m, t.along_mps, t.across_mps) for t in things]).T
    for keyframe in range(keyframes):
        time_s = keyframe * KEYFRAME_S
        x, y, _ = street.locate(s + along * time_s, d + across * time_s)
        ego = transform_points(invert(drive.global_from_ego(time_s)), np.column_stack([x, y, np.zeros_like(x)]))
        kept &= (ego[:, 0] < _EGO_REAR_M) | (ego[:, 0] > _EGO_FRONT_M) | (np.abs(ego[:, 1]) > _EGO_HALF_WIDTH_M)
    return [thing for thing, keep in zip(things, kept, strict=True) if keep]


def _chain(rows: list[Row]) -> None:
    """Link rows, in order, through `prev` and `next`."""
    for before, after in pairwise(rows):
        before["next"], after["prev"] = after["token"], before["token"]
