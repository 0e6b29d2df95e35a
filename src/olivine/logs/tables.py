"""The tables of a dataset that was made of a log, from the notes of its frames, one frame at a time."""

from __future__ import annotations

import contextlib
import datetime
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olivine.data.data_record import OFFICIAL_COLUMNS, DataRecord, write_data_record
from olivine.data.nuscenes_writer import (
    Row,
    TableFile,
    calibrated_sensor_row,
    ego_pose_row,
    link,
    log_tables,
    reading_row,
    sample_row,
    scene_row,
    sensor_rows,
    table_file,
    token,
    write_map,
    write_tables,
)
from olivine.errors import UserError
from olivine.geometry import invert
from olivine.logs.frames import LogFrames
from olivine.logs.journal import Entry
from olivine.logs.recipe import ConvertConfig
from olivine.logs.writer import cloud_file, image_file, measured_range, scene_name
from olivine.scans import IntensityGuess, IntensityRange

_STREAMED = ("scene", "sample", "sample_data", "ego_pose")
_EMPTY = ("category", "attribute", "visibility", "instance", "sample_annotation")
_STILL = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
_CALIBRATION = "calibrated_sensor"


@dataclass
class Totals:
    """What the notes of all frames come to.

    Attributes:
        keyframes: frames that were written.
        scenes: recordings without a gap.
        points: of all clouds.
        images: of each camera.
        rejected: frames that turned out unusable, by reason.
        intensity: measured, over all clouds.
        mended: intensities that were negative or no numbers, and are written as 0.
        rings: whether every cloud has rings.
        sizes: (width, height) of each camera's images, pixels.
        first_us: time of the first frame.
    """

    keyframes: int = 0
    scenes: int = 0
    points: int = 0
    images: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    intensity: IntensityRange | None = field(default_factory=IntensityRange)
    mended: int = 0
    rings: bool = True
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    first_us: int = 0

    def add(self, entry: Entry) -> None:
        """Take in the note of a frame; raises `UserError` where a camera's images have two sizes."""
        if "rejected" in entry:
            self.rejected[entry["rejected"]] += 1
            return
        self.first_us = self.first_us or entry["time_us"]
        self.keyframes += 1
        self.scenes = entry["scene"]
        self.points += entry["points"]
        self.rings &= entry["rings"]
        if entry["intensity"] is None:
            self.intensity = None
        elif self.intensity is not None:
            self.intensity.merge(measured_range([entry["intensity"]]))
            self.mended += entry["intensity"]["mended"]
        for image in entry["images"]:
            channel, size = image["channel"], (image["size"][0], image["size"][1])
            self.images[channel] += 1
            known = self.sizes.setdefault(channel, size)
            if known != size:
                raise UserError(
                    f"camera {channel}: images of {known[0]}×{known[1]} and of {size[0]}×{size[1]} pixels; one "
                    "calibration cannot serve both: convert the parts of the log by themselves (start_s, stop_s)"
                )

    def intensity_top(self, config: ConvertConfig) -> IntensityGuess | None:
        """The range 0…top that intensities are of: told by the recipe, or measured; None where there are none."""
        if self.intensity is None or not self.keyframes:
            return None
        if config.intensity_max is not None:
            return IntensityGuess(config.intensity_max, True, "the recipe says so")
        guess = self.intensity.guess()
        return guess if guess.top > 0 else IntensityGuess(1.0, False, guess.why)


def write_dataset(root: Path, entries: Iterable[Entry], frames: LogFrames) -> Totals:
    """Write all tables and, last, the record that says what they are.

    Args:
        root: the dataset's folder.
        entries: the notes of all frames, in order.
        frames: the log's frames, for their sensors.

    Raises:
        UserError: the disk is full, or a camera's images have two sizes.
    """
    config, totals = frames.config, Totals()
    folder = root / config.version
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(table_file(folder / f"{name}.json")) for name in _STREAMED}
        rows = _Rows(config, files)
        for entry in entries:
            totals.add(entry)
            if "rejected" not in entry:
                rows.add(entry)
        rows.end()
    write_tables(root, config.version, _small_tables(frames, totals))
    write_map(root)
    write_data_record(folder, _record(frames, totals))
    return totals


