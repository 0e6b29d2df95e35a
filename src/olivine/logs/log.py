"""The seam between logs and what is made of them: a `Log` gives readings in time order, calibration and poses.

A source is a file of `olivine.logs.sources` with a class that inherits `Log`: bags, folders, KITTI raw, RELLIS-3D.
`olivine.logs.open_log` finds out which one a path is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from olivine.calibration import Calibration, Trajectory
from olivine.errors import UserError, printable
from olivine.logs.pictures import Picture
from olivine.logs.recipe import ConvertConfig, Poses
from olivine.logs.topics import Kind, Topic, named
from olivine.scans import Scan, ScanColumns


class SensorReading(Protocol):
    """One scan or picture of a log, decoded when it is asked for, from any thread."""

    @property
    def topic(self) -> Topic:
        """Where it is from."""
        ...

    @property
    def log_ns(self) -> int:
        """When it was recorded, nanoseconds since 1970; readings come in this order."""
        ...

    @property
    def stamp_ns(self) -> int:
        """When it was taken by the sensor's clock, nanoseconds since 1970."""
        ...

    @property
    def source(self) -> str:
        """Names it in errors."""
        ...

    def scan(self, columns: ScanColumns | None = None) -> Scan:
        """The points of a LiDAR, in its own frame; `columns` says what is not known of their fields.

        Raises:
            UserError: there are none to be read.
        """
        ...

    def picture(self) -> Picture:
        """The picture of a camera; raises `UserError` where there is none to be read."""
        ...


@dataclass(frozen=True, eq=False)
class Motion:
    """Where the vehicle was.

    Attributes:
        world_from_ego: its poses, or None where they are unknown.
        ego_from_lidar: [4, 4] float64 pose of the first LiDAR on the vehicle, metres.
        origin: where the poses are from.
    """

    world_from_ego: Trajectory | None = None
    ego_from_lidar: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    origin: Poses = "unknown"


@dataclass(frozen=True)
class Setup:
    """What a log offers for a recipe, and what it lacks.

    Attributes:
        config: the recipe that `convert` would follow.
        missing: what stands in the way of it, or is not known, a line each.
        found: what was found beside the streams, such as a calibration, a line each.
    """

    config: ConvertConfig
    missing: tuple[str, ...] = ()
    found: tuple[str, ...] = ()


class Log(ABC):
    """A recording; a context manager that closes it.

    Attributes:
        path: names it in errors.
        form: what it was taken for, for people, e.g. `"a bag of ROS 2 (MCAP)"`.
    """

    path: Path
    form: str

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    @abstractmethod
    def recognise(cls, path: Path) -> bool:
        """Whether a path is a log of this kind, by names of files alone."""

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 (most sources hold nothing open)
        """Close the files."""

    @property
    @abstractmethod
    def topics(self) -> tuple[Topic, ...]:
        """Everything that was recorded, by name, sensors or not.

        Raises:
            UserError: damaged.
        """

    @property
    @abstractmethod
    def files(self) -> tuple[Path, ...]:
        """The files that it consists of, in a fixed order."""

    @abstractmethod
    def propose(self) -> Setup:
        """The recipe that would be followed, guessed from what is there.

        Raises:
            UserError: no points in it.
        """

    @abstractmethod
    def calibration(self, config: ConvertConfig) -> Calibration:
        """What the log itself says of its sensors.

        Args:
            config: which streams; `config.calibration` is not looked at.

        Returns:
            Cameras by channel; `lidars` by topic, into the frame of the first, where there are several.

        Raises:
            UserError: a camera without calibration, or no path between two frames; both are named.
        """

    @abstractmethod
    def motion(self, config: ConvertConfig) -> Motion:
        """The poses that the recipe asks for, `unknown` and `kiss-icp` excepted, which no log knows.

        Raises:
            UserError: there are none of that origin.
        """

    @abstractmethod
    def readings(self, config: ConvertConfig, topics: tuple[str, ...] | None = None) -> Iterator[SensorReading]:
        """Scans and pictures of the recipe's streams, between its `start_s` and `stop_s`, in the order of recording.

        Args:
            config: the recipe.
            topics: only these of its streams.

        Raises:
            UserError: an unknown topic, a damaged file, or stamps that run backwards.
        """

    def topic(self, name: str) -> Topic:
        """The topic of that name; raises `UserError` with the closest names where there is none."""
        return named(self.topics, name, self.path)

    def span_ns(self, config: ConvertConfig) -> tuple[int, int]:
        """First and last log time of what the recipe takes, nanoseconds since 1970.

        Raises:
            UserError: the recipe names a topic that is not there, empty, or of another kind, or takes nothing.
        """
        chosen = [self._expected(stream.topic, "lidar") for stream in config.lidars]
        chosen += [self._expected(stream.topic, "camera") for stream in config.chosen_cameras.values()]
        first = min(topic.first_ns for topic in chosen if topic.first_ns is not None)
        last = max(topic.last_ns for topic in chosen if topic.last_ns is not None)
        start = first + round(config.start_s * 1e9)
        stop = last if config.stop_s is None else min(last, first + round(config.stop_s * 1e9) - 1)
        if start > stop:
            raise UserError(
                f"{self.path}: start_s={config.start_s:g} leaves nothing of a log of {(last - first) / 1e9:.1f} s"
            )
        return start, stop

    def _expected(self, name: str, kind: Kind) -> Topic:
        """A topic of a kind that holds something."""
        topic = self.topic(name)
        if topic.kind != kind:
            what = topic.remark or f"a {printable(topic.type)}"
            raise UserError(f"{self.path}: topic {printable(name)} is {what}, and the recipe takes it for a {kind}")
        if not topic.count:
            raise UserError(f"{self.path}: topic {printable(name)} has no messages; leave it out of the recipe")
        return topic
