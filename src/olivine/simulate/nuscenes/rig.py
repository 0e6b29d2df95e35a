"""The sensors of the nuScenes world: where they sit on the vehicle and when they fire.

The arrangement follows the nuScenes vehicle: a 32-beam LiDAR on the roof and six cameras, the rear one with a wider
lens. Numbers are those of its public calibration, rounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olivine.geometry import rigid_transform
from olivine.simulate.drive import turn_about_z
from olivine.simulate.sensors import Lidar

LIDAR = "LIDAR_TOP"
KEYFRAME_S = 0.5
BEAMS = 32
_BEAM_ELEVATION_DEG = (-30.67, 10.67)
_NOMINAL_WIDTH_PX = 1600
# A camera that looks along +x of the ego frame: its x is ego −y, its y is ego −z.
_EGO_FROM_FORWARD_CAMERA = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True)
class CameraMount:
    """A camera on the vehicle.

    Attributes:
        name: channel.
        position_m: [3] in the ego frame.
        yaw_deg: direction of view, anticlockwise from straight ahead.
        focal_px: focal length for an image 1600 pixels wide.
        delay_us: exposure relative to the LiDAR, microseconds.
    """

    name: str
    position_m: tuple[float, float, float]
    yaw_deg: float
    focal_px: float
    delay_us: int

    def ego_from_camera(self) -> NDArray[np.float64]:
        """[4, 4] pose of the camera on the vehicle."""
        return rigid_transform(turn_about_z(np.radians(self.yaw_deg)) @ _EGO_FROM_FORWARD_CAMERA, self.position_m)

    def intrinsics(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """[3, 3] camera matrix for an image of (width, height); the principal point sits a little low, as it does."""
        width, height = size
        focal = self.focal_px * width / _NOMINAL_WIDTH_PX
        return np.array([[focal, 0, 0.508 * width], [0, focal, 0.545 * height], [0, 0, 1.0]])


CAMERAS = (
    CameraMount("CAM_FRONT", (1.70, 0.02, 1.51), 0.0, 1266.0, -35_500),
    CameraMount("CAM_FRONT_RIGHT", (1.55, -0.49, 1.50), -56.5, 1261.0, -27_600),
    CameraMount("CAM_BACK_RIGHT", (1.01, -0.48, 1.56), -111.0, 1259.0, -20_100),
    CameraMount("CAM_BACK", (0.03, 0.0, 1.58), 180.0, 809.0, -10_400),
    CameraMount("CAM_BACK_LEFT", (1.04, 0.48, 1.59), 108.5, 1257.0, -500),
    CameraMount("CAM_FRONT_LEFT", (1.52, 0.49, 1.51), 55.0, 1272.0, -43_100),
)
"""The six cameras, in the order they fire after one another around the vehicle."""


def ego_from_lidar() -> NDArray[np.float64]:
    """[4, 4] pose of the LiDAR on the vehicle; its x points right, its y forward."""
    return rigid_transform(turn_about_z(-np.pi / 2), (0.94, 0.0, 1.84))


def lidar(columns: int) -> Lidar:
    """The LiDAR with so many firings per turn."""
    return Lidar(lidar_directions(columns), np.tile(np.arange(BEAMS), columns), gain=170, exponent=1.2)


def lidar_directions(columns: int) -> NDArray[np.float32]:
    """Unit directions of one turn in the LiDAR frame, [columns · 32, 3], column by column, lowest beam first."""
    # The turn runs clockwise and starts behind the vehicle.
    azimuth = -np.pi / 2 - np.arange(columns) * 2 * np.pi / columns
    elevation = np.radians(np.linspace(*_BEAM_ELEVATION_DEG, BEAMS))
    a, e = np.meshgrid(azimuth, elevation, indexing="ij")
    return np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], -1).reshape(-1, 3).astype(np.float32)
