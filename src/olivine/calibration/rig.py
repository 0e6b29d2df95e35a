"""What a calibration says of a vehicle: its cameras, its LiDARs, and how they stand to each other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from olivine.calibration.lens import CameraModel
from olivine.errors import UserError


@dataclass(frozen=True, eq=False)
class CameraCalibration:
    """A camera's lens and place.

    Attributes:
        model: size, camera matrix and distortion of the pictures as they are taken.
        camera_from_lidar: [4, 4] float64, metres; the LiDAR frame is the one that all LiDARs are brought into.
        upright: the picture's up is roughly the LiDAR's z; a camera that is mounted turned says no.
    """

    model: CameraModel
    camera_from_lidar: NDArray[np.float64]
    upright: bool = True


@dataclass(frozen=True, eq=False)
class Calibration:
    """The calibration of a vehicle.

    Attributes:
        form: what kind of file it was, e.g. `"KITTI calib.txt"`.
        source: the file or folder.
        cameras: by name, in the order of the file.
        lidars: [4, 4] float64 lidar_from_sensor of each named LiDAR: from its own frame into the common LiDAR frame.
            Empty where there is one, whose frame is the common one.
        notes: what was taken for granted while reading, a sentence each, to be shown.
    """

    form: str
    source: str
    cameras: dict[str, CameraCalibration]
    lidars: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def camera(self, name: str) -> CameraCalibration:
        """A camera by name; raises `UserError` that names those there are."""
        if name not in self.cameras:
            raise UserError(f"{self.source}: no camera {name!r} in this calibration; it has {', '.join(self.cameras)}")
        return self.cameras[name]

    def lidar_from_sensor(self, name: str) -> NDArray[np.float64]:
        """[4, 4] from a LiDAR's own frame into the common one; the identity where the file names no LiDARs.

        Raises:
            UserError: the file names LiDARs, and not this one.
        """
        if not self.lidars:
            return np.eye(4)
        if name not in self.lidars:
            raise UserError(f"{self.source}: no LiDAR {name!r} in this calibration; it has {', '.join(self.lidars)}")
        return self.lidars[name]
