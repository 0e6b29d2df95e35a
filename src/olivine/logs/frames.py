"""The frames of a log: matched readings with poses, whose clouds and images are made when they are asked for.

    log ──▶ readings ──▶ Matcher ──▶ LogFrame ──┬─▶ cloud(): decode, undistort, merge
                                                └─▶ images: decode, rectify

`frames` is what `convert` writes and `predict` streams through a network. Nothing is decoded until it is asked for, so
that frames that were done before pass by in no time; and all of it may be done in threads.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from olivine.errors import UserError
from olivine.geometry import invert
from olivine.logs.clouds import Cloud, TimedScan, merged_cloud, require_decodable
from olivine.logs.log import Log, Motion, SensorReading
from olivine.logs.matching import Match, Matcher, Rules, Tally
from olivine.logs.odometry import find_motion
from olivine.logs.pictures import Picture
from olivine.logs.recipe import ConvertConfig
from olivine.logs.rejected import Rejected
from olivine.logs.rig import RigCamera, find_rig

_JPEG_END = b"\xff\xd9"

__all__ = ["LogFrame", "LogFrames", "LogImage", "Rejected", "frames"]


@dataclass(frozen=True, eq=False)
class LogImage:
    """A picture of a frame.

    Attributes:
        channel: of its camera.
        time_ns: when it was taken, on the vehicle's clock.
        camera: its calibration.
        reading: the picture as it was recorded.
        global_from_ego: [4, 4] float64 pose of the vehicle at that time, or None where poses are unknown.
    """

    channel: str
    time_ns: int
    camera: RigCamera
    reading: SensorReading
    global_from_ego: NDArray[np.float64] | None

    def rgb(self) -> NDArray[np.uint8]:
        """[H, W, 3] uint8, rectified where the recipe says so.

        Raises:
            Rejected: the picture is damaged.
            UserError: it is no picture, or of another size than its calibration.
        """
        rectifier = self.camera.rectifier(self.size)
        try:
            return rectifier.apply(self._picture.rgb())
        except UserError as error:
            raise Rejected(f"an image of {self.channel} cannot be decoded", str(error)) from error

    def jpeg(self, quality: int) -> bytes:
        """The same as a JPEG file: the recorded one where nothing has to be done to it.

        Args:
            quality: of what is encoded anew, 1…100.

        Raises:
            Rejected, UserError: as of `rgb`.
        """
        recorded = self._picture.jpeg
        if recorded is not None and recorded.rstrip(b"\0").endswith(_JPEG_END) and not self._changes:
            return recorded
        content = io.BytesIO()
        Image.fromarray(self.rgb()).save(content, "JPEG", quality=quality)
        return content.getvalue()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), pixels."""
        return self._picture.size

    @functools.cached_property
    def _picture(self) -> Picture:
        return self.reading.picture()

    @property
    def _changes(self) -> bool:
        return self.camera.rectifier(self.size).changes

    def intrinsics(self) -> NDArray[np.float64]:
        """[3, 3] float64 camera matrix of the image as `rgb` gives it, pixels."""
        return self.camera.rectifier(self.size).rectified.intrinsics

    @property
    def camera_from_lidar(self) -> NDArray[np.float64]:
        """[4, 4] float64, both at one time; see `LogFrame.camera_from_lidar` for what lies between."""
        return self.camera.camera_from_lidar


@dataclass(frozen=True, eq=False)
class LogFrame:
    """One moment of a log.

    Attributes:
        scene: number of its scene, from 1.
        time_ns: of the scan, on the vehicle's clock.
        scans: the scans of all LiDARs, the first one's first.
        images: the pictures, in the order of the recipe.
        global_from_ego: [4, 4] float64 pose of the vehicle, or None where poses are unknown.
        owner: the log's frames that it is one of.
    """

    scene: int
    time_ns: int
    scans: tuple[TimedScan, ...]
    images: tuple[LogImage, ...]
    global_from_ego: NDArray[np.float64] | None
    owner: LogFrames

    def cloud(self) -> Cloud:
        """The points of all LiDARs at `time_ns`, undistorted where the recipe says so.

        Raises:
            Rejected: a scan is damaged, there are no points, or some were taken when the pose is not known.
            UserError: the coordinates are those of a map, or a file cannot be read.
        """
        return merged_cloud(self.scans, self.time_ns, self.owner.rig, self.owner.motion, self.owner.config)

    @property
    def global_from_lidar(self) -> NDArray[np.float64] | None:
        """[4, 4] float64 pose of the first LiDAR, or None where poses are unknown."""
        pose = self.global_from_ego
        return None if pose is None else pose @ self.owner.motion.ego_from_lidar

    def camera_from_lidar(self, image: LogImage) -> NDArray[np.float64]:
        """[4, 4] float64 from the LiDAR at the time of the cloud to the camera at the time of its image, metres."""
        before, after = self.global_from_lidar, image.global_from_ego
        if before is None or after is None:
            return image.camera_from_lidar
        lidar_then = after @ self.owner.motion.ego_from_lidar
        return image.camera_from_lidar @ invert(lidar_then) @ before


