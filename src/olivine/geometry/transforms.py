"""Rigid transforms and pinhole projection: the frame conventions, stated once.

Frames
    lidar    x forward or right as the dataset has it, z up, origin at the sensor
    ego      x forward, y left, z up, origin on the ground at the rear axle
    camera   x right, y down, z forward (the optical axis)
    image    (u, v) = (column, row), float; **pixel centres sit at integers**, so pixel (0, 0) covers [-0.5, 0.5)²

             z (forward)                      (0,0)────▶ u
            ╱                                   │
      camera ───▶ x (right)             image   │
           │                                    ▼
           ▼ y (down)                           v

Transforms are 4×4, float64, named `target_from_source` and read right to left:
`x_camera = camera_from_lidar @ x_lidar`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.floating]


def rotation_from_quaternion(quaternion_wxyz: ArrayLike) -> NDArray[np.float64]:
    """Rotation matrix of a unit quaternion.

    Args:
        quaternion_wxyz: [4] scalar first, as in the nuScenes tables; normalised here.

    Returns:
        [3, 3] float64 rotation matrix.
    """
    w, x, y, z = np.asarray(quaternion_wxyz, dtype=np.float64) / np.linalg.norm(quaternion_wxyz)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_from_rotation(rotation: ArrayLike) -> NDArray[np.float64]:
    """Unit quaternion of a rotation matrix, scalar first with w ≥ 0.

    Args:
        rotation: [3, 3] rotation matrix.

    Returns:
        [4] float64 quaternion (w, x, y, z).
    """
    r = np.asarray(rotation, dtype=np.float64)
    # The eigenvector of this symmetric matrix is the quaternion, stable for every angle (Bar-Itzhack, 2000).
    k = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], 0, 0, 0],
            [r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], 0, 0],
            [r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1], 0],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], r[0, 0] + r[1, 1] + r[2, 2]],
        ]
    )
    x, y, z, w = np.linalg.eigh(k)[1][:, -1]
    sign = -1.0 if w < 0 else 1.0
    return sign * np.array([w, x, y, z])


def rigid_transform(rotation: ArrayLike, translation_m: ArrayLike) -> NDArray[np.float64]:
    """4×4 transform of a rotation matrix [3, 3] or quaternion (w, x, y, z) [4], and a translation [3] in metres."""
    rotation = np.asarray(rotation, dtype=np.float64)
    transform = np.eye(4)
    transform[:3, :3] = rotation_from_quaternion(rotation) if rotation.shape == (4,) else rotation
    transform[:3, 3] = translation_m
    return transform


def invert(target_from_source: Float) -> NDArray[np.float64]:
    """Inverse `source_from_target` of a rigid 4×4 transform, by its transpose (no matrix inversion)."""
    rotation = np.asarray(target_from_source[:3, :3], dtype=np.float64).T
    return rigid_transform(rotation, -rotation @ target_from_source[:3, 3])


def transform_points(target_from_source: Float, points_source_m: Float) -> NDArray[np.float64]:
    """Carry points from one frame to another.

    Args:
        target_from_source: [4, 4] rigid transform.
        points_source_m: [N, 3] points in the source frame, metres.

    Returns:
        [N, 3] float64 points in the target frame, metres.
    """
    transform = np.asarray(target_from_source, dtype=np.float64)
    return np.asarray(np.asarray(points_source_m, dtype=np.float64) @ transform[:3, :3].T + transform[:3, 3])


def project(points_camera_m: Float, intrinsics: Float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pinhole projection of points in the camera frame.

    Args:
        points_camera_m: [N, 3] points in the camera frame, metres.
        intrinsics: [3, 3] camera matrix, pixels.

    Returns:
        `(uv, depth_m)`: [N, 2] pixel coordinates (column, row) and [N] distance along the optical axis. Points at
        or behind the camera (depth ≤ 0) have no pixel: their `uv` is NaN.
    """
    depth_m = points_camera_m[:, 2].astype(np.float64)
    in_front = depth_m > 0
    homogeneous = np.asarray(points_camera_m, dtype=np.float64) @ np.asarray(intrinsics, dtype=np.float64).T
    uv = np.full((len(points_camera_m), 2), np.nan)
    np.divide(homogeneous[:, :2], homogeneous[:, 2:], out=uv, where=in_front[:, None])
    return uv, depth_m
