"""Images that stand in the scene before their cameras, and which pixel of one a click means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olivine.data.frame import Camera
from olivine.geometry import invert, project, quaternion_from_rotation, transform_points

DEPTH_M = 4.0
"""Images stand this far before their cameras."""


@dataclass(frozen=True)
class Plane:
    """Where an image stands.

    Attributes:
        center_m: [3] of the image, metres in the LiDAR frame.
        wxyz: [4] quaternion that turns its axes, x right and y down, into the LiDAR frame.
        size_m: (width, height), metres.
    """

    center_m: NDArray[np.float64]
    wxyz: NDArray[np.float64]
    size_m: tuple[float, float]


def plane(camera: Camera, depth_m: float = DEPTH_M) -> Plane:
    """Where a camera's image stands, so that from the camera's own place it covers just what it shows."""
    lidar_from_camera = invert(camera.camera_from_lidar)
    width, height = camera.size
    middle = np.linalg.solve(camera.intrinsics, np.array([(width - 1) / 2, (height - 1) / 2, 1.0])) * depth_m
    size_m = (depth_m * width / camera.intrinsics[0, 0], depth_m * height / camera.intrinsics[1, 1])
    center_m = transform_points(lidar_from_camera, middle[None])[0]
    return Plane(center_m, quaternion_from_rotation(lidar_from_camera[:3, :3]), size_m)


def frustum(camera: Camera, depth_m: float = DEPTH_M) -> NDArray[np.float64]:
    """What a camera sees, as lines up to where its image stands.

    Returns:
        [8, 2, 3] both ends of the edges: from the camera's place to the corners of its image, and about the image,
        its top last; metres in the LiDAR frame.
    """
    width, height = camera.size
    pixels = np.array([(-0.5, -0.5), (width - 0.5, -0.5), (width - 0.5, height - 0.5), (-0.5, height - 0.5)])
    rays = np.linalg.solve(camera.intrinsics, np.concatenate((pixels, np.ones((4, 1))), axis=1).T).T
    lidar_from_camera = invert(camera.camera_from_lidar)
    ends_m = transform_points(lidar_from_camera, np.concatenate((rays * depth_m, np.zeros((1, 3)))))
    return ends_m[[(4, 0), (4, 1), (4, 2), (4, 3), (1, 2), (2, 3), (3, 0), (0, 1)]]


def pixel_at(
    camera: Camera, origin_m: NDArray[np.floating], direction: NDArray[np.floating], depth_m: float = DEPTH_M
) -> tuple[float, float] | None:
    """The pixel (column, row) of a standing image that a ray meets.

    Args:
        camera: whose image it is.
        origin_m: [3] where the ray begins, metres in the LiDAR frame.
        direction: [3] where it goes, of any length.
        depth_m: how far the image stands before the camera.

    Returns:
        The pixel, or None where the ray passes beside the image or away from it.
    """
    met = meets(camera, origin_m, direction, depth_m)
    return None if met is None else met[0]


def meets(
    camera: Camera, origin_m: NDArray[np.floating], direction: NDArray[np.floating], depth_m: float = DEPTH_M
) -> tuple[tuple[float, float], float] | None:
    """Where a ray meets a standing image: the pixel as of `pixel_at`, and how far away, metres; or None."""
    ends_m = np.stack((np.asarray(origin_m, np.float64), np.asarray(origin_m, np.float64) + direction))
    start_m, end_m = transform_points(camera.camera_from_lidar, ends_m)
    along = end_m - start_m
    if abs(along[2]) < 1e-9 or (share := (depth_m - start_m[2]) / along[2]) <= 0:
        return None
    uv, _ = project((start_m + share * along)[None], camera.intrinsics)
    column, row = float(uv[0, 0]), float(uv[0, 1])
    width, height = camera.size
    inside = -0.5 <= column < width - 0.5 and -0.5 <= row < height - 0.5
    return ((column, row), float(share * np.linalg.norm(along))) if inside else None
