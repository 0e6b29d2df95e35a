"""Calibration files of whatever form: the form is guessed from names and content, and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from olivine.calibration.file import calibration_of_tree
from olivine.calibration.formats import autoware, kitti, rellis
from olivine.calibration.formats.kalibr import is_kalibr, kalibr_calibration
from olivine.calibration.formats.loose import (
    OPENCV_MARK,
    loose_calibration,
    opencv_calibration,
    read_json,
    text_calibration,
)
from olivine.calibration.rig import Calibration
from olivine.calibration.rows import read_calibration_rows
from olivine.documents import MAX_BYTES, read_yaml
from olivine.errors import UserError
from olivine.reading import read_file

_NAMES = ("calibration.yaml", "calibration.yml", "calibration.json", "calib.yaml", "calib.json", "calib.txt")
"""What a calibration is called in a folder that holds other things too, the first that is there."""

_FORMS = (
    "our YAML (cameras: …), Kalibr's camchain, KITTI's calib.txt or raw folder, Autoware's folder, OpenCV's YAML, "
    "JSON, a text with rows K:, D: and T:, or RELLIS-3D's sequence folder"
)


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file or folder.

    Args:
        path: our YAML (`olivine.calibration.file`); a camchain of Kalibr; KITTI's calib.txt (object or odometry) or the
            folder of KITTI raw's day with calib_cam_to_cam.txt and calib_velo_to_cam.txt; the folder of Autoware's
            sensors_calibration.yaml with camera_info files; OpenCV's YAML; JSON; a text of rows K:, D: and T:; the
            sequence folder of RELLIS-3D. Of those that take a folder, any of its files will do.

    Returns:
        The calibration, with the form that was recognised and what had to be taken for granted.

    Raises:
        UserError: missing, of no form that is known, or without something that is needed, e.g. the way from LiDAR to
            camera.
    """
    if path.is_dir():
        return _of_folder(path)
    if path.name in (kitti.CAM_TO_CAM, kitti.VELO_TO_CAM):
        return kitti.read_kitti_raw(path.parent)
    if path.name in autoware.TABLES:
        return autoware.read_autoware(path.parent)
    if path.name in (rellis.CAMERA_INFO, rellis.TRANSFORMS) and (path.parent / rellis.CAMERA_INFO).is_file():
        return rellis.read_rellis(path.parent)
    reader = {".yaml": _of_yaml, ".yml": _of_yaml, ".json": _of_json}.get(path.suffix.lower(), _of_text)
    return reader(path)


def _of_folder(folder: Path) -> Calibration:
    if (folder / kitti.CAM_TO_CAM).is_file():
        return kitti.read_kitti_raw(folder)
    if (folder / rellis.CAMERA_INFO).is_file():
        return rellis.read_rellis(folder)
    if autoware.is_autoware(folder):
        return autoware.read_autoware(folder)
    for name in _NAMES:
        if (folder / name).is_file():
            return read_calibration(folder / name)
    raise UserError(f"{folder}: no calibration in this folder; one is called {', '.join(_NAMES)}, or name its file")


def _of_yaml(path: Path) -> Calibration:
    if read_file(path, "this calibration", limit=MAX_BYTES).startswith(OPENCV_MARK.encode()):
        return opencv_calibration(path)
    return _of_tree(read_yaml(path, "this calibration"), path, "YAML")


def _of_json(path: Path) -> Calibration:
    return _of_tree(read_json(path), path, "JSON")


def _of_tree(tree: Any, path: Path, form: str) -> Calibration:
    if isinstance(tree, dict) and is_kalibr(tree):
        return kalibr_calibration(tree, path)
    if form == "YAML" and isinstance(tree, dict) and "cameras" in tree:
        return calibration_of_tree(tree, path)
    if isinstance(tree, dict) and tree:
        return loose_calibration(tree, path, form)
    raise UserError(f"{path}: no calibration here; one is {_FORMS}")


def _of_text(path: Path) -> Calibration:
    rows = read_calibration_rows(path)
    if "K" in rows:
        return text_calibration(path)
    if any(name in rows for name in ("P0", "P1", "P2", "P3")):
        return kitti.read_kitti(path)
    raise UserError(f"{path}: no calibration here; one is {_FORMS}")
