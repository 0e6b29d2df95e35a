"""Calibration files of whatever form: the form is guessed from names and content, and said."""

from __future__ import annotations

from pathlib import Path

from olivine.calibration.file import calibration_of_tree
from olivine.calibration.rig import Calibration
from olivine.documents import read_yaml
from olivine.errors import UserError


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file or folder.

    Args:
        path: our YAML (`olivine.calibration.file`); a camchain of Kalibr; KITTI's calib.txt (object or odometry) or the
            folder of KITTI raw's day with calib_cam_to_cam.txt and calib_velo_to_cam.txt; the folder of Autoware's
            sensors_calibration.yaml with camera_info files; OpenCV's YAML; JSON; a text of rows K:, D: and T:; the
            sequence folder of RELLIS-3D.

    Returns:
        The calibration, with the form that was recognised and what had to be taken for granted.

    Raises:
        UserError: missing, of no form that is known, or without something that is needed, e.g. the way from LiDAR to
            camera.
    """
    tree = read_yaml(path, "this calibration")
    if isinstance(tree, dict) and "cameras" in tree:
        return calibration_of_tree(tree, path)
    raise UserError(f"{path}: no calibration of a known form")
