"""One simulated scene: build its street, drive through it, write what the sensors see and collect the table rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from olivine.data.labels import load_class_set
from olivine.data.nuscenes_writer import chain, ego_pose_row, reading_row, sample_row, scene_row, token
from olivine.geometry import quaternion_from_rotation
from olivine.simulate.cast import CITY
from olivine.simulate.config import NuScenesLayout, SimulateConfig
from olivine.simulate.mask_files import no_masks, write_masks
from olivine.simulate.nuscenes import tables
from olivine.simulate.nuscenes.annotations import Annotator
from olivine.simulate.nuscenes.rig import CAMERAS, KEYFRAME_S, LIDAR, CameraMount, ego_from_lidar, lidar
from olivine.simulate.results import Row, SceneResult, Tables
from olivine.simulate.sensors import photograph, scan
from olivine.simulate.stage import Stage
from olivine.simulate.world import Snapshot
from olivine.streams import stream

_EPOCH_US = 1_600_000_000_000_000
_SCENE_US = 1_000_000_000


def simulate_scene(root: Path, config: SimulateConfig, number: int) -> SceneResult:
    """Simulate scene `number` (1, 2, …) and write its files under `root`, whose sensor folders exist."""
    return _SceneWriter(root, config, number).run()


class _SceneWriter:
    """The state of one scene while it is being written."""

    def __init__(self, root: Path, config: SimulateConfig, number: int) -> None:
        assert isinstance(config.layout, NuScenesLayout), "the layout chose this writer"
        self._root, self._config, self._number, self._version = root, config, number, config.layout.version
        self._classes = load_class_set("nuscenes")
        self._name = f"scene-{number:04d}"
        self._token = token(config.seed, self._name)
        self._stage = Stage(stream("scene", config.seed, number), config, CITY, KEYFRAME_S)
        self._rng, self._drive = self._stage.rng, self._stage.drive
        self._lidar = lidar(config.columns)
        self._annotator = Annotator(self._token, self._stage.world.things)
        self._tables: Tables = {name: [] for name in tables.SCENE_TABLES}
        self._points = np.zeros(self._classes.count + 1, np.int64)
        self._masks = no_masks()

    def run(self) -> SceneResult:
        """Write all keyframes."""
        for keyframe in range(self._config.keyframes_per_scene):
            self._keyframe(keyframe)
        chain(self._tables["sample"])
        for channel in (LIDAR, *(camera.name for camera in CAMERAS)):
            chain([row for row in self._tables["sample_data"] if f"/{channel}/" in row["filename"]])
        self._tables["instance"], self._tables["sample_annotation"] = self._annotator.tables()
        samples = self._tables["sample"]
        first, last = samples[0]["token"], samples[-1]["token"]
        self._tables["scene"].append(scene_row(self._token, self._name, len(samples), first, last, "simulated street"))
        return SceneResult(self._name, self._points, self._masks, self._tables)

    def _keyframe(self, keyframe: int) -> None:
        time_s = keyframe * KEYFRAME_S
        sample_token = token(self._token, "sample", keyframe)
        snapshot = self._stage.world.at(time_s)
        self._tables["sample"].append(sample_row(sample_token, self._token, self._timestamp_us(time_s)))
        self._sweep(snapshot, sample_token, time_s)
        for camera in CAMERAS:
            self._camera(snapshot, sample_token, time_s + camera.delay_us * 1e-6, camera)

    def _sweep(self, snapshot: Snapshot, sample_token: str, time_s: float) -> None:
        pose = self._drive.global_from_ego(time_s)
        global_from_lidar = pose @ ego_from_lidar()
        sweep = scan(snapshot, global_from_lidar, self._lidar, self._config.lidar, self._rng)
        row = self._record(sample_token, LIDAR, time_s, pose, "pcd.bin", (0, 0))
        sweep.points.tofile(self._root / row["filename"])
        labels = f"lidarseg/{self._version}/{row['token']}_lidarseg.bin"
        sweep.category.tofile(self._root / labels)
        self._tables["lidarseg"].append({"token": row["token"], "sample_data_token": row["token"], "filename": labels})
        self._annotator.add(sample_token, snapshot, sweep, global_from_lidar[:3, 3])
        self._points += np.bincount(self._classes.learn(sweep.category), minlength=len(self._points))

    def _camera(self, snapshot: Snapshot, sample_token: str, time_s: float, camera: CameraMount) -> None:
        config, size = self._config, self._config.size
        pose = self._drive.global_from_ego(time_s)
        view = photograph(
            snapshot,
            pose @ camera.ego_from_camera(),
            camera.intrinsics(size),
            size,
            self._stage.light,
            config.camera,
            self._rng,
        )
        row = self._record(sample_token, camera.name, time_s, pose, "jpg", size)
        path = self._root / row["filename"]
        Image.fromarray(view.image).save(path, quality=config.camera.jpeg_quality)
        masks = f"{camera.name}/{path.stem}.png"
        self._masks += write_masks(self._root, masks, view, config.weak_labels, self._rng)

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
        filename = f"samples/{channel}/simulated-{self._name}__{channel}__{timestamp_us}.{suffix}"
        calibration = token("calibrated_sensor", channel)
        row = reading_row(sample_token, channel, calibration, timestamp_us, filename, size)
        self._tables["sample_data"].append(row)
        rotation = quaternion_from_rotation(global_from_ego[:3, :3]).tolist()
        translation = global_from_ego[:3, 3].tolist()
        self._tables["ego_pose"].append(ego_pose_row(row["ego_pose_token"], timestamp_us, rotation, translation))
        return row

    def _timestamp_us(self, time_s: float) -> int:
        return _EPOCH_US + self._number * _SCENE_US + round(time_s * 1e6)
