"""Which sensors of the tables are read, and in which order: one LiDAR, and every camera.

The official vehicle has `LIDAR_TOP` and six cameras. Other people's tables name theirs as they like (`LIDAR_FRONT`,
`CAMERA_0`); the table of sensors says which they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from olivine.data.mask_names import check_camera_names
from olivine.data.nuscenes_tables import Sensor
from olivine.errors import UserError

LIDAR = "LIDAR_TOP"
"""The LiDAR that is read where there are several and none is chosen."""

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
"""The official cameras, which come first, in this order."""

_KINDS = ("camera", "lidar", "radar")


def channels_of(sensors: Sequence[Sensor], lidar: str | None, tables: Path) -> tuple[str, ...]:
    """The channels that are read.

    Args:
        sensors: the table of sensors.
        lidar: the LiDAR that was chosen; None is `LIDAR_TOP`, or the only one.
        tables: the version folder, for messages.

    Returns:
        The LiDAR, then the cameras: the official ones in their order, then others by name.

    Raises:
        UserError: there is no such LiDAR, there are several and none is chosen, or a camera has a name of no folder.
    """
    lidars = sorted({sensor.channel for sensor in sensors if _kind(sensor) == "lidar"})
    cameras = {sensor.channel for sensor in sensors if _kind(sensor) == "camera"}
    check_camera_names(sorted(cameras), str(tables / "sensor.json"))
    official = [name for name in CAMERAS if name in cameras]
    return (_chosen(lidars, lidar, tables / "sensor.json"), *official, *sorted(cameras.difference(CAMERAS)))


def _chosen(lidars: list[str], lidar: str | None, path: Path) -> str:
    """The one LiDAR that is read."""
    there = f"the table has {', '.join(lidars)}" if lidars else "the table has no LiDAR"
    if lidar is not None:
        if lidar not in lidars:
            raise UserError(f"{path}: no LiDAR of channel {lidar!r}; {there}")
        return lidar
    if LIDAR in lidars:
        return LIDAR
    if len(lidars) != 1:
        wanted = "; choose one with data.lidar=..." if lidars else "; its modality is to be lidar"
        raise UserError(f"{path}: no LiDAR of channel {LIDAR!r}, and {there}{wanted}")
    return lidars[0]


def _kind(sensor: Sensor) -> str:
    """`camera`, `lidar` or `radar`, by what the table says, else by the channel's name."""
    if sensor.modality.lower() in _KINDS:
        return sensor.modality.lower()
    return next((kind for kind in _KINDS if kind[:3].upper() in sensor.channel.upper().split("_")[0]), "")
