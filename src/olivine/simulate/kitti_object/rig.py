"""The sensors of the KITTI world: a 64-beam LiDAR and the left colour camera ahead of it, and their calibration file.

The arrangement follows the KITTI vehicle; numbers are those of its public calibration and of the LiDAR's data sheet,
rounded. LiDAR and rectified cameras are level to one another, as KITTI's labels and the usual reading of them take for
granted: boxes that are upright in one frame are so in the other.

Frames: the LiDAR's x points forward, y left, z up; `rect` is the rectified frame of camera 0 (x right, y down, z
forward).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from olivine.geometry import invert, rigid_transform
from olivine.simulate.sensors import Lidar

Float = NDArray[np.float64]

IMAGE = "image_2"
"""The colour camera's folder."""
_COLOUR = "P2"
_NOMINAL_SIZE_PX = (1242, 375)
_FOCAL_PX, _CENTRE_PX = 721.5, (609.6, 172.9)
# Where camera 0 sees the centre of each camera, times −1: the cameras stand in a row, 0 and 1 grey, 2 and 3 in colour.
_CAMERAS_M = {"P0": (0.0, 0.0, 0.0), "P1": (-0.537, 0.0, 0.0), _COLOUR: (0.0598, -0.0004, 0.0027),
              "P3": (-0.4731, 0.0023, 0.0027)}  # fmt: skip
_EGO_FROM_LIDAR_M = (0.76, 0.0, 1.73)
# The camera is 8 cm below the LiDAR and 27 cm ahead of it.
_RECT_FROM_LIDAR = rigid_transform([[0, -1, 0], [0, 0, -1], [1, 0, 0]], (0.0, -0.08, -0.27))
_RECTIFICATION_RAD = (0.0043, -0.0074, -0.0098)
_LIDAR_FROM_IMU = ((0.0007, 0.0148, 0.002), (-0.809, 0.32, -0.8))
# Two blocks of 32 lasers, the upper one finer.
_ELEVATION_DEG = (np.linspace(2.0, -8.33, 32), np.linspace(-8.83, -24.8, 32))


def lidar(columns: int) -> Lidar:
    """The LiDAR with so many firings per turn: ring by ring from the highest, each anticlockwise from its x axis."""
    elevation = np.radians(np.concatenate(_ELEVATION_DEG))
    e, a = np.meshgrid(elevation, np.arange(columns) * 2 * np.pi / columns, indexing="ij")
    directions = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], -1)
    ring = np.repeat(np.arange(len(elevation))[::-1], columns)
    return Lidar(directions.reshape(-1, 3).astype(np.float32), ring, gain=190, exponent=0.6)


def ego_from_lidar() -> Float:
    """[4, 4] pose of the LiDAR on the vehicle."""
    return rigid_transform(np.eye(3), _EGO_FROM_LIDAR_M)


@dataclass(frozen=True)
class Rig:
    """The colour camera for an image of some size, and what the calibration file says of it.

    Attributes:
        size: (width, height) of the image, pixels.
    """

    size: tuple[int, int]

    @cached_property
    def intrinsics(self) -> Float:
        """[3, 3] camera matrix of every camera; pixel centres sit at integers."""
        scale = np.array(self.size) / _NOMINAL_SIZE_PX
        focal = _FOCAL_PX * scale[0]
        u, v = (np.array(_CENTRE_PX) + 0.5) * scale - 0.5
        return np.array([[focal, 0, u], [0, focal, v], [0, 0, 1.0]])

    @cached_property
    def projection(self) -> Float:
        """[3, 4] from the rectified frame to the colour image."""
        return self._projections()[_COLOUR]

    @property
    def rect_from_lidar(self) -> Float:
        """[4, 4] from the LiDAR to the rectified frame."""
        return _RECT_FROM_LIDAR

    @property
    def lidar_from_camera(self) -> Float:
        """[4, 4] pose of the colour camera, whose axes are those of the rectified frame."""
        return invert(_RECT_FROM_LIDAR) @ rigid_transform(np.eye(3), -np.array(_CAMERAS_M[_COLOUR]))

    def calibration(self) -> str:
        """The text of the calibration file; R0_rect · Tr_velo_to_cam is `rect_from_lidar`."""
        rectification = _rotation(_RECTIFICATION_RAD)
        unrectified = rigid_transform(rectification.T, np.zeros(3)) @ _RECT_FROM_LIDAR
        imu = rigid_transform(_rotation(_LIDAR_FROM_IMU[0]), _LIDAR_FROM_IMU[1])
        matrices = {
            **self._projections(),
            "R0_rect": rectification,
            "Tr_velo_to_cam": unrectified[:3],
            "Tr_imu_to_velo": imu[:3],
        }
        rows = ((name, " ".join(f"{value:.12e}" for value in matrix.ravel())) for name, matrix in matrices.items())
        return "".join(f"{name}: {row}\n" for name, row in rows)

    def _projections(self) -> dict[str, Float]:
        return {name: self.intrinsics @ np.column_stack([np.eye(3), shift_m]) for name, shift_m in _CAMERAS_M.items()}


def tilt(pitch_rad: float, roll_rad: float) -> Float:
    """[4, 4] small turn of the vehicle about its y and x axes."""
    return rigid_transform(_rotation((roll_rad, pitch_rad, 0.0)), np.zeros(3))


def _rotation(angles_rad: tuple[float, float, float]) -> Float:
    """[3, 3] rotation about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles_rad), np.sin(angles_rad)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)
