"""Our calibration file: one documented YAML, which `olivine convert` and the dataset `folder` read.

    cameras:
      CAM_FRONT:
        size: [1920, 1200]                         # width, height of the images, pixels
        intrinsics: [2152.8, 2155.5, 971.3, 605.9] # fx, fy, cx, cy; or the 3×3 matrix
        distortion: {model: plumb_bob, coefficients: [-0.1192, 0.162, 0.00074, 0.0014, 0]}
        camera_from_lidar:                         # or its 4×4 matrix; or lidar_from_camera, the camera's pose
          translation: [-0.0323, -0.3967, -0.0869] # metres
          rotation_wxyz: [0.5074, 0.4926, -0.4925, 0.5073]
    lidars:                                        # only where there are several
      LIDAR_TOP: {lidar_from_sensor: {translation: [0, 0, 0], rotation_wxyz: [1, 0, 0, 0]}}

A quaternion without its order named, `rotation_wxyz` or `rotation_xyzw`, is refused: read in the other order it is
another rotation, and nothing in it tells.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field, model_validator

from olivine.calibration.lens import CameraModel, camera_model
from olivine.calibration.rig import Calibration, CameraCalibration
from olivine.calibration.rigid import checked_transform, checked_translation
from olivine.config import Config, validate
from olivine.errors import UserError
from olivine.geometry import invert, quaternion_from_rotation, rigid_transform

FORM = "olivine's calibration YAML"

_ORDERLESS = ("rotation", "quaternion", "q", "rotation_quaternion", "orientation")


class PlacementConfig(Config):
    """A rigid transform: its 4×4 matrix, or a translation and a quaternion whose order is named."""

    matrix: list[list[float]] | None = None
    """The 4×4 (or 3×4) matrix, rows in brackets; may also stand in place of this mapping."""

    translation: tuple[float, float, float] | None = None
    """Metres."""

    rotation_wxyz: tuple[float, float, float, float] | None = None
    """Quaternion, w first."""

    rotation_xyzw: tuple[float, float, float, float] | None = None
    """Quaternion, w last."""

    @model_validator(mode="before")
    @classmethod
    def _matrix_alone(cls, given: Any) -> Any:
        if isinstance(given, dict):
            for key in _ORDERLESS:
                if key in given:
                    raise ValueError(
                        f"the key {key!r} leaves the order of a quaternion open; call it rotation_wxyz or rotation_xyzw"
                    )
            return given
        return {"matrix": given}

    @model_validator(mode="after")
    def _one_form(self) -> PlacementConfig:
        quaternions = sum(value is not None for value in (self.rotation_wxyz, self.rotation_xyzw))
        whole = self.translation is not None and quaternions == 1
        if (self.matrix is not None) == whole or (self.matrix is not None and (self.translation or quaternions)):
            raise ValueError("give a 4×4 matrix, or translation and one of rotation_wxyz and rotation_xyzw")
        return self

    def transform(self, source: str) -> NDArray[np.float64]:
        """The [4, 4] transform, metres; raises `UserError` naming `source` where it is no rigid one."""
        if self.matrix is not None:
            ragged = len({len(row) for row in self.matrix}) > 1
            return checked_transform([] if ragged else self.matrix, source)
        quaternion = self.rotation_wxyz or np.roll(np.array(self.rotation_xyzw), 1)
        return transform_of(self.translation, quaternion, source)


class DistortionConfig(Config):
    """How the lens bends; see `olivine.calibration.lens`."""

    model: str = "none"
    """none, plumb_bob (radtan), rational_polynomial or equidistant (fisheye)."""

    coefficients: tuple[float, ...] = ()
    """Of the model, in OpenCV's order."""


class CameraConfig(Config):
    """One camera of a calibration file."""

    size: tuple[int, int] | None = None
    """Width and height of its images, pixels; may be left out where the images have one size."""

    intrinsics: list[float] | list[list[float]]
    """fx, fy, cx, cy in pixels, or the 3×3 matrix."""

    distortion: DistortionConfig = DistortionConfig()
    """Of the images as they are; none where they are rectified."""

    camera_from_lidar: PlacementConfig | None = None
    """Where points of the LiDAR frame lie in the camera's (x right, y down, z forward)."""

    lidar_from_camera: PlacementConfig | None = None
    """The other way round, the camera's pose in the LiDAR frame; one of the two."""

    upright: bool = True
    """The picture's up is roughly the LiDAR's z. Say false for a camera that is mounted turned."""

    def calibration(self, source: str) -> CameraCalibration:
        """The checked camera; raises `UserError` naming `source`."""
        matrix: Any = self.intrinsics
        if any(isinstance(row, list) for row in matrix) and {len(row) for row in matrix} != {3}:
            matrix = []
        model = camera_model(
            self.size, matrix, self.distortion.model, self.distortion.coefficients, source=f"{source}.intrinsics"
        )
        if (self.camera_from_lidar is None) == (self.lidar_from_camera is None):
            raise UserError(f"{source}: give one of camera_from_lidar and lidar_from_camera")
        if self.camera_from_lidar is not None:
            transform = self.camera_from_lidar.transform(f"{source}.camera_from_lidar")
        else:
            assert self.lidar_from_camera is not None
            transform = invert(self.lidar_from_camera.transform(f"{source}.lidar_from_camera"))
        return CameraCalibration(model, transform, self.upright)


