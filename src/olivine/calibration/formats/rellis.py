"""RELLIS-3D: camera_info.txt (fx fy cx cy) and transforms.yaml beside the scans of a sequence.

The transform is the camera's pose in the LiDAR frame, the reverse of what its name says. The distortion stands in none
of the files but in the notebook of the dataset's repository.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.calibration.file import transform_of
from olivine.calibration.lens import camera_model
from olivine.calibration.rig import Calibration, CameraCalibration
from olivine.documents import read_yaml
from olivine.errors import UserError
from olivine.geometry import invert
from olivine.reading import TEXT_BYTES, read_file

CAMERA_INFO = "camera_info.txt"
TRANSFORMS = "transforms.yaml"
CAMERA = "pylon_camera_node"
_LIDAR = "os1_cloud_node"
_SIZE = (1920, 1200)
_DISTORTION = (-0.134313, -0.025905, 0.002181, 0.00084, 0.0)


def read_rellis(folder: Path) -> Calibration:
    """Read the calibration of a sequence: its colour camera against the Ouster LiDAR.

    Args:
        folder: holds `camera_info.txt` and `transforms.yaml`.

    Raises:
        UserError: a file is missing or damaged.
    """
    path = folder / CAMERA_INFO
    words = read_file(path, "this calibration", limit=TEXT_BYTES).decode("utf-8", errors="replace").split()
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise UserError(f"{path}: must be four numbers, fx fy cx cy")
    model = camera_model(_SIZE, numbers, "plumb_bob", _DISTORTION, source=str(path))
    pose = _pose(folder / TRANSFORMS, f"{_LIDAR}-{CAMERA}")
    note = "RELLIS-3D's distortion is that of the dataset's notebook, which no file of a sequence repeats."
    cameras = {CAMERA: CameraCalibration(model, invert(pose))}
    return Calibration("RELLIS-3D calibration", str(folder), cameras, notes=(note,))


def _pose(path: Path, key: str) -> NDArray[np.float64]:
    """[4, 4] pose of the camera in the LiDAR frame."""
    tree: Any = read_yaml(path, "these transforms")
    try:
        entry = tree[key]
        quaternion = [float(entry["q"][axis]) for axis in "wxyz"]
        translation_m = [float(entry["t"][axis]) for axis in "xyz"]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: no transform {key!r} with q (w x y z) and t (x y z)") from error
    return transform_of(translation_m, quaternion, f"{path}: {key}")
