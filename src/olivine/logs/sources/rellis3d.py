"""A sequence of RELLIS-3D as a log: the Ouster's scans and the colour camera's pictures, distorted as they are.

    <sequence>/os1_cloud_node_kitti_bin/NNNNNN.bin              float32 × 4, a row without return is (0, 0, 0)
               pylon_camera_node/frameNNNNNN-SEC_MS.jpg         1920×1200; the name says when
               camera_info.txt  transforms.yaml
               poses.txt                                        optional: a 3×4 pose of the Ouster for each scan

A scan was taken when the picture of its number was. Format: https://github.com/unmannedlab/RELLIS-3D
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from olivine.calibration import Calibration, read_calibration, trajectory
from olivine.data.file_times import time_of_name
from olivine.errors import UserError
from olivine.geometry import rigid_transform
from olivine.logs.log import Motion, Setup
from olivine.logs.recipe import CameraStream, ConvertConfig, LidarStream, Poses, safe_name
from olivine.logs.setups import scans_alone
from olivine.logs.sources.files import FileLog, Stream, by_channel
from olivine.logs.sources.times import ASSUMED_STEP_NS
from olivine.reading import TEXT_BYTES, read_file
from olivine.scans import ScanColumns

CLOUDS, PICTURES = "os1_cloud_node_kitti_bin", "pylon_camera_node"
_CHANNEL = "CAM_FRONT"
_COLUMNS = ("x", "y", "z", "intensity")
_PICTURE = re.compile(r"frame(\d+)-")
_POSES = "poses.txt"


class RellisLog(FileLog):
    """A sequence.

    Args:
        path: its folder, or one that holds no other.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.form = "a sequence of RELLIS-3D"

    @classmethod
    def recognise(cls, path: Path) -> bool:
        """Whether there are scans in folders of its names."""
        return bool(_sequences(path))

    @property
    def sequence(self) -> Path:
        """The folder of the sequence; raises `UserError` where there are several."""
        found = _sequences(self.path)
        if len(found) > 1:
            names = ", ".join(folder.name for folder in found)
            raise UserError(f"{self.path}: holds the sequences {names}; convert one at a time, e.g. {found[0]}")
        return found[0]

    def find_streams(self) -> list[Stream]:
        """The Ouster and the camera; raises `UserError` where no picture says a time."""
        pictures = {
            int(found[1]): path
            for path in sorted((self.sequence / PICTURES).glob("*.jpg"))
            if (found := _PICTURE.match(path.name))
        }
        times = {number: time_of_name(path.stem.partition("-")[2]) for number, path in pictures.items()}
        known = {number: time for number, time in times.items() if time is not None}
        scans = {int(path.stem): path for path in sorted((self.sequence / CLOUDS).glob("*.bin")) if path.stem.isdigit()}
        if not known or not scans:
            raise UserError(
                f"{self.sequence}: no scans NNNNNN.bin in {CLOUDS}, or no pictures frameNNNNNN-SEC_MS.jpg in "
                f"{PICTURES} to tell their times by; unpack both"
            )
        first = min(known)
        taken = [known.get(number, known[first] + (number - first) * ASSUMED_STEP_NS) for number in sorted(scans)]
        return [
            Stream(CLOUDS, "lidar", "RELLIS-3D scans", taken, [scans[n] for n in sorted(scans)], "os1_cloud_node"),
            Stream(
                PICTURES, "camera", "RELLIS-3D pictures", [known[n] for n in sorted(known)],
                [pictures[n] for n in sorted(known)], PICTURES,
            ),
        ]  # fmt: skip

    def propose(self) -> Setup:
        """The recipe: both sensors, poses of the file where it is there."""
        if (self.sequence / _POSES).is_file():
            poses: Poses
            missing: tuple[str, ...]
            poses, missing = "file", ()
        else:
            guessed, said = scans_alone(self.topic(CLOUDS))
            poses, missing = guessed, (said,)
        config = ConvertConfig.model_validate(
            {
                "name": safe_name(f"rellis_{self.sequence.resolve().name}", "rellis"),
                "lidars": (LidarStream(topic=CLOUDS, columns=ScanColumns(names=_COLUMNS)),),
                "cameras": {_CHANNEL: CameraStream(topic=PICTURES)},
                "poses": poses,
            }
        )
        return Setup(config, missing, ("calibration: camera_info.txt and transforms.yaml of the sequence",))

    def calibration(self, config: ConvertConfig) -> Calibration:
        """That of the sequence; raises `UserError` where a file of it is missing or damaged."""
        return by_channel(read_calibration(self.sequence), config)

    def motion(self, config: ConvertConfig) -> Motion:
        """The poses of `poses.txt`; raises `UserError` where there is none, or not one for each scan."""
        path, times = self.sequence / _POSES, self.streams[CLOUDS].times_ns
        if config.poses != "file":
            raise UserError(f"{self.path}: poses: {config.poses} are none of RELLIS-3D; set poses=file or unknown")
        try:
            rows = np.array(read_file(path, "these poses", limit=TEXT_BYTES).split(), np.float64).reshape(-1, 3, 4)
        except ValueError as error:
            raise UserError(f"{path}: each line is the 12 numbers of a 3×4 pose ({error})") from error
        if len(rows) != len(times):
            raise UserError(f"{path}: {len(rows)} poses for {len(times)} scans; one each is needed")
        poses = [rigid_transform(row[:, :3], row[:, 3]) for row in rows]
        return Motion(trajectory(times, poses, str(path)), origin="file")


def _sequences(path: Path) -> list[Path]:
    """Folders of sequences: the path itself, or those in it, perhaps below `Rellis-3D`."""
    if not path.is_dir():
        return []
    places = [path, *sorted(path.glob("*")), *sorted(path.glob("Rellis-3D/*"))]
    return [place for place in dict.fromkeys(places) if (place / CLOUDS).is_dir() and (place / PICTURES).is_dir()]
