"""Kalibr's camchain: cameras one after the other, each to the one before (`T_cn_cnm1`) and to the IMU (`T_cam_imu`).

Kalibr knows no LiDAR. What it lacks is asked for as one more key of the file: `T_cam_lidar` of a camera, or, where
the cameras are calibrated to the IMU, `T_imu_lidar` at the top.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.calibration.lens import CameraModel, camera_model
from olivine.calibration.rig import Calibration, CameraCalibration
from olivine.calibration.rigid import checked_transform
from olivine.errors import UserError
from olivine.geometry import invert

_PINHOLE = "pinhole"


def is_kalibr(tree: dict[str, Any]) -> bool:
    """Whether the tree of a YAML file is a camchain."""
    return any(isinstance(tree.get(name), dict) and "camera_model" in tree[name] for name in _cameras(tree))


def kalibr_calibration(tree: dict[str, Any], path: Path) -> Calibration:
    """The calibration in the tree of a camchain.

    Raises:
        UserError: a lens model that is not pinhole, a damaged camera or transform, or no way from LiDAR to a camera.
    """
    names = _cameras(tree)
    from_lidar = _from_lidar(tree, names, path)
    cameras = {name: CameraCalibration(_model(tree[name], f"{path}: {name}"), from_lidar[name]) for name in names}
    return Calibration("Kalibr camchain", str(path), cameras)


def _cameras(tree: dict[str, Any]) -> list[str]:
    names = [name for name in tree if name.startswith("cam") and name[3:].isdigit() and isinstance(tree[name], dict)]
    return sorted(names, key=lambda name: int(name[3:]))


def _model(camera: dict[str, Any], source: str) -> CameraModel:
    kind = camera.get("camera_model", _PINHOLE)
    if kind != _PINHOLE:
        raise UserError(f"{source}: camera_model {kind!r} is not read; calibrate with Kalibr's {_PINHOLE!r} models")
    try:
        width, height = (int(value) for value in camera["resolution"])
        coefficients = [float(value) for value in camera.get("distortion_coeffs", ())]
        distortion = str(camera.get("distortion_model", "none"))
        return camera_model((width, height), camera["intrinsics"], distortion, coefficients, source=source)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{source}: a camera of Kalibr has intrinsics, resolution and distortion_coeffs") from error


def _from_lidar(tree: dict[str, Any], names: list[str], path: Path) -> dict[str, NDArray[np.float64]]:
    """camera_from_lidar of every camera: given, through the IMU, or through a neighbour in the chain."""
    imu_from_lidar = _transform(tree, "T_imu_lidar", f"{path}")
    found: dict[str, NDArray[np.float64]] = {}
    for name in names:
        direct = _transform(tree[name], "T_cam_lidar", f"{path}: {name}")
        to_imu = _transform(tree[name], "T_cam_imu", f"{path}: {name}")
        if direct is not None:
            found[name] = direct
        elif to_imu is not None and imu_from_lidar is not None:
            found[name] = to_imu @ imu_from_lidar
    steps = [(before, name) for before, name in itertools.pairwise(names) if "T_cn_cnm1" in tree[name]]
    for before, name in (*steps, *reversed(steps)):
        step = _transform(tree[name], "T_cn_cnm1", f"{path}: {name}")
        assert step is not None
        if before in found and name not in found:
            found[name] = step @ found[before]
        elif name in found and before not in found:
            found[before] = invert(step) @ found[name]
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(f"{path}: {_what_lacks(tree, missing)}")
    return found


def _transform(tree: dict[str, Any], key: str, source: str) -> NDArray[np.float64] | None:
    return checked_transform(tree[key], f"{source}.{key}") if key in tree else None


def _what_lacks(tree: dict[str, Any], missing: list[str]) -> str:
    """What to add, in one line."""
    said = f"nothing says how the LiDAR stands to {', '.join(missing)}; Kalibr calibrates no LiDAR"
    camera = f"T_cam_lidar (4×4, LiDAR frame to camera frame) to {missing[0]}"
    if all("T_cam_imu" in tree[name] for name in missing):
        return f"{said}. Add T_imu_lidar (4×4, LiDAR frame to IMU frame) at the top of the file, or {camera}"
    return f"{said}. Add {camera}"
