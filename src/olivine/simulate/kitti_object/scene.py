"""One scene of the KITTI world: build its street, drive through it, and write each keyframe as a frame of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from olivine.data.kitti_labels import DONT_CARE, write_objects
from olivine.data.labels import load_class_set
from olivine.files import write_text
from olivine.simulate.cast import TOWN
from olivine.simulate.config import KittiObjectLayout, SimulateConfig
from olivine.simulate.kitti_object.labels import label_objects
from olivine.simulate.kitti_object.planes import road_plane
from olivine.simulate.kitti_object.rig import IMAGE, Rig, ego_from_lidar, lidar, tilt
from olivine.simulate.mask_files import no_masks, write_masks
from olivine.simulate.results import SceneResult, Tables
from olivine.simulate.sensors import photograph, scan
from olivine.simulate.stage import Stage
from olivine.streams import stream

TRAINING = "training"
"""The folder of the labelled frames."""


def simulate_scene(root: Path, config: SimulateConfig, number: int) -> SceneResult:
    """Simulate scene `number` (1, 2, …) and write its files under `root`, whose folders exist."""
    assert isinstance(config.layout, KittiObjectLayout), "the layout chose this writer"
    return _SceneWriter(root, config, config.layout, number).run()


class _SceneWriter:
    """The state of one scene while it is being written."""

    def __init__(self, root: Path, config: SimulateConfig, layout: KittiObjectLayout, number: int) -> None:
        self._root, self._config, self._layout = root, config, layout
        self._name, self._first = f"scene-{number:04d}", (number - 1) * config.keyframes_per_scene
        self._stage = Stage(stream("town", config.seed, number), config, TOWN, layout.interval_s)
        self._rig, self._lidar = Rig(config.size), lidar(config.columns)
        self._classes = load_class_set("nuscenes")
        self._points = np.zeros(self._classes.count + 1, np.int64)
        self._masks = no_masks()
        self._tables: Tables = {"frames": [], "objects": []}

    def run(self) -> SceneResult:
        """Write all keyframes."""
        for keyframe in range(self._config.keyframes_per_scene):
            self._frame(f"{self._first + keyframe:06d}", keyframe * self._layout.interval_s)
        return SceneResult(self._name, self._points, self._masks, self._tables)

    def _frame(self, frame: str, time_s: float) -> None:
        config, stage, rig = self._config, self._stage, self._rig
        snapshot = stage.world.at(time_s)
        pitch, roll = stage.rng.normal(0, self._layout.tilt_rad, 2).tolist()
        global_from_lidar = stage.drive.global_from_ego(time_s) @ tilt(pitch, roll) @ ego_from_lidar()
        sweep = scan(snapshot, global_from_lidar, self._lidar, config.lidar, stage.rng)
        global_from_camera = global_from_lidar @ rig.lidar_from_camera
        view = photograph(
            snapshot, global_from_camera, rig.intrinsics, config.size, stage.light, config.camera, stage.rng
        )
        objects = label_objects(snapshot, stage.world.things, view, rig, global_from_lidar, self._layout)
        folder = self._root / TRAINING
        # Intensity in hundredths, as KITTI has it.
        sweep.points[:, 3] = np.rint(sweep.points[:, 3] / 2.55) / 100
        sweep.points[:, :4].tofile(folder / "velodyne" / f"{frame}.bin")
        Image.fromarray(view.image).save(folder / IMAGE / f"{frame}.png", compress_level=1)
        write_objects(folder / "label_2" / f"{frame}.txt", objects, decimals=2)
        write_text(folder / "calib" / f"{frame}.txt", rig.calibration())
        write_text(folder / "planes" / f"{frame}.txt", road_plane(rig.rect_from_lidar, global_from_lidar))
        self._masks += write_masks(self._root, f"{IMAGE}/{frame}.png", view, config.weak_labels, stage.rng)
        self._points += np.bincount(self._classes.learn(sweep.category), minlength=len(self._points))
        self._tables["frames"].append({"frame": frame, "scene": self._name})
        self._tables["objects"] += [{"frame": frame, "type": name} for name in objects.names if name != DONT_CARE]
