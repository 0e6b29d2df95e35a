"""Files without a program of their own: OpenCV's YAML, JSON, ROS's camera_info YAML, and texts of rows K, D, T.

All hold a camera matrix, distortion and a transform under names of somebody's choice. The usual ones are known. Where
the name of the transform does not say its direction, it is taken as LiDAR → camera, and that is said.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.calibration.file import PlacementConfig
from olivine.calibration.lens import CameraModel, camera_model
from olivine.calibration.rig import Calibration, CameraCalibration
from olivine.calibration.rigid import checked_transform
from olivine.calibration.rows import read_calibration_rows
from olivine.config import validate
from olivine.documents import MAX_BYTES, parse_yaml
from olivine.errors import UserError
from olivine.geometry import invert
from olivine.reading import read_file

OPENCV_MARK = "%YAML:1.0"

CAMERA = "camera"
"""What a camera is called whose file does not name it."""

_MATRIX = ("cameramatrix", "k", "intrinsics", "intrinsic", "intrinsicmatrix", "cameramat", "cameraintrinsics")
_COEFFICIENTS = ("distortioncoefficients", "d", "distcoeffs", "distcoeff", "distortioncoeffs", "distortion", "dist")
_MODEL = ("distortionmodel", "distortiontype", "cameramodel", "model")
_SIZE = ("imagesize", "size", "resolution")
_WIDTH, _HEIGHT = ("imagewidth", "width"), ("imageheight", "height")
_FORWARD = ("camerafromlidar", "tcamlidar", "tcameralidar", "lidartocamera", "lidartocam", "lidar2camera", "lidar2cam")
_BACKWARD = ("lidarfromcamera", "tlidarcam", "tlidarcamera", "cameratolidar", "camtolidar", "camera2lidar", "cam2lidar")
_AUTOWARE_AI = ("cameraextrinsicmat",)
"""Of Autoware.AI's calibration: the camera's pose in the LiDAR frame."""

_OPEN = ("extrinsic", "extrinsics", "extrinsicmatrix", "t", "rt", "tr", "transform")


def opencv_calibration(path: Path) -> Calibration:
    """The calibration in a YAML file that OpenCV's FileStorage wrote; raises `UserError` where something is missing."""
    text = read_file(path, "this calibration", limit=MAX_BYTES).decode("utf-8", errors="replace")
    plain = text.removeprefix(OPENCV_MARK).replace("!!opencv-matrix", "")
    return loose_calibration(parse_yaml(plain, str(path)), path, "OpenCV YAML")


def read_json(path: Path) -> Any:
    """The tree of a JSON file; raises `UserError` where it is none."""
    try:
        return json.loads(read_file(path, "this calibration", limit=MAX_BYTES))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from error


def text_calibration(path: Path) -> Calibration:
    """The calibration in a text with rows `K:` (9 numbers), `D:` (4, 5 or 8) and `T:` (12 or 16, LiDAR → camera).

    Raises:
        UserError: a row is missing or damaged.
    """
    rows = {name: numbers.split() for name, numbers in read_calibration_rows(path).items()}
    return loose_calibration(rows, path, "text of rows K, D, T")


def loose_calibration(tree: Any, path: Path, form: str) -> Calibration:
    """The calibration in a plain tree: of one camera, or of several by name, at the top or under `cameras`.

    Raises:
        UserError: no camera matrix, no transform between LiDAR and camera, or one of them damaged.
    """
    notes: list[str] = []
    found = {name: _camera(entry, f"{path}: {name}", notes) for name, entry in _entries(tree).items()}
    if not found:
        raise UserError(f"{path}: no camera matrix here under any of the usual names (K, camera_matrix, intrinsics)")
    return Calibration(form, str(path), found, notes=tuple(dict.fromkeys(notes)))


def camera_info_model(tree: dict[str, Any], source: str) -> CameraModel:
    """The lens in the tree of a camera_info YAML, or of any of the forms here; raises `UserError` where it is none."""
    entry = _plain(tree)
    coefficients = _first(entry, _COEFFICIENTS)
    model = _first(entry, _MODEL)
    if isinstance(coefficients, dict) and "data" not in coefficients:
        inner = _plain(coefficients)
        model, coefficients = _first(inner, _MODEL) or model, _first(inner, ("coefficients", "coeffs", "params"))
    try:
        values = [] if coefficients is None else _numbers(coefficients).ravel().tolist()
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{source}: distortion coefficients must be numbers") from error
    named = str(model) if model else ("plumb_bob" if values else "none")
    return camera_model(_size(entry, source), _intrinsics(entry, source), named, values, source=source)


