"""A drive of KITTI's raw recordings ("sync") as a log: Velodyne, rectified cameras, and poses by GPS and IMU.

    <day>/calib_cam_to_cam.txt  calib_velo_to_cam.txt  calib_imu_to_velo.txt
    <day>/<drive>_sync/velodyne_points/data/NNNNNNNNNN.bin   timestamps.txt     float32 × 4
                       image_02/data/NNNNNNNNNN.png          timestamps.txt
                       oxts/data/NNNNNNNNNN.txt              timestamps.txt     lat lon alt roll pitch yaw …

Source: Geiger et al., Vision meets robotics: the KITTI dataset, IJRR 2013; and its development kit's readme.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from olivine.calibration import Calibration, read_calibration, trajectory
from olivine.calibration.formats.kitti import CAM_TO_CAM, read_raw_transform
from olivine.calibration.rigid import rotation_from_rpy
from olivine.errors import UserError
from olivine.geometry import invert, rigid_transform
from olivine.logs.log import Motion, Setup
from olivine.logs.recipe import CameraStream, ConvertConfig, LidarStream, Poses, safe_name
from olivine.logs.setups import scans_alone
from olivine.logs.sources.files import IMAGES, FileLog, Stream, by_channel
from olivine.logs.sources.times import read_timestamps
from olivine.logs.topics import Kind
from olivine.reading import read_file
from olivine.scans import ScanColumns

VELODYNE, OXTS, IMU_TO_VELO = "velodyne_points", "oxts", "calib_imu_to_velo.txt"
_CAMERAS = {"image_02": "CAM_LEFT", "image_03": "CAM_RIGHT", "image_00": "CAM_LEFT_GREY", "image_01": "CAM_RIGHT_GREY"}
_COLOUR = ("image_02", "image_03")
_COLUMNS = ("x", "y", "z", "intensity")
_EARTH_M = 6_378_137.0
_OXTS_BYTES = 1 << 16


class KittiRawLog(FileLog):
    """A drive.

    Args:
        path: the folder of the drive, that ends in `_sync`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.form = "a drive of KITTI raw"

    @classmethod
    def recognise(cls, path: Path) -> bool:
        """Whether it has a folder of Velodyne scans with their times."""
        return (path / VELODYNE / "data").is_dir() and (path / VELODYNE / "timestamps.txt").is_file()

    @property
    def day(self) -> Path:
        """The folder of the calibration: the one above, or the drive's own."""
        return self.path if (self.path / CAM_TO_CAM).is_file() else self.path.resolve().parent

    def find_streams(self) -> list[Stream]:
        """The Velodyne and the cameras; raises `UserError` where files and times do not agree."""
        streams = [_stream(self.path / VELODYNE, "lidar", (".bin",))]
        return streams + [
            _stream(self.path / name, "camera", IMAGES) for name in _CAMERAS if (self.path / name / "data").is_dir()
        ]

    def propose(self) -> Setup:
        """The recipe: colour cameras (grey ones where there are no others), and the poses by GPS and IMU."""
        there = [name for name in _CAMERAS if name in self.streams]
        cameras = [name for name in there if name in _COLOUR] or there
        missing: list[str] = []
        poses: Poses | None
        poses = "file" if (self.path / OXTS / "data").is_dir() and (self.day / IMU_TO_VELO).is_file() else None
        if poses is None:
            poses, said = scans_alone(self.topic(VELODYNE))
            missing.append(said)
        if not (self.day / CAM_TO_CAM).is_file():
            missing.append(f"no {CAM_TO_CAM} in {self.day}; unpack the day's calibration, or give calibration=FILE")
        config = ConvertConfig.model_validate(
            {
                "name": safe_name(self.path.resolve().name, "kitti"),
                "lidars": (LidarStream(topic=VELODYNE, columns=ScanColumns(names=_COLUMNS)),),
                "cameras": {_CAMERAS[name]: CameraStream(topic=name, rectified=True) for name in cameras},
                "poses": poses,
            }
        )
        return Setup(config, tuple(missing), (f"calibration: KITTI raw, {self.day}",))

    def calibration(self, config: ConvertConfig) -> Calibration:
        """That of the day, for the rectified pictures; raises `UserError` where a file is missing or damaged."""
        return by_channel(read_calibration(self.day), config)

    def motion(self, config: ConvertConfig) -> Motion:
        """The poses by GPS and IMU; raises `UserError` where there are none, or they are damaged."""
        if config.poses != "file":
            raise UserError(f"{self.path}: poses: {config.poses} are none of KITTI raw; set poses=file or unknown")
        stream = _stream(self.path / OXTS, "other", (".txt",))
        rows = np.array([_oxts(path) for path in stream.paths])
        velo_from_imu = read_raw_transform(self.day / IMU_TO_VELO)
        poses = global_poses(rows)
        origin = rigid_transform(np.eye(3), -poses[0][:3, 3])  # near zero, so that nothing is lost to float32 later
        return Motion(trajectory(stream.times_ns, origin @ poses, f"{self.path / OXTS}"), invert(velo_from_imu), "file")


def global_poses(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Poses of the IMU by Mercator's projection, as the development kit has it.

    Args:
        rows: [T, 6] latitude and longitude in degrees, altitude in metres, roll, pitch and yaw in radians.

    Returns:
        [T, 4, 4] float64, metres: x east, y north, z up.
    """
    scale = np.cos(np.radians(rows[0, 0]))
    east = scale * _EARTH_M * np.radians(rows[:, 1])
    north = scale * _EARTH_M * np.log(np.tan(np.radians(90 + rows[:, 0]) / 2))
    places = np.column_stack([east, north, rows[:, 2]])
    turns = [rotation_from_rpy(*row) for row in rows[:, 3:6].tolist()]
    return np.array([rigid_transform(turn, place) for turn, place in zip(turns, places, strict=True)])


def _oxts(path: Path) -> NDArray[np.float64]:
    """The first six numbers of a file of the GPS and IMU."""
    words = read_file(path, "this position", limit=_OXTS_BYTES).split()
    try:
        values = np.array(words[:6], np.float64)
    except ValueError:
        values = np.empty(0)
    if values.shape != (6,) or not np.isfinite(values).all():
        raise UserError(f"{path}: begins with six numbers: latitude, longitude, altitude, roll, pitch, yaw")
    return values


def _stream(folder: Path, kind: Kind, suffixes: Sequence[str]) -> Stream:
    """The files of a sensor with their times; a file that is missing of those that are numbered is left out."""
    times = read_timestamps(folder / "timestamps.txt")
    found = [path for path in sorted((folder / "data").iterdir()) if path.suffix.lower() in suffixes]
    numbers = [int(path.stem) if path.stem.isdigit() else len(times) for path in found]
    if not found or max(numbers) >= len(times):
        raise UserError(f"{folder}: {len(times)} times, and {len(found)} files numbered from 0; unpack the drive again")
    return Stream(folder.name, kind, f"KITTI raw {folder.name}", [times[n] for n in numbers], found)