class LogFrames:
    """The frames of a log, in the order of time; can be gone through once at a time. Made by `frames`.

    The first scan of each LiDAR has to be decodable. The calibration is judged by the first frame that can be decoded,
    and refused with the likely mend where it cannot be right.

    Args:
        log: the log.
        config: the recipe.
        cache: folder in which poses are kept that had to be estimated, or None.

    Attributes:
        rig: where its sensors are.
        motion: where the vehicle was.
        tally: what became of its scans, so far; starts anew with every pass.
        start_ns: log time of the first reading.
        stop_ns: log time of the last.
    """

    def __init__(self, log: Log, config: ConvertConfig, cache: Path | None = None) -> None:
        self.log, self.config = log, config
        self.start_ns, self.stop_ns = log.span_ns(config)
        self.rig = find_rig(log, config)
        self.motion: Motion = find_motion(log, config, cache)
        self.tally = Tally()
        self._channels = {stream.topic: channel for channel, stream in config.chosen_cameras.items()}
        self._places = {stream.topic: place for place, stream in enumerate(config.lidars)}
        self._offsets_ns = {stream.topic: round(stream.clock_offset_ms * 1e6) for stream in config.streams}

    def __iter__(self) -> Iterator[LogFrame]:
        self.tally = Tally()
        others = tuple(topic for topic in self._offsets_ns if self._places.get(topic) != 0)
        names = {topic: self._channels.get(topic, topic) for topic in others}
        matcher: Matcher[SensorReading] = Matcher(self._rules(others), names, self._without_pose, self.tally)
        judged, seen = not self.rig.cameras, set[int]()
        for match in matcher.matches(self._readings()):
            frame = self._frame(match)
            for timed in frame.scans:
                if timed.place not in seen:
                    seen.add(timed.place)
                    require_decodable(timed.reading, self.config.lidars[timed.place].columns)
            judged = judged or self._judged(frame)
            yield frame

    def _judged(self, frame: LogFrame) -> bool:
        """Refuse a calibration that a frame shows to be none; False where the frame cannot be decoded."""
        try:
            points_m, sizes = frame.cloud().points_m, {image.channel: image.size for image in frame.images}
        except Rejected:
            return False
        self.rig.require_plausible(points_m, sizes, self.config.calibration or self.log.path)
        return True

    def _rules(self, others: tuple[str, ...]) -> Rules:
        config, rate_hz = self.config, self.log.topic(self.config.lidars[0].topic).rate_hz
        return Rules(
            others,
            round(config.max_gap_ms * 1e6),
            complete=config.incomplete == "reject",
            period_ns=None if config.keyframe_hz is None else 1e9 / config.keyframe_hz,
            spacing_ns=1e9 / rate_hz if rate_hz else 0.0,
            scene_gap_ns=round(config.scene_gap_s * 1e9),
            scene_ns=None if config.scene_s is None else config.scene_s * 1e9,
        )

    def _readings(self) -> Iterator[tuple[str | None, int, SensorReading]]:
        for reading in self.log.readings(self.config):
            topic = reading.topic.name
            key = None if self._places.get(topic) == 0 else topic
            yield key, reading.stamp_ns + self._offsets_ns[topic], reading

    def _without_pose(self, match: Match[SensorReading]) -> str | None:
        poses = self.motion.world_from_ego
        if poses is None:
            return None
        times = [match.time_ns, *(time for topic, (time, _) in match.others.items() if topic in self._channels)]
        return None if poses.covers(times).all() else f"no pose from {self.motion.origin} at its time"

    def _frame(self, match: Match[SensorReading]) -> LogFrame:
        scans = [TimedScan(0, match.time_ns, match.scan)]
        scans += [
            TimedScan(self._places[topic], time, reading)
            for topic, (time, reading) in match.others.items()
            if topic in self._places
        ]
        images = tuple(
            self._image(channel, *match.others[topic])
            for topic, channel in self._channels.items()
            if topic in match.others
        )
        return LogFrame(match.scene, match.time_ns, tuple(scans), images, self._pose(match.time_ns), self)

    def _image(self, channel: str, time_ns: int, reading: SensorReading) -> LogImage:
        return LogImage(channel, time_ns, self.rig.cameras[channel], reading, self._pose(time_ns))

    def _pose(self, time_ns: int) -> NDArray[np.float64] | None:
        poses = self.motion.world_from_ego
        return None if poses is None else poses.at(time_ns)


def frames(log: Log, config: ConvertConfig, cache: Path | None = None) -> LogFrames:
    """The frames of a log, by a recipe.

    Args:
        log: an open log.
        config: the recipe, e.g. `log.propose().config`.
        cache: folder in which poses are kept that had to be estimated, or None.

    Returns:
        To be gone through: `for frame in frames(log, config): frame.cloud()`. A frame may turn out `Rejected` when it
        is decoded; what is amiss with single scans before that is counted in `tally`.

    Raises:
        UserError: the recipe does not fit the log, a sensor is not calibrated, or there are no poses as it wants them.
    """
    return LogFrames(log, config, cache)