def _entries(tree: Any) -> dict[str, dict[str, Any]]:
    """The cameras of a tree by name."""
    if not isinstance(tree, dict):
        return {}
    if _has_matrix(tree):
        return {str(tree.get("camera_name") or tree.get("name") or CAMERA): tree}
    inside = tree.get("cameras", tree)
    rows = [entry for entry in inside if isinstance(entry, dict)] if isinstance(inside, list) else []
    listed = inside if isinstance(inside, dict) else {str(entry.get("name")): entry for entry in rows}
    return {str(name): entry for name, entry in listed.items() if isinstance(entry, dict) and _has_matrix(entry)}


def _has_matrix(tree: dict[str, Any]) -> bool:
    entry = _plain(tree)
    return _first(entry, _MATRIX) is not None or all(key in entry for key in ("fx", "fy", "cx", "cy"))


def _camera(tree: dict[str, Any], source: str, notes: list[str]) -> CameraCalibration:
    return CameraCalibration(camera_info_model(tree, source), _transform(_plain(tree), source, notes))


def _transform(entry: dict[str, Any], source: str, notes: list[str]) -> NDArray[np.float64]:
    """camera_from_lidar under whichever name it stands."""
    forward, backward = _first(entry, _FORWARD), _first(entry, (*_BACKWARD, *_AUTOWARE_AI))
    if forward is not None:
        return _placed(forward, source)
    if backward is not None:
        return invert(_placed(backward, source))
    parts = [_first(entry, keys) for keys in (("r", "rotation"), ("t", "translation"))]
    given = _first(entry, _OPEN)
    if parts[0] is not None and parts[1] is not None:
        rotation, translation = (_matrix_of(part) for part in parts)
        if rotation.size != 9 or translation.size != 3:
            raise UserError(
                f"{source}: R and T must be a 3×3 rotation and three metres; a quaternion must name its order"
            )
        given = np.hstack((rotation.reshape(3, 3), translation.reshape(3, 1))).tolist()
    if given is None:
        raise UserError(
            f"{source}: nothing here says how the LiDAR stands to the camera; add camera_from_lidar, the 4×4 matrix "
            "that takes points of the LiDAR frame into the camera's (x right, y down, z forward)"
        )
    notes.append("The transform's name does not say its direction; it is taken as LiDAR to camera.")
    return _placed(given, source)


def _placed(value: Any, source: str) -> NDArray[np.float64]:
    if isinstance(value, dict) and "data" not in value:
        return validate(PlacementConfig, value, source).transform(source)
    try:
        return checked_transform(_numbers(value), source)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{source}: a transform is a 4×4 matrix of numbers") from error


def _intrinsics(entry: dict[str, Any], source: str) -> Any:
    matrix = _first(entry, _MATRIX)
    if isinstance(matrix, dict) and "data" not in matrix:
        entry, matrix = _plain(matrix), None
    try:
        if matrix is None:
            return [float(entry[key]) for key in ("fx", "fy", "cx", "cy")]
        return _numbers(matrix).ravel()
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{source}: no camera matrix of numbers here") from error


def _size(entry: dict[str, Any], source: str) -> tuple[int, int] | None:
    size = _first(entry, _SIZE)
    if size is None:
        size = [_first(entry, _WIDTH), _first(entry, _HEIGHT)]
    if isinstance(size, dict):
        size = [size.get("width"), size.get("height")]
    if size == [None, None]:
        return None
    try:
        width, height = (int(value) for value in _numbers(size).ravel())
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{source}: the size of its images must be two whole numbers, width and height") from error
    return width, height


def _plain(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree's top keys without case and marks between words: camera_matrix, CameraMatrix → cameramatrix."""
    return {re.sub(r"[^a-z0-9]", "", str(key).lower()): value for key, value in tree.items()}


def _first(entry: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((entry[key] for key in keys if entry.get(key) is not None), None)


def _matrix_of(value: Any) -> NDArray[np.float64]:
    """`_numbers`, none where they are none."""
    try:
        return _numbers(value)
    except ValueError:
        return np.empty(0)


def _numbers(value: Any) -> NDArray[np.float64]:
    """Numbers of a list, of rows, or of a matrix with rows, cols and data; `ValueError` where they are none."""
    try:
        return np.asarray(value["data"] if isinstance(value, dict) else value, np.float64)
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(str(error)) from error
