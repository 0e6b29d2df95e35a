"""A folder of clouds and pictures as a log: a stream for each folder and suffix below it, and a calibration file.

    <folder>/lidar/1678066887800777984.pcd …     .pcd .bin .ply .las .laz .npy
             cam_front/1678066887770777984.jpg …
             calibration.yaml                    any form that `olivine.calibration.read_calibration` knows
             poses.txt                           optional: as of the dataset `folder`, of the first LiDAR

Folders that several sensors have below their own (`lidar/monday`, `cam_front/monday`) are recordings. Times are in the
names or in a `timestamps.txt` beside the files; where they are not, files of the same name belong together, a tenth of
a second apart. What the dataset `folder` reads where it lies (`olivine.data.folder`), this reads to convert it.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np

from olivine.calibration import Calibration, read_calibration, trajectory
from olivine.data.folder_files import Taken, files_in
from olivine.data.folder_keys import calibration_file, read_keys
from olivine.data.folder_labels import read_poses
from olivine.errors import UserError
from olivine.logs.fields import columns_of_files
from olivine.logs.log import Motion, Setup
from olivine.logs.recipe import CameraStream, ConvertConfig, LidarStream, Poses, safe_name
from olivine.logs.setups import channel_names, scans_alone
from olivine.logs.sources.files import IMAGES, FileLog, Stream, by_channel
from olivine.logs.sources.times import assumed_times
from olivine.logs.topics import Kind, Topic, with_points
from olivine.scans import SUFFIXES

_POSES = "poses.txt"
_CALIBRATIONS = (".yaml", ".yml", ".json", ".txt")
_LABELS = ("label", "mask", "camseg", "superpixel", "boxes")


class FolderLog(FileLog):
    """A folder of clouds and pictures.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.form = "a folder of scans"
        self.notes: list[str] = []

    @classmethod
    def recognise(cls, path: Path) -> bool:
        """Whether there are clouds in it."""
        return path.is_dir() and any(kind == "lidar" for kind, _, _ in _sensors(path)[0])

    def find_streams(self) -> list[Stream]:
        """A stream for each folder and suffix; raises `UserError` where names are no times and do not agree."""
        sensors, recordings = _sensors(self.path)
        found = {f"{place}*{suffix}": files_in(self.path / place, (suffix,)) for _, place, suffix in sensors}
        found = {name: [one for one in files if one.scene in ("", *recordings)] for name, files in found.items()}
        kinds = {f"{place}*{suffix}": kind for kind, place, suffix in sensors}
        if all(taken.time_us is not None for files in found.values() for taken in files):
            times = {name: [1000 * (taken.time_us or 0) for taken in files] for name, files in found.items()}
        else:
            times = self._assumed(found)
        return [_stream(name, kinds[name], times[name], files) for name, files in found.items()]

    def _assumed(self, found: dict[str, list[Taken]]) -> dict[str, list[int]]:
        names = {name: [(taken.scene, taken.name) for taken in files] for name, files in found.items()}
        assumed = assumed_times(names)
        if assumed is None:
            untimed = next(name for name, files in found.items() if any(taken.time_us is None for taken in files))
            raise UserError(
                f"{self.path}: names of {untimed} are no times (e.g. 1678066887800777984, ns since 1970), and the "
                "folders have no names in common, by which files would belong together; rename the files so"
            )
        self.notes.append("names are no times: files of one name belong together, and are taken 0.1 s apart")
        return assumed

    def propose(self) -> Setup:
        """The recipe, guessed from names; raises `UserError` without clouds."""
        lidars = with_points(self.topics, self.path)
        cameras = [topic.name for topic in self.topics if topic.kind == "camera"]
        calibration, missing = self._calibration_file(), list(self.notes)
        if cameras and calibration is None:
            missing.append("no calibration file; give calibration=FILE")
        first = max(lidars, key=lambda topic: topic.count)
        missing += [f"{topic.name} is left out: one LiDAR is taken" for topic in lidars if topic != first]
        columns = columns_of_files(self.streams[first.name].paths, missing)
        channels = self._channels(cameras, calibration)
        config = ConvertConfig.model_validate(
            {
                "name": safe_name(self.path.resolve().name, "log"),
                "lidars": (LidarStream(topic=first.name, columns=columns),),
                "cameras": {channels[topic]: CameraStream(topic=topic) for topic in cameras},
                "poses": self._poses(first, missing),
            }
        )
        return Setup(config, tuple(missing), () if calibration is None else _said(calibration))

    def _poses(self, lidar: Topic, missing: list[str]) -> Poses:
        if (self.path / _POSES).is_file():
            return "file"
        guessed, why = scans_alone(lidar)
        missing.append(why)
        return guessed

    def calibration(self, config: ConvertConfig) -> Calibration:
        """The calibration file in the folder; raises `UserError` where there is none."""
        if not config.chosen_cameras:
            return Calibration("none", str(self.path), {})
        found = self._calibration_file()
        if found is None:
            raise UserError(
                f"{self.path}: no calibration file in this folder, and it has cameras; give calibration=FILE, or leave "
                "them out with cameras.CHANNEL=null"
            )
        return by_channel(found, config)

    def motion(self, config: ConvertConfig) -> Motion:
        """The poses of `poses.txt`; raises `UserError` where there is none, or it is damaged."""
        if config.poses != "file":
            raise UserError(f"{self.path}: poses: {config.poses} are none of a folder; set poses=file or unknown")
        path, times = self.path / _POSES, self.streams[config.lidars[0].topic].times_ns
        poses = read_poses(path, len(times))
        track = trajectory(times, poses, str(path)) if isinstance(poses, np.ndarray) else poses
        return Motion(track, np.eye(4), "file")

    @functools.cache  # noqa: B019 (a log lives as long as what is read from it)
    def _calibration_file(self) -> Calibration | None:
        """The file of the folder that is called as a calibration, or the one that is likely to be one; None without."""
        named = calibration_file(self.path)
        if named is not None:
            return read_calibration(named)
        there = sorted(one for one in self.path.iterdir() if one.suffix.lower() in _CALIBRATIONS and one.name != _POSES)
        likely = [path for path in there if "cal" in path.stem.lower() or "cam" in path.stem.lower()]
        if not likely:
            return None
        return read_calibration(likely[0] if len(likely) == 1 else self.path)

    def _channels(self, topics: list[str], calibration: Calibration | None) -> dict[str, str]:
        """The names that the calibration has where they fit a folder, else guessed ones."""
        guessed, named = channel_names(topics), calibration_file(self.path)
        folders = {name: name for name in calibration.cameras} if calibration else {}
        if named is not None:
            folders |= {Path(folder).name: name for name, folder in read_keys(named).images.items()}
        for topic in topics:
            camera = folders.get(Path(topic).parent.name)
            if camera is not None:
                guessed[topic] = safe_name(camera, guessed[topic])
        return guessed


