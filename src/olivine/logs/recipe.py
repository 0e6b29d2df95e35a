"""What `convert` is told: which streams of a log become which channels, how they are matched, and where poses are from.

`olivine.logs.proposal` makes one for a log; `olivine convert SOURCE --list` prints it, ready to be edited.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, field_validator, model_validator

from olivine.config import Config
from olivine.scans import ScanColumns

Poses = Literal["odometry", "tf", "file", "kiss-icp", "unknown"]
"""Where poses of the vehicle are from: a topic of odometry, the tree of transforms, files beside the scans, matching of
the scans themselves, or nowhere."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Channels and scenes become names of folders and files."""


class LidarStream(Config):
    """One LiDAR of a log."""

    topic: str
    """Its topic, or its folder."""

    clock_offset_ms: float = Field(default=0.0, allow_inf_nan=False)
    """Added to its times, where its clock differs from the vehicle's."""

    columns: ScanColumns = ScanColumns()
    """What its fields mean, where names and content leave that open."""


class CameraStream(Config):
    """One camera of a log."""

    topic: str
    """Its topic, or its folder."""

    info: str | None = None
    """Topic of its calibration (`camera_info`); null where a calibration file has it."""

    rectified: bool = False
    """Its pictures are rectified already, and the calibration's distortion is no longer in them."""

    upright: bool = True
    """The picture's up is roughly the LiDAR's z, by which a transform the wrong way round is told. Say false for a
    camera that is mounted turned."""

    clock_offset_ms: float = Field(default=0.0, allow_inf_nan=False)
    """Added to its times, where its clock differs from the LiDAR's."""


class ConvertConfig(Config):
    """How a log becomes a dataset."""

    kind: Literal["convert"] = "convert"
    """What it is a recipe of."""

    name: str
    """What scenes and files are called by."""

    version: str = "v1.0-log"
    """Name of the folder of tables."""

    channel: str = "LIDAR_TOP"
    """Channel of the cloud, of all LiDARs together; the official devkit looks for `LIDAR_TOP`."""

    lidars: tuple[LidarStream, ...] = Field(min_length=1)
    """The LiDARs. The times and the frame of the first are those of the cloud; the others are merged into it."""

    cameras: dict[str, CameraStream | None] = Field(default_factory=dict)
    """The cameras by the channel that each becomes; null leaves one out."""

    calibration: Path | None = None
    """A calibration file or folder, in place of what the log says; see the guide for the forms."""

    poses: Poses
    """Where poses of the vehicle are from; `unknown` is said in the dataset, and what needs poses says so."""

    odometry: str | None = None
    """Topic of the odometry."""

    global_frame: str | None = None
    """The frame that the vehicle drives in, for poses from tf, e.g. `odom` or `map`."""

    ego_frame: str | None = None
    """The frame of the vehicle, e.g. `base_link`; null is the first LiDAR's."""

    max_gap_ms: PositiveFloat = 50.0
    """An image, or a scan of another LiDAR, is matched to a scan at most this far in time."""

    incomplete: Literal["reject", "keep"] = "reject"
    """A scan for which a camera or a further LiDAR has nothing is rejected and counted, or kept without."""

    keyframe_hz: PositiveFloat | None = 2.0
    """Scans kept a second; null keeps all."""

    scene_gap_s: PositiveFloat = 3.0
    """Keyframes farther apart belong to two scenes."""

    scene_s: PositiveFloat | None = None
    """Longest scene, so that one drive can be split into training and validation; null for no limit."""

    start_s: NonNegativeFloat = 0.0
    """Leave out what was recorded in so many seconds from the start."""

    stop_s: PositiveFloat | None = None
    """Leave out what was recorded so many seconds after the start, or later."""

    undistort: bool = True
    """Carry every point to the scan's time where it has a time of its own and poses are known."""

    rectify: bool = True
    """Take the lens's distortion out of the images. Without it they stay as they are, and points miss their pixels."""

    border: float = Field(default=0.0, ge=0, le=1)
    """Of rectified images: 0 cuts off what leaves a black border, 1 keeps everything that the camera saw."""

    jpeg_quality: int = Field(default=95, ge=1, le=100)
    """Of images that have to be encoded anew."""

    intensity_max: PositiveFloat | None = None
    """Top of the range of intensities, at which they are cut off; null measures it over the log."""

    @field_validator("name", "version", "channel")
    @classmethod
    def _name_of_a_folder(cls, value: str) -> str:
        return checked_name(value)

    @field_validator("cameras")
    @classmethod
    def _names_of_folders(cls, cameras: dict[str, CameraStream | None]) -> dict[str, CameraStream | None]:
        for channel in cameras:
            checked_name(channel)
        if len({channel.lower() for channel in cameras}) < len(cameras):
            raise ValueError("two channels differ in capitals alone, which some disks take for one folder")
        return cameras

    @model_validator(mode="after")
    def _each_stream_once(self) -> ConvertConfig:
        topics = self.topics
        twice = next((topic for topic in topics if topics.count(topic) > 1), None)
        if twice is not None:
            raise ValueError(f"the topic {twice!r} is used twice")
        if self.channel in self.cameras:
            raise ValueError(f"{self.channel} is the channel of the cloud and of a camera")
        if self.poses == "odometry" and self.odometry is None:
            raise ValueError("poses: odometry needs odometry, the topic")
        if self.poses == "tf" and self.global_frame is None:
            raise ValueError("poses: tf needs global_frame, the frame that the vehicle drives in")
        if self.keyframe_hz is not None and self.scene_gap_s <= 1 / self.keyframe_hz:
            raise ValueError(
                "scene_gap_s is no longer than the time between keyframes; every scene would be one keyframe"
            )
        if self.stop_s is not None and self.stop_s <= self.start_s:
            raise ValueError("stop_s is not after start_s")
        return self

    @property
    def chosen_cameras(self) -> dict[str, CameraStream]:
        """The cameras that are not left out, by channel."""
        return {channel: camera for channel, camera in self.cameras.items() if camera is not None}

    @property
    def topics(self) -> list[str]:
        """Topics of all LiDARs and cameras."""
        return [stream.topic for stream in self.streams]

    @property
    def streams(self) -> list[LidarStream | CameraStream]:
        """All LiDARs and cameras that are taken, the LiDARs first."""
        return [*self.lidars, *self.chosen_cameras.values()]


def checked_name(value: str) -> str:
    """A name that is safe for a folder; raises `ValueError` for another."""
    if not _NAME.fullmatch(value) or ".." in value:
        raise ValueError("becomes the name of a folder: letters, digits, - _ and single dots, at most 64, no / in it")
    return value


def safe_name(text: str, fallback: str) -> str:
    """The letters, digits and underscores of a text, as a name that is safe for a folder."""
    words = "_".join(re.findall(r"[A-Za-z0-9]+", text))[:48]
    return words or fallback
