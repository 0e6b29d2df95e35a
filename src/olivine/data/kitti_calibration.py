"""The calibration of a frame of KITTI's object benchmark: points on the image, and boxes between LiDAR and camera.

Labels and results of the benchmark are in the **rectified camera frame** (x right, y down, z forward, at the left grey
camera); the picture is that of the left colour camera, a few centimetres beside it:

    pixel ~ P2 · R0_rect · Tr_velo_to_cam · point        (Geiger et al., CVPR 2012, and the benchmark's development kit)

Two projections are at hand. `KittiCalibration.intrinsics` and `camera_from_lidar` are the pinhole camera that gives
this pixel exactly; pairs of points and pixels use them. `KittiCalibration.published_uv` divides by the depth from the
grey camera, which leaves out the 2.7 mm between the lenses along the axis, as the published detectors do where they
crop the cloud to the image and where they write the image boxes of their results: up to half a pixel at 5 m.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from olivine.data.calibration_rows import matrix_row, read_calibration_rows
from olivine.data.kitti_labels import ObjectLabels
from olivine.errors import UserError
from olivine.geometry import Float, rigid_transform, transform_points
from olivine.geometry.boxes import UNIT_CORNERS
from olivine.geometry.edges import image_boxes, visible_edges

ROTATION_TOLERANCE = 1e-3
"""How far RᵀR of a rotation in a file may be from the identity; calibration files carry at least five digits."""

_HINT = "use the calibration that comes with KITTI's object benchmark, in calib/"


@dataclass(frozen=True, eq=False)
class KittiCalibration:
    """What `calib/<frame>.txt` says of the LiDAR and the left colour camera.

    Attributes:
        image_from_rectified: [3, 4] float64, `P2`: rectified camera frame (metres) → homogeneous pixels; its last row
            begins with 0, 0, 1.
        rectified_from_lidar: [4, 4] float64, `R0_rect` · `Tr_velo_to_cam`. A rotation to the digits of the file only,
            so that its inverse is taken as that of a matrix.
    """

    image_from_rectified: NDArray[np.float64]
    rectified_from_lidar: NDArray[np.float64]

    @staticmethod
    def read(path: Path) -> KittiCalibration:
        """Read a calibration file; rows other than the three are left alone.

        Raises:
            UserError: missing, no regular file, without the row `P2`, `R0_rect` (or `R_rect`) or `Tr_velo_to_cam` (or
                `Tr_velo_cam`), or one of them has another number of numbers, is not finite, not a projection or no
                rotation.
        """
        rows = read_calibration_rows(path)
        projection = matrix_row(rows, ("P2",), 4, path, _HINT)
        if np.abs(projection[2, :3] - (0, 0, 1)).max() > ROTATION_TOLERANCE:
            raise UserError(f"{path}: row 'P2' is no projection of a rectified camera, its last row must begin 0 0 1")
        rectification = matrix_row(rows, ("R0_rect", "R_rect"), 3, path, _HINT)
        mount = matrix_row(rows, ("Tr_velo_to_cam", "Tr_velo_cam"), 4, path, _HINT)
        for name, rotation in (("R0_rect", rectification), ("Tr_velo_to_cam", mount[:, :3])):
            if not is_rotation(rotation):
                raise UserError(f"{path}: row {name!r} holds no rotation; {_HINT}")
        return KittiCalibration(
            projection,
            rigid_transform(rectification, (0, 0, 0)) @ rigid_transform(mount[:, :3], mount[:, 3]),
        )

    @property
    def lidar_from_rectified(self) -> NDArray[np.float64]:
        """[4, 4] float64 inverse of `rectified_from_lidar`, to all digits."""
        return np.asarray(np.linalg.inv(self.rectified_from_lidar), np.float64)

    @property
    def image_from_lidar(self) -> NDArray[np.float64]:
        """[3, 4] float64, LiDAR frame (metres) → homogeneous pixels."""
        return self.image_from_rectified @ self.rectified_from_lidar

    @property
    def intrinsics(self) -> NDArray[np.float64]:
        """[3, 3] float64 camera matrix of the left colour camera, pixels."""
        return self.image_from_rectified[:, :3]

    @property
    def camera_from_lidar(self) -> NDArray[np.float64]:
        """[4, 4] float64 into the left colour camera's own frame, its offset from the grey one included."""
        offset_m = np.linalg.solve(self.intrinsics, self.image_from_rectified[:, 3])
        return rigid_transform(np.eye(3), offset_m) @ self.rectified_from_lidar

    def published_uv(self, points_rectified_m: Float) -> NDArray[np.float64]:
        """Pixels as the published detectors compute them: divided by the depth from the grey camera.

        Args:
            points_rectified_m: [..., 3] points in the rectified camera frame, metres.

        Returns:
            [..., 2] float64 (column, row); without meaning where the depth is not positive.
        """
        points = np.asarray(points_rectified_m, np.float64)
        pixels = points @ self.image_from_rectified[:2, :3].T + self.image_from_rectified[:2, 3]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(pixels / points[..., 2:])

    def in_view(self, points_lidar_m: Float, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Which points fall on the image: 0 ≤ u < width, 0 ≤ v < height, depth ≥ 0, by `published_uv`.

        Args:
            points_lidar_m: [N, 3] points, metres.
            size: (width, height) of the image, pixels.

        Returns:
            [N] bool.
        """
        points_m = transform_points(self.rectified_from_lidar, points_lidar_m)
        u, v = self.published_uv(points_m).T
        with np.errstate(invalid="ignore"):
            return np.asarray((u >= 0) & (u < size[0]) & (v >= 0) & (v < size[1]) & (points_m[:, 2] >= 0))


def is_rotation(matrix: Float) -> bool:
    """Whether a [3, 3] matrix is a rotation, within `ROTATION_TOLERANCE`."""
    finite = bool(np.isfinite(matrix).all())
    orthonormal = np.abs(matrix.T @ matrix - np.eye(3)).max() < ROTATION_TOLERANCE
    return bool(finite and orthonormal and np.linalg.det(matrix) > 0)


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
