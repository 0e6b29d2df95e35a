"""The tables of the simulated nuScenes data set that are the same for every scene."""

from __future__ import annotations

from olivine.data.nuscenes_writer import calibrated_sensor_row, log_tables, sensor_rows, token
from olivine.simulate.nuscenes.rig import CAMERAS, LIDAR, ego_from_lidar
from olivine.simulate.results import Tables
from olivine.simulate.taxonomy import ATTRIBUTES, LIDARSEG_CATEGORIES, VISIBILITIES

SCENE_TABLES = ("scene", "sample", "sample_data", "ego_pose", "instance", "sample_annotation", "lidarseg")
"""Tables that every scene adds rows to."""


def shared_tables(size: tuple[int, int]) -> Tables:
    """Tables that do not depend on the scenes; `size` is the images' (width, height)."""
    cameras = [
        calibrated_sensor_row(camera.name, camera.ego_from_camera(), camera.intrinsics(size).tolist())
        for camera in CAMERAS
    ]
    return {
        "sensor": sensor_rows([(LIDAR, "lidar"), *((camera.name, "camera") for camera in CAMERAS)]),
        "calibrated_sensor": [calibrated_sensor_row(LIDAR, ego_from_lidar(), []), *cameras],
        "category": [
            {"token": token("category", name), "name": name, "description": "", "index": index}
            for index, name in enumerate(LIDARSEG_CATEGORIES)
        ],
        "attribute": [{"token": token("attribute", name), "name": name, "description": ""} for name in ATTRIBUTES],
        "visibility": [
            {"token": str(level), "level": name, "description": ""} for level, name in enumerate(VISIBILITIES, start=1)
        ],
        **log_tables("simulated", "simulated", "2020-09-13", "simulated"),
    }