def _sensors(root: Path) -> tuple[list[tuple[Kind, str, str]], set[str]]:
    """Kind, folder and suffix of each sensor, and names of recordings; folders of labels and hidden ones are left out.

    Folders of one name below those of clouds and of pictures are recordings, and belong to the sensors above them.
    """
    places = _walk(root)
    deep = {(kind, place) for kind, place, _ in places if place != root and place.parent != root}
    clouds = {place.name for kind, place in deep if kind == "lidar"}
    recordings = clouds & {place.name for kind, place in deep if kind == "camera"}
    sensors = {
        (kind, place.parent if (kind, place) in deep and place.name in recordings else place, suffix)
        for kind, place, suffix in places
    }
    named = [
        (kind, f"{place.relative_to(root).as_posix()}/".removeprefix("./"), suffix)
        for kind, place, suffix in sorted(sensors)
    ]
    return named, recordings


def _walk(root: Path) -> set[tuple[Kind, Path, str]]:
    found: set[tuple[Kind, Path, str]] = set()
    for folder, below, names in os.walk(root):
        below[:] = [one for one in below if not _is_other(one)]
        for name in names:
            suffix = Path(name).suffix.lower()
            kind: Kind | None = "lidar" if suffix in SUFFIXES else "camera" if suffix in IMAGES else None
            if kind is not None and not name.startswith("."):
                found.add((kind, Path(folder), suffix))
    return found


def _said(calibration: Calibration) -> tuple[str, ...]:
    return (f"calibration: {calibration.form}, {calibration.source}", *calibration.notes)


def _is_other(folder: str) -> bool:
    return folder.startswith(".") or any(word in folder.lower() for word in _LABELS)


def _stream(name: str, kind: Kind, times_ns: list[int], files: list[Taken]) -> Stream:
    order = sorted(range(len(files)), key=lambda place: (times_ns[place], place))
    what = "files of clouds" if kind == "lidar" else "files of images"
    return Stream(name, kind, what, [times_ns[place] for place in order], [files[place].path for place in order])
