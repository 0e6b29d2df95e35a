"""Tiny valid nuScenes folders: a moving, turning vehicle with a LiDAR and six cameras, each at its own time and pose.

Everything written can be asked for again (`sweep`, `raw_labels`, `ego_pose`, `sensor_pose`, `intrinsics`), so that
tests derive what a reader must give without reading it back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

LIDAR = "LIDAR_TOP"
CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
CAMERA_YAW_DEG = (0.0, -55.0, -110.0, 180.0, 110.0, 55.0)
MASK_CLASSES = ("road", "car", "tree")
BOX_SIZE_WLH = (2.0, 4.5, 1.6)
START_US = 1_532_402_927_000_000


def time_us(scene: int, keyframe: int, channel: str) -> int:
    """Cameras fire one after another, 5 ms apart, before the LiDAR's time."""
    late = 0 if channel not in CAMERAS else -5000 * (1 + CAMERAS.index(channel))
    return START_US + scene * 60_000_000 + keyframe * 500_000 + late


def ego_pose(at_us: int) -> np.ndarray:
    """[4, 4] `global_from_ego`: 8 m/s along a curve, slightly pitched and rolled."""
    seconds = (at_us - START_US) * 1e-6
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("ZYX", [0.3 * seconds, 0.02, -0.01]).as_matrix()
    pose[:3, 3] = [400 + 8 * seconds, 1100 + np.sin(seconds), 0.5]
    return pose


def sensor_pose(channel: str) -> np.ndarray:
    """[4, 4] `ego_from_sensor`: the LiDAR looks along +y as on the real vehicle, the cameras all around."""
    pose = np.eye(4)
    if channel == LIDAR:
        pose[:3, :3] = Rotation.from_euler("ZYX", [-89.5, 0.5, -0.3], degrees=True).as_matrix()
        pose[:3, 3] = [0.9, 0.0, 1.8]
    else:
        yaw = CAMERA_YAW_DEG[CAMERAS.index(channel)]
        ego_from_forward = Rotation.from_euler("Z", yaw, degrees=True).as_matrix()
        forward_from_camera = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
        pose[:3, :3] = ego_from_forward @ forward_from_camera
        pose[:3, 3] = ego_from_forward @ [0.8, 0.0, 1.5]
    return pose


def intrinsics(size: tuple[int, int]) -> np.ndarray:
    """[3, 3] camera matrix of a lens about 70° wide."""
    return np.array([[0.7 * size[0], 0, size[0] / 2], [0, 0.7 * size[0], size[1] / 2], [0, 0, 1]])


def sweep(scene: int, keyframe: int, points: int) -> np.ndarray:
    """[points, 5] float32 (x, y, z, intensity 0…255, ring)."""
    rng = np.random.default_rng((11, scene, keyframe))
    xyz = rng.uniform([-30, -30, -1.8], [30, 30, 3], (points, 3))
    return np.column_stack([xyz, rng.integers(0, 256, points), rng.integers(0, 32, points)]).astype(np.float32)


def raw_labels(scene: int, keyframe: int, points: int) -> np.ndarray:
    """[points] uint8 lidarseg category of each point."""
    return np.random.default_rng((12, scene, keyframe)).choice([0, 9, 17, 24, 30, 31], points).astype(np.uint8)


def token(*parts: object) -> str:
    """A token that says what it stands for; readers must not care."""
    return "-".join(str(part) for part in parts)


