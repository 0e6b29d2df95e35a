"""The sensors of a log as a recipe has them: where they are, what their lenses do, and where the vehicle was."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from olivine.calibration import (
    Calibration,
    CameraCalibration,
    CameraModel,
    Rectifier,
    read_calibration,
    rectification,
    require_plausible,
)
from olivine.logs.log import Log
from olivine.logs.recipe import CameraStream, ConvertConfig
from olivine.logs.setups import named_camera


@dataclass(frozen=True, eq=False)
class RigCamera:
    """A camera of a log.

    Attributes:
        channel: what it becomes.
        model: its lens, for the pictures as they are recorded.
        camera_from_lidar: [4, 4] float64, metres; both at one time.
        rectify: take the distortion out.
        border: as of `olivine.calibration.rectification`.
        upright: as of `olivine.calibration.CameraCalibration`.
    """

    channel: str
    model: CameraModel
    camera_from_lidar: NDArray[np.float64]
    rectify: bool = True
    border: float = 0.0
    upright: bool = True

    def rectifier(self, size: tuple[int, int]) -> Rectifier:
        """How its pictures become those of the dataset.

        Args:
            size: (width, height) of the pictures, pixels.

        Raises:
            UserError: it is calibrated for another size.
        """
        return self._rectifiers(size)

    @functools.cached_property
    def _rectifiers(self) -> functools._lru_cache_wrapper[Rectifier]:
        return functools.lru_cache(maxsize=1)(self._made)

    def _made(self, size: tuple[int, int]) -> Rectifier:
        model = self.model.sized(size, f"camera {self.channel}")
        if self.rectify:
            return rectification(model, self.border)
        plain = replace(model, distortion="none", coefficients=())
        return Rectifier(plain, plain)


@dataclass(frozen=True, eq=False)
class Rig:
    """The sensors of a log.

    Attributes:
        form: where the calibration is from, for people.
        cameras: by channel.
        lidar_from_sensor: [4, 4] float64 from each LiDAR's own frame into that of the first, by topic.
        notes: what was taken for granted, a line each.
    """

    form: str
    cameras: dict[str, RigCamera]
    lidar_from_sensor: dict[str, NDArray[np.float64]]
    notes: tuple[str, ...] = ()

    def require_plausible(self, points_m: NDArray[np.float32], sizes: dict[str, tuple[int, int]], source: Path) -> None:
        """Refuse a calibration that cannot be right; see `olivine.calibration.require_plausible`.

        Args:
            points_m: [N, 3] the cloud of a frame, in the frame of the first LiDAR, metres.
            sizes: (width, height) of its images by channel, pixels.
            source: the log or the calibration file, named in the error.
        """
        cameras = {
            channel: CameraCalibration(camera.model, camera.camera_from_lidar, camera.upright)
            for channel, camera in self.cameras.items()
        }
        require_plausible(Calibration(self.form, f"{source} ({self.form})", cameras), points_m, sizes)


def find_rig(log: Log, config: ConvertConfig) -> Rig:
    """The sensors of a log, by the calibration file that the recipe names or by what the log says itself.

    Raises:
        UserError: a camera or LiDAR is not calibrated, two frames have no path between them, or the file is none.
    """
    told = None if config.calibration is None else read_calibration(config.calibration)
    calibration = log.calibration(config) if told is None else told
    cameras = {
        channel: _camera(channel, stream, calibration, config, told is not None)
        for channel, stream in config.chosen_cameras.items()
    }
    return Rig(calibration.form, cameras, _lidars(log, config, calibration), calibration.notes)


def _camera(
    channel: str, stream: CameraStream, calibration: Calibration, config: ConvertConfig, from_file: bool
) -> RigCamera:
    found = named_camera(channel, stream.topic, calibration) if from_file else calibration.camera(channel)
    model = found.model
    if from_file and stream.rectified:
        model = replace(model, distortion="none", coefficients=())
    upright = found.upright and stream.upright
    return RigCamera(channel, model, found.camera_from_lidar, config.rectify, config.border, upright)


def _lidars(log: Log, config: ConvertConfig, calibration: Calibration) -> dict[str, NDArray[np.float64]]:
    topics = [stream.topic for stream in config.lidars]
    if len(topics) == 1:
        return {topics[0]: calibration.lidars.get(topics[0], np.eye(4))}
    if not calibration.lidars:
        calibration = log.calibration(config.model_copy(update={"cameras": {}}))
    return {topic: calibration.lidar_from_sensor(topic) for topic in topics}
