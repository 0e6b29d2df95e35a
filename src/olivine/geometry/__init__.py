"""Transforms between frames, projection, and boxes."""

from olivine.geometry.boxes import corners, enlarged, limit_period, points_in_boxes, turned_boxes
from olivine.geometry.transforms import (
    Float,
    invert,
    project,
    quaternion_from_rotation,
    rigid_transform,
    rotation_from_quaternion,
    transform_points,
)

__all__ = [
    "Float",
    "corners",
    "enlarged",
    "invert",
    "limit_period",
    "points_in_boxes",
    "project",
    "quaternion_from_rotation",
    "rigid_transform",
    "rotation_from_quaternion",
    "transform_points",
    "turned_boxes",
]
