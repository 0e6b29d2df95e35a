"""KITTI's calibrations: of the object benchmark, of odometry and SemanticKITTI, and of a day of raw recordings.

A pixel of the rectified camera n is P_n · R_rect · Tr · point, with P_n = K [I | t]: t is where camera 0 stands seen
from camera n (Geiger et al., CVPR 2012). Odometry's `Tr` has the rectification in it.

Of the object benchmark two projections are at hand. `KittiCalibration.intrinsics` and `camera_from_lidar` are the
pinhole camera that gives this pixel exactly; pairs of points and pixels use them. `KittiCalibration.published_uv`
divides by the depth from the grey camera, which leaves out the 2.7 mm between the lenses along the axis, as the
published detectors do where they crop the cloud to the image and where they write the image boxes of their results: up
to half a pixel at 5 m.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from olivine.calibration.lens import CameraModel, camera_model
from olivine.calibration.rig import Calibration, CameraCalibration
from olivine.calibration.rigid import ROTATION_TOLERANCE, checked_rotation, checked_transform, is_rotation
from olivine.calibration.rows import matrix_row, read_calibration_rows
from olivine.errors import UserError
from olivine.geometry import Float, rigid_transform, transform_points

CAM_TO_CAM = "calib_cam_to_cam.txt"
VELO_TO_CAM = "calib_velo_to_cam.txt"

_HINT = "use the calibration that comes with KITTI's object benchmark, in calib/"
_RAW_HINT = "use the calibration files that come with KITTI's raw recordings, one set for each day"
_MOUNTS = ("Tr_velo_to_cam", "Tr_velo_cam")
_CAMERAS = 4


@dataclass(frozen=True, eq=False)
class KittiCalibration:
    """What `calib/<frame>.txt` of the object benchmark says of the LiDAR and the left colour camera.

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
        mount = matrix_row(rows, _MOUNTS, 4, path, _HINT)
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
        return camera_from_first(self.image_from_rectified) @ self.rectified_from_lidar

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


def camera_from_first(projection: Float) -> NDArray[np.float64]:
    """[4, 4] from camera 0's rectified frame into the frame of the camera of a projection [3, 4] K [I | t]."""
    return rigid_transform(np.eye(3), np.linalg.solve(projection[:, :3], projection[:, 3]))


def read_kitti(path: Path) -> Calibration:
    """Read calib.txt of the object benchmark, of odometry or of SemanticKITTI, with every camera that has a row.

    Returns:
        Cameras `image_0` … `image_3`, rectified, of unknown size.

    Raises:
        UserError: missing, without the row from LiDAR to camera, or a row that is damaged or no rotation.
    """
    rows = read_calibration_rows(path)
    odometry = "Tr" in rows
    mount = matrix_row(rows, ("Tr", *_MOUNTS), 4, path, _HINT)
    first_from_lidar = checked_transform(mount, f"{path}: row {'Tr' if odometry else _MOUNTS[0]!r}")
    if not odometry:
        turn = checked_rotation(matrix_row(rows, ("R0_rect", "R_rect"), 3, path, _HINT), f"{path}: row 'R0_rect'")
        first_from_lidar = rigid_transform(turn, (0, 0, 0)) @ first_from_lidar
    cameras = {
        f"image_{n}": _rectified(rows, f"P{n}", path, None, first_from_lidar)
        for n in range(_CAMERAS)
        if rows.get(f"P{n}", "").split()
    }
    if not cameras:
        raise UserError(f"{path}: no row 'P0' … 'P3'; {_HINT}")
    kind = "odometry" if odometry else "object benchmark"
    return Calibration(
        f"KITTI calib.txt ({kind})", str(path), cameras, notes=("KITTI's images are rectified already.",)
    )


def read_kitti_raw(folder: Path) -> Calibration:
    """Read the calibration of a day of KITTI's raw recordings, for the rectified images ("sync").

    Args:
        folder: holds `calib_cam_to_cam.txt` and `calib_velo_to_cam.txt`.

    Returns:
        Cameras `image_00` … `image_03`.

    Raises:
        UserError: a file is missing, or a row is missing, damaged or no rotation.
    """
    path = folder / CAM_TO_CAM
    rows = read_calibration_rows(path)
    turn = checked_rotation(matrix_row(rows, ("R_rect_00",), 3, path, _RAW_HINT), f"{path}: row 'R_rect_00'")
    first_from_lidar = rigid_transform(turn, (0, 0, 0)) @ read_raw_transform(folder / VELO_TO_CAM)
    cameras = {
        f"image_{n:02d}": _rectified(rows, f"P_rect_{n:02d}", path, _size(rows, f"S_rect_{n:02d}"), first_from_lidar)
        for n in range(_CAMERAS)
        if f"P_rect_{n:02d}" in rows
    }
    if not cameras:
        raise UserError(f"{path}: no row 'P_rect_00' … 'P_rect_03'; {_RAW_HINT}")
    note = 'Taken for the rectified images ("sync"); those of "extract" are distorted.'
    return Calibration("KITTI raw calibration", str(folder), cameras, notes=(note,))


def read_raw_transform(path: Path) -> NDArray[np.float64]:
    """The [4, 4] transform of the rows `R` and `T` of a file of the raw recordings, such as calib_imu_to_velo.txt.

    Raises:
        UserError: missing, or a row is missing, damaged or no rotation.
    """
    rows = read_calibration_rows(path)
    turn = matrix_row(rows, ("R",), 3, path, _RAW_HINT)
    try:
        offset = np.array(rows.get("T", "").split(), np.float64).reshape(3, 1)
    except ValueError as error:
        raise UserError(f"{path}: row 'T' must be three numbers; {_RAW_HINT}") from error
    return checked_transform(np.hstack((turn, offset)), f"{path}: rows 'R' and 'T'")


def _rectified(
    rows: dict[str, str], key: str, path: Path, size: tuple[int, int] | None, first_from_lidar: NDArray[np.float64]
) -> CameraCalibration:
    """The rectified camera of a row of its projection."""
    projection = matrix_row(rows, (key,), 4, path, _HINT)
    model: CameraModel = camera_model(size, projection[:, :3], source=f"{path}: row {key!r}")
    return CameraCalibration(model, camera_from_first(projection) @ first_from_lidar)


def _size(rows: dict[str, str], key: str) -> tuple[int, int] | None:
    """Width and height of a row `S_rect`, written as floats."""
    try:
        width, height = (round(float(word)) for word in rows.get(key, "").split())
    except (ValueError, OverflowError):
        return None
    return width, height