class _Rows:
    """Rows of the tables that grow with the log; each waits for the one after it, which it names."""

    def __init__(self, config: ConvertConfig, files: dict[str, TableFile]) -> None:
        self._config, self._files = config, files
        self._waiting: dict[str, Row] = {}
        self._scene = 0
        self._first = self._last = ""
        self._count = 0

    def add(self, entry: Entry) -> None:
        """Take in the note of a frame."""
        if entry["scene"] != self._scene:
            self.end()
            self._scene = entry["scene"]
        name, channel = scene_name(self._config, self._scene), self._config.channel
        scene_token, time_us = token("scene", name), entry["time_us"]
        sample = sample_row(token(scene_token, "sample", time_us), scene_token, time_us)
        self._first, self._last = self._first or sample["token"], sample["token"]
        self._count += 1
        self._put("sample", "sample", sample)
        cloud = cloud_file(name, channel, time_us)
        self._reading(sample["token"], channel, time_us, cloud, (0, 0), entry["pose"])
        for image in entry["images"]:
            channel, time_us, size = image["channel"], image["time_us"], (image["size"][0], image["size"][1])
            file = image_file(name, channel, time_us)
            self._reading(sample["token"], channel, time_us, file, size, image["pose"])

    def end(self) -> None:
        """A scene is over."""
        for key, row in self._waiting.items():
            self._files["sample" if key == "sample" else "sample_data"].add(row)
        self._waiting = {}
        if self._count:
            name = scene_name(self._config, self._scene)
            row = scene_row(token("scene", name), name, self._count, self._first, self._last, "from a log")
            self._files["scene"].add(row)
        self._first, self._last, self._count = "", "", 0

    def _reading(
        self, sample: str, channel: str, time_us: int, file: str, size: tuple[int, int], pose: list[float] | None
    ) -> None:
        row = reading_row(sample, channel, token(_CALIBRATION, channel), time_us, file, size)
        self._put("sample_data", channel, row)
        numbers = pose or _STILL
        self._files["ego_pose"].add(ego_pose_row(row["ego_pose_token"], time_us, numbers[:4], numbers[4:]))

    def _put(self, table: str, key: str, row: Row) -> None:
        before = self._waiting.get(key)
        if before is not None:
            link(before, row)
            self._files[table].add(before)
        self._waiting[key] = row


def _small_tables(frames: LogFrames, totals: Totals) -> dict[str, list[Row]]:
    """The tables that do not grow with the log."""
    config, ego_from_lidar = frames.config, frames.motion.ego_from_lidar
    channels = [(config.channel, "lidar"), *((channel, "camera") for channel in totals.sizes)]
    mounts = [calibrated_sensor_row(config.channel, ego_from_lidar, [])]
    for channel, size in totals.sizes.items():
        camera = frames.rig.cameras[channel]
        intrinsics = camera.rectifier(size).rectified.intrinsics.tolist()
        mounts.append(calibrated_sensor_row(channel, ego_from_lidar @ invert(camera.camera_from_lidar), intrinsics))
    day = datetime.datetime.fromtimestamp(totals.first_us / 1e6, datetime.timezone.utc).date().isoformat()
    tables: dict[str, list[Row]] = {name: [] for name in _EMPTY}
    return {
        **tables,
        "sensor": sensor_rows(channels),
        _CALIBRATION: mounts,
        **log_tables(config.name, "unknown", day, "unknown"),
    }


def _record(frames: LogFrames, totals: Totals) -> DataRecord:
    config = frames.config
    top = totals.intensity_top(config)
    measured: Any = "measured" if config.intensity_max is None else "told"
    return DataRecord(
        source=config.name,
        intensity_max=None if top is None else top.top,
        intensity_from="none" if top is None else measured,
        poses=config.poses,
        columns=OFFICIAL_COLUMNS if totals.rings else (*OFFICIAL_COLUMNS[:4], "unused"),
        sensors=tuple(stream.topic for stream in config.lidars) if len(config.lidars) > 1 else (),
        settings=config.model_dump(mode="json"),
    )
