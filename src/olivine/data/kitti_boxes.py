"""Boxes of KITTI's object benchmark: from its rectified camera frame to the LiDAR's, and back.

Labels and results of the benchmark are in the **rectified camera frame** (x right, y down, z forward, at the left grey
camera); the picture is that of the left colour camera, a few centimetres beside it. Image boxes of results are made
with `KittiCalibration.published_uv`, which divides by the depth from the grey camera as the published detectors do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from olivine.calibration.formats.kitti import KittiCalibration
from olivine.data.kitti_labels import ObjectLabels
from olivine.geometry import Float, transform_points
from olivine.geometry.boxes import UNIT_CORNERS
from olivine.geometry.edges import image_boxes, visible_edges


def boxes_from_objects(objects: ObjectLabels, calibration: KittiCalibration) -> NDArray[np.float64]:
    """Labelled or detected objects as boxes in the LiDAR frame.

    The middle of the bottom is carried over, and half the height added along the LiDAR's z axis; sizes stay, and
    yaw = −(ry + π/2), not wrapped. The frames' axes are thus taken as parallel, which they are within a degree or two.

    Args:
        objects: M objects, each with a box in space (no DontCare areas).
        calibration: of their frame.

    Returns:
        [M, 7] float64 (x, y, z, dx, dy, dz, yaw), metres and radians.
    """
    height, width, length = objects.size_hwl_m.T
    middle_m = transform_points(calibration.lidar_from_rectified, objects.location_m)
    middle_m[:, 2] += height / 2
    yaw_rad = -(objects.rotation_y_rad + np.pi / 2)
    return np.column_stack((middle_m, length, width, height, yaw_rad))


def objects_from_boxes(
    boxes: Float,
    names: Sequence[str],
    scores: Float | None,
    calibration: KittiCalibration,
    size: tuple[int, int],
) -> ObjectLabels:
    """Boxes in the LiDAR frame as objects in KITTI's terms, ready to be written as its result files.

    The reverse of `boxes_from_objects`; ry = −yaw − π/2 and alpha = ry − atan2(−y, x) are not wrapped. The image box
    spans the eight corners by `KittiCalibration.published_uv`, cut to 0…width − 1 and 0…height − 1. Of a box that
    reaches behind the camera only what lies before it counts; one that lies behind it altogether has the image box
    0, 0, 0, 0.

    Args:
        boxes: [M, 7] (x, y, z, dx, dy, dz, yaw), metres and radians.
        names: [M] type of each.
        scores: [M] of detections; None for labels.
        calibration: of the frame.
        size: (width, height) of its image, pixels.

    Returns:
        M objects in the order of the boxes; truncation and occlusion are unknown (−1).
    """
    values = np.asarray(boxes, np.float64).reshape(-1, 7)
    bottom_m = values[:, :3] - values[:, 5:6] * (0, 0, 0.5)
    location_m = transform_points(calibration.rectified_from_lidar, bottom_m)
    size_hwl_m = values[:, [5, 4, 3]]
    rotation_y_rad = -values[:, 6] - np.pi / 2
    corners_m = object_corners(location_m, size_hwl_m, rotation_y_rad)
    return ObjectLabels(
        names=tuple(names),
        truncation=np.full(len(values), -1.0),
        occlusion=np.full(len(values), -1),
        alpha_rad=rotation_y_rad - np.arctan2(-values[:, 1], values[:, 0]),
        image_box=image_boxes(calibration.published_uv(visible_edges(corners_m)), size),
        size_hwl_m=size_hwl_m,
        location_m=location_m,
        rotation_y_rad=rotation_y_rad,
        score=None if scores is None else np.asarray(scores, np.float64),
    )


def object_corners(location_m: Float, size_hwl_m: Float, rotation_y_rad: Float) -> NDArray[np.float64]:
    """Corners of objects in the rectified camera frame.

    Args:
        location_m: [M, 3] middle of the bottom.
        size_hwl_m: [M, 3] height, width, length.
        rotation_y_rad: [M] turn about y; 0 is a heading along x.

    Returns:
        [M, 8, 3] float64, metres, in the order of `olivine.geometry.boxes.UNIT_CORNERS`.
    """
    height, width, length = np.asarray(size_hwl_m, np.float64).T[..., None]
    cos, sin = np.cos(rotation_y_rad)[:, None], np.sin(rotation_y_rad)[:, None]
    along, across, up = UNIT_CORNERS.T / 2
    x, z = along * length, across * width  # y points down: of a heading along x, forward is to the left
    corners_m = np.stack((cos * x + sin * z, -(up + 0.5) * height, cos * z - sin * x), axis=-1)
    return np.asarray(corners_m + np.asarray(location_m, np.float64)[:, None])
