"""Boxes of objects: (x, y, z, dx, dy, dz, yaw), the centre and sides in metres, dx along the heading.

The yaw turns counter-clockwise from +x, seen from above, in radians.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from olivine.geometry.transforms import Float

UNIT_CORNERS = np.array(
    [(1, 1, -1), (1, -1, -1), (-1, -1, -1), (-1, 1, -1), (1, 1, 1), (1, -1, 1), (-1, -1, 1), (-1, 1, 1)]
)
"""[8, 3] corners of a box, in half sides: front left, front right, rear right, rear left below, then the same above."""


def corners(boxes: Float) -> NDArray[np.float64]:
    """Corners of boxes.

    Args:
        boxes: [M, 7] (x, y, z, dx, dy, dz, yaw), metres and radians, dx along the heading.

    Returns:
        [M, 8, 3] float64 in the frame of the boxes, in the order of `UNIT_CORNERS`.
    """
    values = np.asarray(boxes, np.float64).reshape(-1, 7)
    along, across, up = np.moveaxis(UNIT_CORNERS / 2 * values[:, None, 3:6], -1, 0)
    cos, sin = np.cos(values[:, 6:]), np.sin(values[:, 6:])
    shifted = np.stack((cos * along - sin * across, sin * along + cos * across, up), axis=-1)
    return np.asarray(shifted + values[:, None, :3])


def turned_boxes(matrix: Float, boxes: Float) -> NDArray[np.float64]:
    """Boxes in a frame that a cloud's augmentation made: rotated about z, mirrored at x or y, scaled alike on all axes.

    Args:
        matrix: [3, 3] linear map of the points, of that kind.
        boxes: [M, 7] (x, y, z, dx, dy, dz, yaw), metres and radians, dx along the heading.

    Returns:
        [M, 7] float64; yaw in -π…π.
    """
    linear, before = np.asarray(matrix, np.float64), np.asarray(boxes, np.float64).reshape(-1, 7)
    scale = abs(np.linalg.det(linear)) ** (1 / 3)
    heading = np.stack([np.cos(before[:, 6]), np.sin(before[:, 6]), np.zeros(len(before))], axis=1) @ linear.T
    yaw_rad = np.arctan2(heading[:, 1], heading[:, 0])
    return np.concatenate([before[:, :3] @ linear.T, before[:, 3:6] * scale, yaw_rad[:, None]], axis=1)


def points_in_boxes(points_m: Float, boxes: Float) -> NDArray[np.bool_]:
    """Which points lie in which boxes.

    Args:
        points_m: [N, 3] points, metres.
        boxes: [M, 7] (x, y, z, dx, dy, dz, yaw) in the same frame.

    Returns:
        [M, N] bool; points on a face lie inside.
    """
    points, all_boxes = np.asarray(points_m, np.float64), np.asarray(boxes, np.float64).reshape(-1, 7)
    inside = np.zeros((len(all_boxes), len(points)), np.bool_)
    for row, (x, y, z, dx, dy, dz, yaw) in enumerate(all_boxes):
        shifted = points - (x, y, z)
        along = shifted[:, 0] * np.cos(yaw) + shifted[:, 1] * np.sin(yaw)
        across = shifted[:, 1] * np.cos(yaw) - shifted[:, 0] * np.sin(yaw)
        inside[row] = (np.abs(along) <= dx / 2) & (np.abs(across) <= dy / 2) & (np.abs(shifted[:, 2]) <= dz / 2)
    return inside
