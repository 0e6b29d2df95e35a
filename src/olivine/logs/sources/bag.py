"""Bags of ROS as logs: streams are topics, calibration is `camera_info` and the tree of transforms."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from olivine.calibration import Calibration, CameraCalibration, CameraModel, TransformTree
from olivine.errors import UserError, printable
from olivine.logs.bags import Bag, open_bag
from olivine.logs.containers import SUFFIXES, is_bag
from olivine.logs.log import Log, Motion, SensorReading, Setup
from olivine.logs.messages import CameraInfo
from olivine.logs.recipe import CameraStream, ConvertConfig
from olivine.logs.sources.bag_poses import odometry_poses, read_transforms, tf_poses
from olivine.logs.sources.bag_setup import propose_for_bag
from olivine.logs.topics import Topic, with_points

_FORMS = {".bag": "a bag of ROS 1", ".db3": "a bag of ROS 2 (db3)", ".mcap": "a bag of ROS 2 (MCAP)"}


class BagLog(Log):
    """A bag.

    Args:
        path: a file, or a folder of files of one bag.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bag: Bag = open_bag(path)
        self.form = _FORMS[self.files[0].suffix] if self.files else "a bag"

    @classmethod
    def recognise(cls, path: Path) -> bool:
        """Whether it is a bag, or a folder of them."""
        return is_bag(path)

    def close(self) -> None:
        """Close the files."""
        self.bag.close()

    @functools.cached_property
    def topics(self) -> tuple[Topic, ...]:
        """Every topic, by name; raises `UserError` where the bag is damaged."""
        return self.bag.topics

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the bag."""
        if self.path.is_file():
            return (self.path,)
        return tuple(sorted(file for file in self.path.iterdir() if file.suffix in SUFFIXES))

    def propose(self) -> Setup:
        """The recipe, guessed from topics, types and frames; raises `UserError` without points."""
        with_points(self.topics, self.path)
        return propose_for_bag(self.path, self.topics, self.tree)

    @functools.cached_property
    def tree(self) -> TransformTree:
        """All transforms between frames."""
        return read_transforms(self.bag)

    def calibration(self, config: ConvertConfig) -> Calibration:
        """`camera_info` and transforms; raises `UserError` without either, naming topics and frames."""
        first = self.frame_of(config.lidars[0].topic)
        cameras = {channel: self._camera(channel, stream, first) for channel, stream in config.chosen_cameras.items()}
        lidars = {one.topic: self.tree.transform(first, self.frame_of(one.topic)) for one in config.lidars}
        return Calibration("camera_info and tf of the log", str(self.path), cameras, lidars)

    def motion(self, config: ConvertConfig) -> Motion:
        """The poses of the odometry or of the transforms; raises `UserError` where there are none."""
        frame = self.frame_of(config.lidars[0].topic)
        if config.poses == "odometry":
            return odometry_poses(self.bag, self.tree, config, frame)
        if config.poses == "tf":
            return tf_poses(self.tree, config, frame)
        raise UserError(f"{self.path}: poses: {config.poses} are none of a bag; set poses=odometry, tf or unknown")

    def readings(self, config: ConvertConfig, topics: tuple[str, ...] | None = None) -> Iterator[SensorReading]:
        """Messages of the recipe's topics; see `Bag.readings`."""
        start_ns, stop_ns = self.span_ns(config)
        return self.bag.readings(topics or config.topics, start_ns, stop_ns + 1)

    def frame_of(self, topic: str) -> str:
        """The frame of a topic's messages.

        Raises:
            UserError: they name none.
        """
        frame = self.topic(topic).frame_id
        if not frame:
            raise UserError(
                f"{self.path}: messages of {printable(topic)} name no frame, so nothing says where that sensor is; "
                "give a calibration file"
            )
        return frame

    def info(self, topic: str) -> CameraInfo:
        """The first calibration of a topic `camera_info`; raises `UserError` where there is none."""
        found = next(self.bag.readings((topic,)), None)
        if found is None:
            raise UserError(f"{self.path}: topic {printable(topic)} has no messages; give a calibration file")
        return found.camera_info()

    def _camera(self, channel: str, stream: CameraStream, lidar_frame: str) -> CameraCalibration:
        if stream.info is None:
            raise UserError(
                f"{self.path}: camera {channel} ({printable(stream.topic)}) has no camera_info; give calibration=FILE, "
                f"or leave it out with cameras.{channel}=null"
            )
        info = self.info(stream.info)
        frame = self.topic(stream.topic).frame_id or info.frame_id
        if not frame:
            self.frame_of(stream.topic)
        return CameraCalibration(_model(info, stream), self.tree.transform(frame, lidar_frame))


def _model(info: CameraInfo, stream: CameraStream) -> CameraModel:
    """The lens of the pictures as they are recorded."""
    if not stream.rectified:
        return info.camera
    return info.rectified or replace(info.camera, distortion="none", coefficients=())
