"""A frame of a log as the files of a keyframe, and what is noted of it for the tables.

samples/LIDAR_TOP/NAME-0001__LIDAR_TOP__TIME.pcd.bin   float32 × 5: x, y, z, intensity as the sensor gives it, ring
samples/CAM_FRONT/NAME-0001__CAM_FRONT__TIME.jpg
sensors/LIDAR_TOP/NAME-0001__LIDAR_TOP__TIME.bin       uint8: which LiDAR each point is from, where there are several
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.files import write_bytes
from olivine.geometry import quaternion_from_rotation
from olivine.logs.clouds import Cloud
from olivine.logs.frames import LogFrame, LogImage
from olivine.logs.journal import Entry
from olivine.logs.recipe import ConvertConfig
from olivine.logs.rejected import Rejected
from olivine.scans import IntensityRange


def write_frame(root: Path, frame: LogFrame, config: ConvertConfig) -> Entry:
    """Make and write the files of a frame.

    Everything is made before anything is written, so that a frame that turns out unusable leaves no file.

    Args:
        root: the dataset's folder.
        frame: the frame.
        config: the recipe.

    Returns:
        What the tables need: `scene`, `time_us`, `points`, `pose`, `intensity`, `rings` and `images`; or `rejected`,
        the reason, and `detail`.

    Raises:
        UserError: a reading is wrong in a way that concerns the whole log, or the disk is full.
    """
    try:
        cloud = frame.cloud()
        pictures = [(image, image.jpeg(config.jpeg_quality)) for image in frame.images]
    except Rejected as rejected:
        return {"rejected": rejected.reason, "detail": str(rejected)}
    name, time_us = scene_name(config, frame.scene), frame.time_ns // 1000
    write_bytes(root / cloud_file(name, config.channel, time_us), _rows(cloud, config).tobytes())
    if len(config.lidars) > 1:
        write_bytes(root / sensor_file(name, config.channel, time_us), cloud.sensor.tobytes())
    return {
        "scene": frame.scene,
        "time_us": time_us,
        "points": len(cloud.points_m),
        "pose": _numbers(frame.global_from_ego),
        "intensity": _measured(cloud),
        "rings": cloud.rings is not None,
        "images": [_write_image(root, name, image, content) for image, content in pictures],
    }


def scene_name(config: ConvertConfig, scene: int) -> str:
    """Name of a scene of a log."""
    return f"{config.name}-{scene:04d}"


def cloud_file(scene: str, channel: str, time_us: int) -> str:
    """File of a cloud below the root."""
    return f"samples/{channel}/{scene}__{channel}__{time_us}.pcd.bin"


def image_file(scene: str, channel: str, time_us: int) -> str:
    """File of an image below the root."""
    return f"samples/{channel}/{scene}__{channel}__{time_us}.jpg"


def sensor_file(scene: str, channel: str, time_us: int) -> str:
    """File below the root that says which LiDAR each point is from."""
    return f"sensors/{channel}/{scene}__{channel}__{time_us}.bin"


def measured_range(entries: list[dict[str, Any]]) -> IntensityRange:
    """The range of the intensities of many frames, from what was noted of each."""
    total = IntensityRange()
    for entry in entries:
        part = IntensityRange()
        part.count, part.fractions = entry["count"], entry["fractions"]
        part.min, part.max = entry["min"], entry["max"]
        part.types = set(entry["types"])
        total.merge(part)
    return total


def _write_image(root: Path, scene: str, image: LogImage, content: bytes) -> dict[str, Any]:
    time_us = image.time_ns // 1000
    path = root / image_file(scene, image.channel, time_us)
    if not path.exists():  # two scans may have the same image
        write_bytes(path, content)
    return {
        "channel": image.channel,
        "time_us": time_us,
        "size": list(image.size),
        "pose": _numbers(image.global_from_ego),
    }


def _rows(cloud: Cloud, config: ConvertConfig) -> NDArray[np.float32]:
    """[N, 5] little-endian float32: x, y, z, intensity, ring; zeros for what the LiDARs do not give."""
    rows = np.zeros((len(cloud.points_m), 5), "<f4")
    rows[:, :3] = cloud.points_m
    if cloud.intensity is not None:
        top = np.inf if config.intensity_max is None else config.intensity_max
        rows[:, 3] = np.minimum(_mended(cloud.intensity), top)
    if cloud.rings is not None:
        rows[:, 4] = cloud.rings
    return rows


def _measured(cloud: Cloud) -> dict[str, Any] | None:
    """What is noted of a cloud's intensities; None where it has none."""
    if cloud.intensity is None:
        return None
    found, mended = IntensityRange(), _mended(cloud.intensity)
    found.add_values(mended)
    return {
        "count": found.count,
        "mended": int(np.count_nonzero(mended != cloud.intensity)),
        "fractions": found.fractions,
        "min": found.min,
        "max": found.max,
        "types": list(cloud.intensity_types),
    }


def _mended(intensity: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intensities with zeros for what is negative or no finite number."""
    return np.where(np.isfinite(intensity) & (intensity > 0), intensity, np.float32(0))


def _numbers(pose: NDArray[np.float64] | None) -> list[float] | None:
    """The seven numbers of a pose: quaternion (w, x, y, z), translation in metres."""
    if pose is None:
        return None
    return [*quaternion_from_rotation(pose[:3, :3]).tolist(), *pose[:3, 3].tolist()]
