"""Autoware: sensors_calibration.yaml and sensor_kit_calibration.yaml (x y z roll pitch yaw) with a file per camera.

The YAML files hold `parent: {child: {x, y, z, roll, pitch, yaw}}`, the child's pose in its parent, angles about the
fixed axes in radians. Frames named camera_link have x forward and z up; a camera's own axes are turned against them,
unless the frame is named optical.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.calibration.formats.loose import camera_info_model
from olivine.calibration.rig import Calibration, CameraCalibration
from olivine.calibration.rigid import checked_translation, rotation_from_rpy
from olivine.calibration.tree import TransformTree
from olivine.documents import read_yaml
from olivine.errors import UserError
from olivine.geometry import rigid_transform

TABLES = ("sensors_calibration.yaml", "sensor_kit_calibration.yaml")

OPTICAL_FROM_BODY = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
"""From axes x forward, y left, z up to a camera's: x right, y down, z forward."""

_LIDARS = ("lidar", "velodyne", "ouster", "hesai", "pandar", "livox", "robosense", "rslidar", "aeva", "seyond")
_AXES = ("x", "y", "z", "roll", "pitch", "yaw")


def is_autoware(folder: Path) -> bool:
    """Whether a folder holds Autoware's tables of sensors."""
    return any((folder / name).is_file() for name in TABLES)


def read_autoware(folder: Path) -> Calibration:
    """Read the calibration of a vehicle from a folder with the tables and the cameras' files (camera_info YAML).

    Raises:
        UserError: a damaged table, no LiDAR or camera, or a camera that no frame is named after.
    """
    tree = TransformTree(str(folder))
    for name in TABLES:
        if (folder / name).is_file():
            _add(tree, folder / name)
    lidar, others = _lidars(tree, folder)
    cameras = {}
    for path in sorted((*folder.rglob("*.yaml"), *folder.rglob("*.yml"))):
        content = read_yaml(path, "this calibration") if path.name not in TABLES else None
        if isinstance(content, dict) and "camera_matrix" in content:
            name = str(content.get("camera_name") or path.stem.removesuffix("_info"))
            frame = _frame_of(name, tree, path)
            transform = tree.transform(frame, lidar)
            optical = transform if "optical" in frame else OPTICAL_FROM_BODY @ transform
            cameras[name] = CameraCalibration(camera_info_model(content, f"{path}"), optical)
    if not cameras:
        raise UserError(f"{folder}: no camera's file (camera_matrix, distortion_coefficients) beside {TABLES[0]}")
    lidars = {name: tree.transform(lidar, name) for name in (lidar, *others)} if others else {}
    note = f"The LiDAR's points are taken to be in the frame {lidar}; a driver's own frame may lie centimetres from it."
    return Calibration("Autoware calibration", str(folder), cameras, lidars, (note,))


def _add(tree: TransformTree, path: Path) -> None:
    """Add what a table says."""
    content: Any = read_yaml(path, "this calibration")
    for parent, children in (content or {}).items() if isinstance(content, dict) else ():
        for child, pose in children.items() if isinstance(children, dict) else ():
            tree.add(str(parent), str(child), _pose(pose, f"{path}: {parent}.{child}"))


def _pose(pose: Any, source: str) -> NDArray[np.float64]:
    try:
        x, y, z, roll, pitch, yaw = (float(pose[axis]) for axis in _AXES)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{source}: a pose has {', '.join(_AXES)}, metres and radians") from error
    if max(abs(roll), abs(pitch), abs(yaw)) > 2 * np.pi:
        raise UserError(f"{source}: an angle above 2π; angles are in radians, these look like degrees")
    return rigid_transform(rotation_from_rpy(roll, pitch, yaw), checked_translation((x, y, z), source))


def _lidars(tree: TransformTree, folder: Path) -> tuple[str, list[str]]:
    """The frame that counts as the common one, and those of other LiDARs."""
    frames = [frame for frame in tree.frames if any(word in frame.lower() for word in _LIDARS)]
    if not frames:
        raise UserError(f"{folder}: no LiDAR among the frames {', '.join(tree.frames) or '(none)'}")
    frames.sort(key=lambda frame: ("top" not in frame.lower(), frame))
    return frames[0], frames[1:]


def _frame_of(camera: str, tree: TransformTree, path: Path) -> str:
    """The frame of a camera: one with its name as a part, else one that begins with it; an optical one first."""
    words = camera.strip("/")
    found = [frame for frame in tree.frames if words in frame.split("/")] or [
        frame for frame in tree.frames if frame.startswith(words)
    ]
    optical = [frame for frame in found if "optical" in frame]
    if len(optical or found) == 1:
        return (optical or found)[0]
    hint = f"there are {', '.join(tree.frames)}" if not found else f"{', '.join(found)} could be meant"
    raise UserError(f"{path}: no one frame for the camera {camera!r}: {hint}; name the camera after its frame")
