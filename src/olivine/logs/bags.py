"""Bags of ROS 1 and ROS 2 as one stream of readings in time order, decoded when asked for.

`open_bag` takes a `.bag`, `.db3` or `.mcap`, or a folder of one kind. Whatever the container, the same messages come
out in the same order: by log time, and those of one time by topic.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from olivine.errors import UserError, printable
from olivine.logs import messages
from olivine.logs.containers import Container, Record, Span, damaged, open_containers, rosbags
from olivine.logs.messages import CameraInfo, StampedTransform
from olivine.logs.pictures import Picture, compressed_picture, raw_picture
from olivine.logs.topics import Kind, Topic, kind_of, named, with_points
from olivine.scans import Scan, ScanColumns, scan_from_records

SAME_TIME_BYTES = 1 << 30
"""Messages of one log time are held together to be ordered; no more than this."""

_FRAMED: tuple[Kind, ...] = ("lidar", "camera", "camera_info", "odometry")


@dataclass(frozen=True)
class Reading:
    """One message, split into its fields; arrays are views until one of the methods below is called.

    Attributes:
        topic: where it was published.
        log_ns: when it was recorded, nanoseconds since 1970.
        message: the fields of the message.
        source: names the message in errors.
    """

    topic: Topic
    log_ns: int
    message: Any
    source: str
    _sizes: dict[str, tuple[int, int]] = field(repr=False)

    @functools.cached_property
    def stamp_ns(self) -> int:
        """Time of the header, nanoseconds since 1970; the log's where the header has none (0 or no header)."""
        header = getattr(self.message, "header", None)
        return (messages.stamp_of(header.stamp) if header is not None else 0) or self.log_ns

    @property
    def frame_id(self) -> str:
        """Coordinate frame of the header; empty where there is none."""
        header = getattr(self.message, "header", None)
        return messages.frame_name(header.frame_id) if header is not None else ""

    def scan(self, columns: ScanColumns | None = None) -> Scan:
        """The points of a LiDAR, in `frame_id`; possibly none.

        Args:
            columns: which fields are what, and the unit of times, where names do not say.

        Raises:
            UserError: no point cloud, or one whose fields make no points.
        """
        self._expect("lidar")
        records = messages.cloud_records(self.message, self.source)
        return scan_from_records(records, self.source, self.stamp_ns, columns, frame_id=self.frame_id)

    def picture(self) -> Picture:
        """The picture of a camera.

        Raises:
            UserError: no picture, of an encoding that is refused, or of another size than the topic's earlier ones.
        """
        self._expect("camera")
        read = compressed_picture if self.topic.type.endswith("CompressedImage") else raw_picture
        picture = read(self.message, self.source)
        first = self._sizes.setdefault(self.topic.name, picture.size)
        if picture.size != first:
            raise UserError(
                f"{self.source}: an image of {picture.size[0]}×{picture.size[1]}, but earlier ones of this topic have "
                f"{first[0]}×{first[1]}; one calibration cannot serve both: convert the parts of the log by themselves"
            )
        return picture

    def camera_info(self) -> CameraInfo:
        """The calibration of a camera.

        Raises:
            UserError: no calibration, or an empty one.
        """
        self._expect("camera_info")
        return messages.camera_info(self.message, self.source)

    def transforms(self) -> list[StampedTransform]:
        """Transforms between frames; those of a topic `tf_static` hold for all times.

        Raises:
            UserError: no transforms, or a rotation that is none.
        """
        self._expect("transforms")
        return messages.transforms(self.message, self.source)

    def pose(self) -> StampedTransform:
        """The pose of the vehicle by its odometry.

        Raises:
            UserError: no odometry, or a rotation that is none.
        """
        self._expect("odometry")
        return messages.pose(self.message, self.source)

    def _expect(self, kind: Kind) -> None:
        if self.topic.kind != kind:
            raise UserError(f"{self.source}: is a {printable(self.topic.type)} ({self.topic.kind}), no {kind}")


