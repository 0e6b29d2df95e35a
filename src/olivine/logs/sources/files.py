"""Logs that are folders of files: a file for each scan and picture, each with a time."""

from __future__ import annotations

import functools
import heapq
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from olivine.calibration import Calibration
from olivine.data.images import content_size, decode_image
from olivine.errors import UserError
from olivine.logs.log import Log, SensorReading
from olivine.logs.pictures import Picture
from olivine.logs.recipe import ConvertConfig
from olivine.logs.setups import named_camera
from olivine.logs.topics import Kind, Topic
from olivine.reading import IMAGE_BYTES, read_file
from olivine.scans import Scan, ScanColumns, read_scan

IMAGES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm")
"""Suffixes of pictures, in small letters."""

_NEAR_NS = 1_000_000_000


@dataclass(frozen=True)
class Stream:
    """Files of one sensor.

    Attributes:
        name: what the topic is called.
        kind: lidar or camera.
        form: what the files are, for people.
        times_ns: of each, rising, nanoseconds since 1970.
        paths: of each.
        frame_id: what frame they are in, for people.
    """

    name: str
    kind: Kind
    form: str
    times_ns: Sequence[int]
    paths: Sequence[Path]
    frame_id: str | None = None

    @property
    def topic(self) -> Topic:
        """What a log says of it."""
        return Topic(
            self.name, self.form, len(self.paths), self.times_ns[0], self.times_ns[-1], self.kind, self.frame_id
        )


@dataclass(frozen=True)
class FileReading:
    """A file of a scan or picture; see `SensorReading`."""

    topic: Topic
    stamp_ns: int
    path: Path
    _sizes: dict[str, tuple[int, int]] = field(repr=False)

    @property
    def log_ns(self) -> int:
        """Files come in the order of their times."""
        return self.stamp_ns

    @property
    def source(self) -> str:
        """The file."""
        return str(self.path)

    def scan(self, columns: ScanColumns | None = None) -> Scan:
        """The cloud; times of points that are since 1970 count from the file's own time."""
        scan = read_scan(self.path, columns)
        if scan.offsets_s is None or scan.stamp_ns is None or abs(scan.stamp_ns - self.stamp_ns) > _NEAR_NS:
            return scan
        return replace(scan, offsets_s=scan.offsets_s + (scan.stamp_ns - self.stamp_ns) / 1e9)

    def picture(self) -> Picture:
        """The picture; raises `UserError` where it has another size than its camera's first one."""
        content = read_file(self.path, "this image", limit=IMAGE_BYTES)
        size = content_size(content, self.path)
        first = self._sizes.setdefault(self.topic.name, size)
        if size != first:
            raise UserError(
                f"{self.path}: an image of {size[0]}×{size[1]} pixels, but an earlier one of {self.topic.name} has "
                f"{first[0]}×{first[1]}; one calibration cannot serve both: keep one size in a folder"
            )
        is_jpeg = content.startswith(b"\xff\xd8\xff")
        decode = functools.partial(decode_image, content, self.path, size)
        return Picture(size, "jpeg" if is_jpeg else self.path.suffix[1:], content if is_jpeg else None, decode)


class FileLog(Log):
    """A folder of files; what the streams are, each kind of folder says."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._sizes: dict[str, tuple[int, int]] = {}

    @functools.cached_property
    def streams(self) -> dict[str, Stream]:
        """Its sensors, by name."""
        return {stream.name: stream for stream in self.find_streams()}

    @abstractmethod
    def find_streams(self) -> list[Stream]:
        """Its sensors.

        Raises:
            UserError: their files have no times.
        """

    @functools.cached_property
    def topics(self) -> tuple[Topic, ...]:
        """Its sensors as topics, by name."""
        return tuple(self.streams[name].topic for name in sorted(self.streams))

    @property
    def files(self) -> tuple[Path, ...]:
        """Every scan and picture."""
        return tuple(path for name in sorted(self.streams) for path in self.streams[name].paths)

    def readings(self, config: ConvertConfig, topics: tuple[str, ...] | None = None) -> Iterator[SensorReading]:
        """The files of the recipe's streams in the order of their times, those of one time by name."""
        start_ns, stop_ns = self.span_ns(config)
        chosen = sorted(topics or config.topics)
        yield from heapq.merge(
            *(self._files(self.streams[name], start_ns, stop_ns) for name in chosen),
            key=lambda reading: reading.stamp_ns,
        )

    def _files(self, stream: Stream, start_ns: int, stop_ns: int) -> Iterator[FileReading]:
        topic = stream.topic
        for time_ns, path in zip(stream.times_ns, stream.paths, strict=True):
            if start_ns <= time_ns <= stop_ns:
                yield FileReading(topic, time_ns, path, self._sizes)


def by_channel(calibration: Calibration, config: ConvertConfig, names: Mapping[str, str] | None = None) -> Calibration:
    """A calibration with its cameras by channel of the recipe.

    Args:
        calibration: cameras by the names that its file has.
        config: the recipe.
        names: the name that the file has for a topic, where that is another.

    Raises:
        UserError: a camera is not in it.
    """
    cameras = {
        channel: named_camera(channel, (names or {}).get(stream.topic, stream.topic), calibration)
        for channel, stream in config.chosen_cameras.items()
    }
    return replace(calibration, cameras=cameras)