def write_tables(folder: Path, tables: dict[str, list[dict[str, Any]]]) -> None:
    """Write tables one field a line, as the official ones are."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows, indent=0), encoding="utf-8")


def build_nuscenes(
    root: Path,
    scenes: Sequence[str] = ("scene-0061",),
    keyframes: int = 2,
    *,
    version: str = "v1.0-mini",
    points: int = 300,
    size: tuple[int, int] = (64, 36),
    lidarseg: bool = True,
    camseg: bool = True,
    boxes: int = 2,
) -> Path:
    """Write the dataset and return `root`.

    Beside the keyframes the tables hold sweeps and a radar, which a reader of keyframes must pass over; their files
    do not exist. Category `index` values are those of lidarseg where the names are.
    """
    tables = _fixed_tables(size)
    for scene, name in enumerate(scenes):
        tables["scene"].append(_scene_row(scene, name, keyframes))
        for keyframe in range(keyframes):
            _add_keyframe(tables, scene, keyframe, keyframes, size)
            _add_boxes(tables, scene, keyframe, boxes)
            _write_sweep(root, scene, keyframe, points)
            for channel in CAMERAS:
                _write_image(root, scene, keyframe, channel, size, camseg)
            if lidarseg:
                _add_labels(root, tables, version, scene, keyframe, points)
    if not lidarseg:
        del tables["lidarseg"]
    write_tables(root / version, tables)
    if camseg:
        manifest = {"classes": MASK_CLASSES, "unknown": 255, "labeller": "random numbers"}
        (root / "camseg" / "manifest.json").write_text(json.dumps(manifest))
    return root


def filename(scene: int, keyframe: int, channel: str) -> str:
    """Path of a keyframe's file below the root."""
    ending = "jpg" if channel in CAMERAS else "pcd.bin"
    return f"samples/{channel}/car__{channel}__{time_us(scene, keyframe, channel)}.{ending}"


def _pose_row(own: str, pose: np.ndarray) -> dict[str, Any]:
    rotation = Rotation.from_matrix(pose[:3, :3]).as_quat()[[3, 0, 1, 2]]
    return {"token": own, "rotation": rotation.tolist(), "translation": pose[:3, 3].tolist()}


def _fixed_tables(size: tuple[int, int]) -> dict[str, list[dict[str, Any]]]:
    channels = ("RADAR_FRONT", *reversed(CAMERAS), LIDAR)
    calibrated = []
    for channel in channels:
        pose = sensor_pose(LIDAR if channel.startswith("RADAR") else channel)
        matrix = intrinsics(size).tolist() if channel in CAMERAS else []
        link = {"sensor_token": token("sensor", channel), "camera_intrinsic": matrix}
        calibrated.append({**_pose_row(token("calibrated", channel), pose), **link})
    modality = {"R": "radar", "C": "camera", "L": "lidar"}
    return {
        "sensor": [{"token": token("sensor", c), "channel": c, "modality": modality[c[0]]} for c in channels],
        "calibrated_sensor": calibrated,
        "category": [
            {"token": "category-car", "name": "vehicle.car", "description": "", "index": 17},
            {"token": "category-adult", "name": "human.pedestrian.adult", "description": "", "index": 2},
        ],
        "visibility": [{"token": "4", "level": "v80-100", "description": ""}],
        "attribute": [],
        "log": [{"token": "log", "logfile": "log", "vehicle": "car", "date_captured": "", "location": "somewhere"}],
        "map": [{"token": "map", "log_tokens": ["log"], "category": "semantic_prior", "filename": "maps/none.png"}],
        **{name: [] for name in ("scene", "sample", "sample_data", "ego_pose", "lidarseg")},
        **{name: [] for name in ("instance", "sample_annotation")},
    }


def _scene_row(scene: int, name: str, keyframes: int) -> dict[str, Any]:
    first, last = (token("sample", scene, keyframe) for keyframe in (0, keyframes - 1))
    ends = {"first_sample_token": first, "last_sample_token": last}
    text = {"description": 'a street, }, {"quoted"}'}
    return {"token": token("scene", scene), "name": name, "log_token": "log", "nbr_samples": keyframes, **ends, **text}


