"""`convert`: a log becomes a dataset in the nuScenes layout, a frame at a time, in several threads.

One thread reads the log and matches; others decode, undistort, rectify, encode and write; what they did is noted in
order. Only a few frames are in the air at a time, whatever the log's length.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from olivine.data.data_record import RECORD, read_data_record
from olivine.errors import UserError, printable
from olivine.logs.frames import LogFrame, LogFrames, frames
from olivine.logs.journal import Entry, Journal
from olivine.logs.log import Log
from olivine.logs.recipe import ConvertConfig
from olivine.logs.tables import Totals, write_dataset
from olivine.logs.writer import write_frame
from olivine.scans import IntensityGuess

PROGRESS_S = 5.0
"""Seconds between lines of progress."""

_FAINT = 0.2
"""Intensities that reach no more of their range than this share leave a network little to see."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversion:
    """What `convert` made of a log.

    Attributes:
        folder: the dataset.
        version: its folder of tables.
        keyframes: how many frames were written.
        kept: how many of them were there before.
        scenes: recordings without a gap.
        images: of each camera.
        passed_over: scans between those that are kept.
        rejected: scans that could not be used, by reason.
        poses: where they are from.
        intensity: the range, or None where there are no intensities.
        intensity_reach: the largest that was measured.
        intensity_mended: how many were negative or no numbers, and are written as 0.
        points: of all clouds.
        seconds: of the log's own time.
    """

    folder: Path
    version: str
    keyframes: int
    kept: int
    scenes: int
    images: dict[str, int]
    passed_over: int
    rejected: dict[str, int]
    poses: str
    intensity: IntensityGuess | None
    intensity_reach: float
    intensity_mended: int
    points: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The same, ready for `json.dumps`."""
        return {
            "folder": str(self.folder),
            "version": self.version,
            "keyframes": self.keyframes,
            "scenes": self.scenes,
            "images": self.images,
            "passed_over": self.passed_over,
            "rejected": self.rejected,
            "poses": self.poses,
            "intensity_max": None if self.intensity is None else self.intensity.top,
            "points": self.points,
            "seconds": round(self.seconds, 3),
        }

    def __str__(self) -> str:
        """For people, a few lines."""
        cameras = ", ".join(f"{count} of {channel}" for channel, count in self.images.items()) or "none"
        lines = [
            f"{self.folder}: {self.keyframes} keyframes in {self.scenes} scenes, tables in {self.version}",
            f"images: {cameras}",
            f"points: {self.points}; {self._range()}",
            f"poses: {self.poses}" + ("; what needs them will say so" if self.poses == "unknown" else ""),
        ]
        if self.rejected:
            lines.append(f"rejected: {sum(self.rejected.values())} scans")
            lines += [f"  {count}: {printable(reason)}" for reason, count in self.rejected.items()]
        if self.passed_over:
            lines.append(f"passed over: {self.passed_over} scans between keyframes (keyframe_hz)")
        return "\n".join(lines)

    def _range(self) -> str:
        if self.intensity is None:
            return "no intensity"
        text = f"intensity 0…{self.intensity.top:g} ({self.intensity.why})"
        if self.intensity_mended:
            text += f"; {self.intensity_mended} were negative or no numbers, and are written as 0"
        if self.intensity_reach <= _FAINT * self.intensity.top:
            text += (
                f"; it reaches {self.intensity_reach:.3g}, and intensity_max={self.intensity_reach:.3g} would use the "
                "range"
            )
        elif not self.intensity.sure:
            text += "; where that is wrong, set intensity_max"
        return text


def convert(log: Log, out: Path, config: ConvertConfig, *, workers: int | None = None) -> Conversion:
    """Write a log as a dataset; goes on where an earlier call was stopped, and ends in the same bytes.

    Args:
        log: an open log.
        out: the dataset's folder: new, empty, or one that the same recipe and log were being written to.
        config: the recipe.
        workers: threads that decode and write; by default one for each processor.

    Returns:
        What was written, or had been.

    Raises:
        UserError: the recipe does not fit the log, the folder holds something else, the first scan is damaged, no frame
            can be used, or the disk is full.
    """
    if out.resolve().is_relative_to(log.path.resolve()) and log.path.is_dir():
        raise UserError(f"{out}: lies inside the log; choose another folder")
    journal = Journal(out)
    _refuse_finished(out, config, journal)
    with journal.alone():
        done = journal.begin(log, config)
        found = frames(log, config, journal.folder)
        _write(found, out, journal, done, workers or os.cpu_count() or 1)
        if not any("rejected" not in entry for entry in journal.entries()):
            why = _nothing(log, found, journal)
            journal.remove()  # so that another recipe may be tried
            raise UserError(why)
        totals = write_dataset(out, journal.entries(), found)
        journal.remove()
    return _summary(out, found, totals, done)


def _refuse_finished(out: Path, config: ConvertConfig, journal: Journal) -> None:
    """Refuse a folder in which a dataset is whole: the same again has nothing to do, another would mix with it."""
    tables = out / config.version
    record = read_data_record(tables) if tables.is_dir() else None
    if record is None:
        return
    if record.settings == config.model_dump(mode="json"):
        journal.remove()  # of one that was killed between its last two steps
        raise Finished(f"{out}: finished before, by the same recipe; nothing to do")
    raise UserError(
        f"{tables / RECORD}: a finished dataset of another recipe; choose another folder or remove this one"
    )


class Finished(UserError):  # noqa: N818 (a state of the folder)
    """The dataset is whole already."""


def _write(found: LogFrames, out: Path, journal: Journal, done: int, workers: int) -> None:
    """Write the frames that are not yet there, and note them in order."""
    pace, flying = _Pace(found), deque[tuple[LogFrame, "Future[Entry]"]]()
    with _pool(workers) as pool:

        def land() -> None:
            frame, future = flying.popleft()
            entry = future.result()
            if "rejected" in entry:
                _log.warning("rejected: %s", entry.pop("detail"))
            journal.add(entry)
            pace.show(frame)

        for frame in islice(found, done, None):
            # An image that two scans share is written once.
            while flying and (len(flying) > 2 * workers or _share(flying[-1][0], frame)):
                land()
            flying.append((frame, pool.submit(write_frame, out, frame, found.config)))
        while flying:
            land()


def _share(one: LogFrame, other: LogFrame) -> bool:
    return bool(
        {(image.channel, image.time_ns // 1000) for image in one.images}
        & {(image.channel, image.time_ns // 1000) for image in other.images}
    )


@contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads; what is not begun is given up when the block is left by an error or a signal."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="convert")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


class _Pace:
    """Progress for people: how far the log is, how fast, and how long the rest will take."""

    def __init__(self, found: LogFrames) -> None:
        self._found, self._frames = found, 0
        self._begun_s = self._next_s = time.monotonic()
        self._next_s += PROGRESS_S
        self._first_ns: int | None = None

    def show(self, frame: LogFrame) -> None:
        """So far the log is done."""
        now_s = time.monotonic()
        self._frames += 1
        if self._first_ns is None:
            self._first_ns, self._begun_s = frame.scans[0].reading.log_ns, now_s
        if now_s < self._next_s:
            return
        self._next_s = now_s + PROGRESS_S
        at_ns = frame.scans[0].reading.log_ns
        done_s, took_s = (at_ns - self._first_ns) / 1e9, now_s - self._begun_s
        rate = done_s / max(took_s, 1e-3)
        left_s = (self._found.stop_ns - at_ns) / 1e9 / max(rate, 1e-3)
        whole_ns = max(self._found.stop_ns - self._found.start_ns, 1)
        share = 100 * (at_ns - self._found.start_ns) / whole_ns
        minutes, seconds = divmod(round(left_s), 60)
        _log.info("%d frames (%.1f %%), %.1f × real time, %d:%02d left", self._frames, share, rate, minutes, seconds)


def _nothing(log: Log, found: LogFrames, journal: Journal) -> str:
    """Why no frame could be used."""
    reasons = found.tally.rejected + Counter(entry["rejected"] for entry in journal.entries())
    why = "; ".join(f"{count}: {printable(reason)}" for reason, count in reasons.most_common(3))
    return f"{log.path}: none of {found.tally.scans} scans can be used ({why or 'there are none'})"


def _summary(out: Path, found: LogFrames, totals: Totals, done: int) -> Conversion:
    rejected = found.tally.rejected + totals.rejected
    return Conversion(
        folder=out,
        version=found.config.version,
        keyframes=totals.keyframes,
        kept=done,
        scenes=totals.scenes,
        images=dict(totals.images),
        passed_over=found.tally.passed_over,
        rejected=dict(rejected.most_common()),
        poses=found.config.poses,
        intensity=totals.intensity_top(found.config),
        intensity_reach=totals.intensity.max if totals.intensity else 0.0,
        intensity_mended=totals.mended,
        points=totals.points,
        seconds=(found.stop_ns - found.start_ns) / 1e9,
    )