class LidarConfig(Config):
    """One LiDAR of several."""

    lidar_from_sensor: PlacementConfig
    """Its pose in the common LiDAR frame, in which `camera_from_lidar` is."""


class CalibrationFile(Config):
    """The whole of a calibration file. The dataset `folder` adds keys of its own under `folder`."""

    cameras: dict[str, CameraConfig] = Field(min_length=1)
    """By name, which is the channel of the dataset."""

    lidars: dict[str, LidarConfig] = Field(default_factory=dict)
    """By name, where there are several."""

    folder: dict[str, Any] | None = None
    """What the dataset `folder` reads beside the calibration: where scans and images lie."""

    def calibration(self, source: str) -> Calibration:
        """The checked calibration.

        Args:
            source: the file, named in errors.

        Raises:
            UserError: a camera matrix, distortion or transform that is none.
        """
        cameras = {name: entry.calibration(f"{source}: cameras.{name}") for name, entry in self.cameras.items()}
        lidars = {
            name: entry.lidar_from_sensor.transform(f"{source}: lidars.{name}.lidar_from_sensor")
            for name, entry in self.lidars.items()
        }
        return Calibration(FORM, source, cameras, lidars)


def calibration_of_tree(tree: Any, path: Path) -> Calibration:
    """The calibration in the plain tree of a file in our form; raises `UserError` as of `CalibrationFile`."""
    return validate(CalibrationFile, tree, str(path)).calibration(str(path))


def transform_of(translation_m: Any, quaternion_wxyz: Any, source: str) -> NDArray[np.float64]:
    """A rigid transform of a translation and a quaternion as a file gives them.

    Args:
        translation_m: [3] metres.
        quaternion_wxyz: [4] scalar first.
        source: file and key, named in errors.

    Returns:
        [4, 4] float64.

    Raises:
        UserError: not three and four finite numbers, a quaternion not of length 1, or too long a translation.
    """
    quaternion = np.asarray(quaternion_wxyz, np.float64)
    length = float(np.linalg.norm(quaternion)) if quaternion.shape == (4,) else 0.0
    if not abs(length - 1) < 1e-2:
        raise UserError(
            f"{source}: a rotation is a quaternion of four numbers and length 1, this one's is {length:.4g}"
        )
    return rigid_transform(quaternion, checked_translation(translation_m, source))


def calibration_text(calibration: Calibration) -> str:
    """A calibration as the text of our file, which `read_calibration` reads back to all digits."""
    tree: dict[str, Any] = {"cameras": {name: _camera_tree(camera) for name, camera in calibration.cameras.items()}}
    if calibration.lidars:
        tree["lidars"] = {name: {"lidar_from_sensor": _placement(pose)} for name, pose in calibration.lidars.items()}
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Numbers of one row on one line; no anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (of the library)
        return True


_Dumper.add_representer(
    list, lambda dumper, rows: dumper.represent_sequence("tag:yaml.org,2002:seq", rows, flow_style=True)
)


def _camera_tree(camera: CameraCalibration) -> dict[str, Any]:
    tree: dict[str, Any] = {} if camera.model.size is None else {"size": list(camera.model.size)}
    tree |= {"intrinsics": _intrinsics(camera.model)}
    if camera.model.distortion != "none":
        tree["distortion"] = {"model": camera.model.distortion, "coefficients": list(camera.model.coefficients)}
    tree["camera_from_lidar"] = _placement(camera.camera_from_lidar)
    return tree if camera.upright else tree | {"upright": False}


def _intrinsics(model: CameraModel) -> list[Any]:
    matrix = model.intrinsics
    if matrix[0, 1]:
        return list(matrix.tolist())
    return [float(value) for value in (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2])]


def _placement(transform: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "translation": transform[:3, 3].tolist(),
        "rotation_wxyz": quaternion_from_rotation(transform[:3, :3]).tolist(),
    }
