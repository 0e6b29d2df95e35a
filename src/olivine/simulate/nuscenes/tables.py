"""The nuScenes v1.0 tables: unique tokens, the tables that are the same for every scene, and how they are written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from olivine.geometry import quaternion_from_rotation
from olivine.simulate.nuscenes.rig import CAMERAS, LIDAR, ego_from_lidar
from olivine.simulate.results import Tables
from olivine.simulate.taxonomy import ATTRIBUTES, LIDARSEG_CATEGORIES, VISIBILITIES

SCENE_TABLES = ("scene", "sample", "sample_data", "ego_pose", "instance", "sample_annotation", "lidarseg")
"""Tables that every scene adds rows to."""


def token(*parts: object) -> str:
    """The 32-digit token of something, the same whenever it is named by the same parts."""
    return hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=16).hexdigest()


def shared_tables(size: tuple[int, int]) -> Tables:
    """Tables that do not depend on the scenes; `size` is the images' (width, height)."""
    mounts: list[tuple[str, NDArray[np.float64], list[list[float]]]] = [(LIDAR, ego_from_lidar(), [])]
    mounts += [(camera.name, camera.ego_from_camera(), camera.intrinsics(size).tolist()) for camera in CAMERAS]
    return {
        "sensor": [
            {"token": token("sensor", name), "channel": name, "modality": "lidar" if name == LIDAR else "camera"}
            for name, _, _ in mounts
        ],
        "calibrated_sensor": [
            {
                "token": token("calibrated_sensor", name),
                "sensor_token": token("sensor", name),
                "translation": pose[:3, 3].tolist(),
                "rotation": quaternion_from_rotation(pose[:3, :3]).tolist(),
                "camera_intrinsic": intrinsics,
            }
            for name, pose, intrinsics in mounts
        ],
        "category": [
            {"token": token("category", name), "name": name, "description": "", "index": index}
            for index, name in enumerate(LIDARSEG_CATEGORIES)
        ],
        "attribute": [{"token": token("attribute", name), "name": name, "description": ""} for name in ATTRIBUTES],
        "visibility": [
            {"token": str(level), "level": name, "description": ""} for level, name in enumerate(VISIBILITIES, start=1)
        ],
        "log": [
            {
                "token": token("log"),
                "logfile": "simulated",
                "vehicle": "simulated",
                "date_captured": "2020-09-13",
                "location": "simulated",
            }
        ],
        "map": [
            {
                "token": token("map"),
                "log_tokens": [token("log")],
                "category": "semantic_prior",
                "filename": "maps/none.png",
            }
        ],
    }


def write_tables(root: Path, version: str, tables: Tables) -> None:
    """Write every table to `root/version`, and the blank map that they name."""
    folder = root / version
    folder.mkdir(parents=True)
    for name, rows in tables.items():
        (folder / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1))
    (root / "maps").mkdir()
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(root / "maps" / "none.png")
