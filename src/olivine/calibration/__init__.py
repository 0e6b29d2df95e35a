"""How sensors stand to each other and move: lenses, frames, poses over time, and the files that people keep them in."""

from olivine.calibration.file import CalibrationFile, CameraConfig, PlacementConfig, calibration_text
from olivine.calibration.judge import require_plausible
from olivine.calibration.lens import CameraModel, camera_model, distorted, wrong_size
from olivine.calibration.odometry import estimate_trajectory
from olivine.calibration.poses import Trajectory, trajectory
from olivine.calibration.read import read_calibration
from olivine.calibration.rectify import Rectifier, rectification
from olivine.calibration.rig import Calibration, CameraCalibration
from olivine.calibration.tree import TransformTree
from olivine.calibration.undistort import undistort

__all__ = [
    "Calibration",
    "CalibrationFile",
    "CameraCalibration",
    "CameraConfig",
    "CameraModel",
    "PlacementConfig",
    "Rectifier",
    "Trajectory",
    "TransformTree",
    "calibration_text",
    "camera_model",
    "distorted",
    "estimate_trajectory",
    "read_calibration",
    "rectification",
    "require_plausible",
    "trajectory",
    "undistort",
    "wrong_size",
]