def _add_keyframe(
    tables: dict[str, list[dict[str, Any]]], scene: int, keyframe: int, keyframes: int, size: tuple[int, int]
) -> None:
    sample = token("sample", scene, keyframe)
    # Later keyframes come first in the table, so that a reader has to sort them by time.
    tables["sample"].insert(
        0,
        {
            "token": sample,
            "timestamp": time_us(scene, keyframe, LIDAR),
            "prev": token("sample", scene, keyframe - 1) if keyframe else "",
            "next": token("sample", scene, keyframe + 1) if keyframe + 1 < keyframes else "",
            "scene_token": token("scene", scene),
        },
    )
    for channel in ("RADAR_FRONT", *CAMERAS, LIDAR):
        for is_key in (False, True):
            own = token("data", scene, keyframe, channel, int(is_key))
            at_us = time_us(scene, keyframe, channel) + (0 if is_key else 50_000)
            image = channel in CAMERAS
            row = {
                "token": own,
                "sample_token": sample,
                "ego_pose_token": token("pose", own),
                "calibrated_sensor_token": token("calibrated", channel),
                "timestamp": at_us,
                "fileformat": "jpg" if image else "pcd",
                "is_key_frame": is_key,
                "height": size[1] if image else 0,
                "width": size[0] if image else 0,
                "filename": filename(scene, keyframe, channel) if is_key else f"sweeps/{channel}/{own}",
                "prev": "",
                "next": "",
            }
            tables["sample_data"].append(row)
            tables["ego_pose"].insert(0, {**_pose_row(token("pose", own), ego_pose(at_us)), "timestamp": at_us})


def box_pose(scene: int, keyframe: int, box: int) -> np.ndarray:
    """[4, 4] `global_from_box`: ahead of the vehicle, each with another heading."""
    vehicle_from_box = np.eye(4)
    vehicle_from_box[:3, :3] = Rotation.from_euler("Z", 0.4 * box).as_matrix()
    vehicle_from_box[:3, 3] = [10 + 5 * box, 2 * box, 0.8]
    return ego_pose(time_us(scene, keyframe, LIDAR)) @ vehicle_from_box


def _add_boxes(tables: dict[str, list[dict[str, Any]]], scene: int, keyframe: int, boxes: int) -> None:
    for box in range(boxes):
        own, instance = token("box", scene, keyframe, box), token("instance", scene, keyframe, box)
        category = ("category-car", "category-adult")[box % 2]
        link = {"sample_token": token("sample", scene, keyframe), "instance_token": instance}
        more = {"size": list(BOX_SIZE_WLH), "visibility_token": "4", "attribute_tokens": [], "prev": "", "next": ""}
        counts = {"num_lidar_pts": 1, "num_radar_pts": 0}
        pose = _pose_row(own, box_pose(scene, keyframe, box))
        tables["sample_annotation"].insert(0, {**pose, **link, **more, **counts})
        ends = {"first_annotation_token": own, "last_annotation_token": own, "nbr_annotations": 1}
        tables["instance"].append({"token": instance, "category_token": category, **ends})


def _write_sweep(root: Path, scene: int, keyframe: int, points: int) -> None:
    path = root / filename(scene, keyframe, LIDAR)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(scene, keyframe, points).tofile(path)


def _write_image(root: Path, scene: int, keyframe: int, channel: str, size: tuple[int, int], camseg: bool) -> None:
    rng = np.random.default_rng((13, scene, keyframe, CAMERAS.index(channel)))
    path = root / filename(scene, keyframe, channel)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path)
    if camseg:
        mask = root / "camseg" / channel / f"{path.stem}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.choice([0, 1, 2, 255], (size[1], size[0])).astype(np.uint8)).save(mask)


def _add_labels(
    root: Path, tables: dict[str, list[dict[str, Any]]], version: str, scene: int, keyframe: int, points: int
) -> None:
    data = token("data", scene, keyframe, LIDAR, 1)
    file = f"lidarseg/{version}/{data}_lidarseg.bin"
    tables["lidarseg"].append({"token": data, "sample_data_token": data, "filename": file})
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    raw_labels(scene, keyframe, points).tofile(root / file)
