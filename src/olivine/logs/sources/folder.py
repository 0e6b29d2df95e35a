"""A folder of clouds and pictures as a log: a stream for each folder and suffix below it, and a calibration file.

    <folder>/lidar/1678066887800777984.pcd …     .pcd .bin .ply .las .laz .npy
             cam_front/1678066887770777984.jpg …
             calibration.yaml                    any form that `olivine.calibration.read_calibration` knows
             poses.txt                           optional: time (s) x y z qx qy qz qw, the pose of the first LiDAR

Times are in the names; where they are not, files of the same name belong together, a tenth of a second apart.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np

from olivine.calibration import Calibration, read_calibration, trajectory
from olivine.errors import UserError
from olivine.geometry import rigid_transform
from olivine.logs.fields import columns_of_files
from olivine.logs.log import Motion, Setup
from olivine.logs.recipe import CameraStream, ConvertConfig, LidarStream, safe_name
from olivine.logs.setups import channel_names, scans_alone
from olivine.logs.sources.files import IMAGES, FileLog, Stream, by_channel
from olivine.logs.sources.times import assumed_times, times_of_names
from olivine.logs.topics import Kind, with_points
from olivine.reading import TEXT_BYTES, read_file
from olivine.scans import SUFFIXES

_POSES = "poses.txt"
_CALIBRATIONS = (".yaml", ".yml", ".json", ".txt")
_LABELS = ("label", "mask", "camseg", "superpixel")


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
        """Whether there are clouds in it, or pictures of clouds' names."""
        return path.is_dir() and any(kind == "lidar" for kind, _, _ in _walk(path))

    def find_streams(self) -> list[Stream]:
        """A stream for each folder and suffix; raises `UserError` where names are no times and do not agree."""
        found = {name: (kind, paths) for kind, name, paths in _walk(self.path)}
        times = {name: times_of_names(paths) for name, (_, paths) in found.items()}
        if not all(times.values()):
            assumed = assumed_times({name: paths for name, (_, paths) in found.items()})
            if assumed is None:
                name = next(name for name, known in times.items() if not known)
                raise UserError(
                    f"{self.path}: names of {name} are no times (e.g. 1678066887800777984, ns since 1970), and the "
                    "folders have no names in common, by which files would belong together; rename the files so"
                )
            self.notes.append("names are no times: files of one name belong together, and are taken 0.1 s apart")
            times = dict(assumed)
        return [_stream(name, kind, times[name] or [], paths) for name, (kind, paths) in found.items()]

    def propose(self) -> Setup:
        """The recipe, guessed from names; raises `UserError` without clouds."""
        lidars = with_points(self.topics, self.path)
        cameras = [topic for topic in self.topics if topic.kind == "camera"]
        missing = list(self.notes)
        calibration = self._calibration_file
        if cameras and calibration is None:
            missing.append("no calibration file; give calibration=FILE")
        first = max(lidars, key=lambda topic: topic.count)
        missing += [f"{topic.name} is left out: one LiDAR is taken" for topic in lidars if topic != first]
        if (self.path / _POSES).is_file():
            poses = {"poses": "file"}
        else:
            guessed, why = scans_alone(first)
            poses = {"poses": guessed}
            missing.append(why)
        columns = columns_of_files(self.streams[first.name].paths, missing)
        channels = self._channels([topic.name for topic in cameras])
        config = ConvertConfig.model_validate(
            {
                "name": safe_name(self.path.resolve().name, "log"),
                "lidars": (LidarStream(topic=first.name, columns=columns),),
                "cameras": {channels[topic.name]: CameraStream(topic=topic.name) for topic in cameras},
                **poses,
            }
        )
        return Setup(config, tuple(missing), () if calibration is None else _said(calibration))

    def calibration(self, config: ConvertConfig) -> Calibration:
        """The calibration file in the folder; raises `UserError` where there is none."""
        found = self._calibration_file
        if found is None and config.chosen_cameras:
            raise UserError(
                f"{self.path}: no calibration file in this folder, and it has cameras; give calibration=FILE, or leave "
                "them out with cameras.CHANNEL=null"
            )
        return Calibration("none", str(self.path), {}) if found is None else by_channel(found, config)

    def motion(self, config: ConvertConfig) -> Motion:
        """The poses of `poses.txt`; raises `UserError` where there is none, or it is damaged."""
        if config.poses != "file":
            raise UserError(f"{self.path}: poses: {config.poses} are none of a folder; set poses=file or unknown")
        path = self.path / _POSES
        try:
            text = read_file(path, "these poses", limit=TEXT_BYTES).decode("utf-8", errors="replace")
            lines = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
            rows = np.array(lines, np.float64).reshape(-1, 8)
        except ValueError as error:
            raise UserError(f"{path}: each line is time x y z qx qy qz qw ({error})") from error
        seconds = [word[0].partition(".") for word in lines]
        times = [int(whole) * 1_000_000_000 + int(part.ljust(9, "0")[:9] or 0) for whole, _, part in seconds]
        poses = [rigid_transform((row[7], *row[4:7]), row[1:4]) for row in rows]
        return Motion(trajectory(times, np.array(poses), str(path)), np.eye(4), "file")

    @functools.cached_property
    def _calibration_file(self) -> Calibration | None:
        """The one file of the folder that is a calibration; what is wrong with one that is called so is raised."""
        try:
            return read_calibration(self.path)
        except UserError:
            pass
        candidates = sorted(p for p in self.path.iterdir() if p.suffix.lower() in _CALIBRATIONS and p.name != _POSES)
        likely = [path for path in candidates if "cal" in path.stem.lower() or "cam" in path.stem.lower()]
        return read_calibration(likely[0]) if len(likely) == 1 else None

    def _channels(self, topics: list[str]) -> dict[str, str]:
        """The names that the calibration has where they fit a folder, else guessed ones."""
        guessed = channel_names(topics)
        known = self._calibration_file.cameras if self._calibration_file else {}
        for topic in topics:
            folder = Path(topic).parent.name
            if folder in known:
                guessed[topic] = safe_name(folder, guessed[topic])
        return guessed


def _walk(root: Path) -> list[tuple[Kind, str, list[Path]]]:
    """Files of clouds and pictures by `folder/*.suffix`, sorted; folders of labels and hidden ones are left out."""
    groups: dict[tuple[Kind, str], list[Path]] = {}
    for folder, below, names in os.walk(root):
        below[:] = sorted(one for one in below if not _is_other(one))
        place = f"{Path(folder).relative_to(root).as_posix()}/".removeprefix("./")
        for name in sorted(names):
            suffix = Path(name).suffix.lower()
            kind: Kind | None = "lidar" if suffix in SUFFIXES else "camera" if suffix in IMAGES else None
            if kind is not None and not name.startswith("."):
                groups.setdefault((kind, f"{place}*{suffix}"), []).append(Path(folder) / name)
    return [(kind, key, paths) for (kind, key), paths in groups.items()]


def _said(calibration: Calibration) -> tuple[str, ...]:
    return (f"calibration: {calibration.form}, {calibration.source}", *calibration.notes)


def _is_other(folder: str) -> bool:
    return folder.startswith(".") or any(word in folder.lower() for word in _LABELS)


def _stream(name: str, kind: Kind, times: list[int], paths: list[Path]) -> Stream:
    order = sorted(range(len(paths)), key=lambda place: (times[place], paths[place].name))
    what = "files of clouds" if kind == "lidar" else "files of images"
    return Stream(name, kind, what, [times[place] for place in order], [paths[place] for place in order])