class Bag:
    """An open bag; a context manager that closes it.

    Args:
        path: names it in errors.
        containers: its files, open.
        stack: closes them.
    """

    def __init__(self, path: Path, containers: list[Container], stack: contextlib.ExitStack) -> None:
        self.path = path
        self._containers = containers
        self._stack = stack
        self._sizes: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> Bag:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    @functools.cached_property
    def topics(self) -> tuple[Topic, ...]:
        """Every topic, by name: from the indices of the containers, with the frames of first messages.

        Raises:
            UserError: damaged.
        """
        types: dict[str, set[str]] = {}
        spans: dict[str, Span] = {}
        for container in self._containers:
            for connection in container.reader.connections:
                types.setdefault(connection.topic, set()).add(connection.msgtype)
            for name, span in container.spans().items():
                spans.setdefault(name, Span()).add(span.count, span.first_ns, span.last_ns)
        return tuple(self._framed(_topic(name, types[name], spans.get(name))) for name in sorted(types))

    def topic(self, name: str) -> Topic:
        """The topic of that name.

        Raises:
            UserError: there is none; offers the closest names.
        """
        return named(self.topics, name, self.path)

    def of_kind(self, kind: Kind) -> tuple[Topic, ...]:
        """Topics of a kind that hold messages, by name."""
        return tuple(topic for topic in self.topics if topic.kind == kind and topic.count)

    def lidars(self) -> tuple[Topic, ...]:
        """Topics of points that hold messages, by name.

        Raises:
            UserError: there is none; names topics of packets for what they are.
        """
        return with_points(self.topics, self.path)

    def readings(
        self, topics: Iterable[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[Reading]:
        """Messages in the order of their log times, those of one time by topic.

        Args:
            topics: names.
            start_ns: no messages recorded before.
            stop_ns: no messages recorded then or later.

        Yields:
            Readings, one at a time; nothing but the chunk of the file at hand is held.

        Raises:
            UserError: an unknown topic, a damaged file, or stamps of a LiDAR or camera that run backwards.
        """
        chosen = {name: self.topic(name) for name in topics}
        stamps: dict[tuple[str, str], int] = {}
        for reading in self._decoded(chosen, start_ns, stop_ns):
            if reading.topic.kind in ("lidar", "camera"):
                last = stamps.get((reading.topic.name, reading.frame_id), 0)
                if reading.stamp_ns < last:
                    raise UserError(
                        f"{reading.source}: its stamps run backwards ({reading.stamp_ns / 1e9:.6f} s comes after "
                        f"{last / 1e9:.6f} s); was a clock set, or a log played again while it was recorded?"
                    )
                stamps[reading.topic.name, reading.frame_id] = reading.stamp_ns
            yield reading

    def _decoded(self, topics: dict[str, Topic], start_ns: int | None, stop_ns: int | None) -> Iterator[Reading]:
        streams = []
        for container in self._containers:
            connections = [one for one in container.reader.connections if one.topic in topics]
            streams.append(container.messages(connections, start_ns, stop_ns))
        for record in _by_time_and_topic(heapq.merge(*streams, key=_time), self.path):
            topic = topics[record.connection.topic]
            source = f"{self.path}: {printable(topic.name)} at {record.time_ns / 1e9:.6f} s"
            yield Reading(topic, record.time_ns, self._split(record, source), source, self._sizes)

    def _framed(self, topic: Topic) -> Topic:
        """The topic with the frame of its first message, where it has one."""
        if topic.first_ns is None or topic.kind not in _FRAMED:
            return topic
        first = next(self._decoded({topic.name: topic}, topic.first_ns, topic.first_ns + 1), None)
        return replace(topic, frame_id=first.frame_id or None) if first else topic

    @staticmethod
    def _split(record: Record, source: str) -> Any:
        """The fields of a message."""
        kind = record.connection.msgtype
        with damaged(Path(source), f"cannot be read as a {printable(kind)}"):
            form, text = record.connection.msgdef
            store = _types(kind, form.name, text, record.generation)
            if record.generation == 1:
                return store.deserialize_ros1(record.content, kind)
            return store.deserialize_cdr(record.content, kind)


def open_bag(path: Path) -> Bag:
    """Open a bag of ROS 1 or ROS 2.

    Args:
        path: a `.bag`, `.db3` or `.mcap`, or a folder of one kind of them, whose files are read as one.

    Returns:
        The bag, to be closed.

    Raises:
        UserError: no bag, or truncated (with what could be read of it).
        MissingExtraError: rosbags is not installed (extra `logs`).
    """
    with contextlib.ExitStack() as stack:
        containers = open_containers(path, stack)
        return Bag(path, containers, stack.pop_all())


@functools.lru_cache(maxsize=64)
def _types(name: str, form: str, text: str, generation: int) -> Any:
    """The definitions of a type of messages: those that the bag carries, else those of current ROS."""
    types = rosbags().typesys
    if form == "NONE":
        return types.get_typestore(types.Stores.ROS1_NOETIC if generation == 1 else types.Stores.LATEST)
    store = types.get_typestore(types.Stores.EMPTY)
    store.register(types.get_types_from_msg(text, name) if form == "MSG" else types.get_types_from_idl(text))
    return store


def _topic(name: str, types: set[str], span: Span | None) -> Topic:
    """A topic of what the containers say of it."""
    kind: Kind = kind_of(next(iter(types))) if len(types) == 1 else "other"
    if span is None or not span.count:
        return Topic(name, " and ".join(sorted(types)), 0, None, None, kind)
    return Topic(name, " and ".join(sorted(types)), span.count, span.first_ns, span.last_ns, kind)


def _time(record: Record) -> int:
    return record.time_ns


def _by_time_and_topic(records: Iterable[Record], path: Path) -> Iterator[Record]:
    """Order messages of one time by topic: containers differ in how they order them."""
    for _, together in itertools.groupby(records, _time):
        held: list[Record] = []
        size = 0
        for record in together:
            held.append(record)
            size += len(record.content)
            if size > SAME_TIME_BYTES:
                raise UserError(
                    f"{path}: has more than {SAME_TIME_BYTES >> 20} MiB of messages at the one log time "
                    f"{record.time_ns / 1e9:.6f} s; its recorder set no times"
                )
        yield from sorted(held, key=lambda record: record.connection.topic)
