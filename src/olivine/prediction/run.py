"""The prediction run: every frame of a source through a network, to a folder of files in a format that others read.

One process does the whole source or a share of it. A run that is started again keeps the files that are there and
makes the others; it ends in the same bytes, whatever the batch size, the threads and the number of shares.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivine.data.intensity import warn_if_faint
from olivine.data.shards import Shard
from olivine.engine.device import chosen_device
from olivine.errors import UserError, printable
from olivine.inference import load
from olivine.prediction.config import PredictConfig
from olivine.prediction.formats import Job, Writer, choose_format, make_writer
from olivine.prediction.manifest import begin, describe
from olivine.prediction.opening import open_source
from olivine.prediction.pipeline import Pipeline, Tally, trouble_with
from olivine.prediction.sources import Moment
from olivine.reading import below
from olivine.visualize.projection import spread

PROGRESS_S = 5.0
"""Seconds between lines of progress."""

PICTURES = "pictures"
"""Folder of the pictures in that of the predictions."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictSummary:
    """What a run did.

    Attributes:
        out: the folder of predictions.
        format: what is in it.
        tally: what became of the frames; points and boxes are those of frames that were predicted now.
        seconds: from the first frame to the last.
    """

    out: Path
    format: str
    tally: Tally
    seconds: float

    @property
    def failed(self) -> tuple[str, ...]:
        """One line for each frame that has no prediction."""
        return self.tally.problems

    @property
    def made(self) -> int:
        """Frames that were predicted now."""
        return self.tally.frames - self.tally.kept - len(self.failed)

    def as_json(self) -> dict[str, Any]:
        """The same, ready for `json.dumps`."""
        counts = {name: value for name, value in vars(self.tally).items() if name not in ("problems", "network_s")}
        times = {"seconds": round(self.seconds, 3), "network_seconds": round(self.tally.network_s, 3)}
        return {"out": str(self.out), "format": self.format, **counts, **times, "failed": list(self.failed)}

    def __str__(self) -> str:
        """For people, on one line."""
        tally, parts = self.tally, []
        if tally.boxes:
            parts.append(f"{tally.boxes} boxes")
        if tally.outside:
            share = 100 * tally.outside / tally.points
            parts.append(
                f"{tally.outside} of {tally.points} points outside the grid (class 0, confidence 0; {share:.1f} %)"
            )
        if tally.gaps:
            parts.append(f"{tally.gaps} rows without a return (class 0)")
        said = "".join(f", {part}" for part in parts)
        return f"{self.made} frames predicted, {tally.kept} kept, {len(self.failed)} failed{said}: {self.out}"


def predict(
    model: Path | str,
    source: Path,
    out: Path,
    config: PredictConfig | None = None,
    *,
    shard: Shard | None = None,
    own: str | None = None,
    progress: bool = True,
) -> PredictSummary:
    """Predict every frame of a source; continues where an earlier run was stopped.

    A frame that cannot be read is passed over: it gets no file, is named in the summary, and is tried again by the
    next run.

    Args:
        model: a run folder, its weights, or a file that `olivine export` wrote.
        source: a folder of a known dataset, a log, or a scan or a folder of scans.
        out: where to; new, or of an earlier run by the same network with the same settings.
        config: how.
        shard: the share of this run; by default everything.
        own: import path of a dataset of one's own, which the source is then opened as.
        progress: log progress.

    Raises:
        UserError: the model or the source cannot be read or do not fit each other, the folder holds predictions of
            another network or with other settings, or a file cannot be written.
    """
    config, shard = config or PredictConfig(), shard or Shard()
    network = load(model, device=str(chosen_device(config.device)))
    with closing(open_source(Path(source), config, network, own)) as frames:
        return _predict(Job(Path(out), frames, network, config), shard, progress=progress)


def _predict(job: Job, shard: Shard, *, progress: bool) -> PredictSummary:
    config, frames = job.config, job.source
    form = choose_format(job)
    writer = make_writer(job, form)
    _check_first(job, writer)
    begin(job.out, describe(job, form))
    writer.begin()
    batch_size = config.frames_at_a_time(job.model.device)
    pipeline = Pipeline(job.model, writer, _picture_of(job), batch_size, config.workers)
    total, pace = Tally(), _Pace(len(shard.frames(len(frames))), enabled=progress)
    for tally in pipeline.run(frames.moments(shard)):
        total.add(tally)
        pace.show(total)
    summary = PredictSummary(job.out, form, total, pace.seconds)
    for problem in summary.failed:
        _log.warning("no prediction: %s", printable(problem))
    for reason, count in frames.left_out.items():
        _log.warning("left out: %d scans: %s", count, printable(reason))
    return summary


def _check_first(job: Job, writer: Writer) -> None:
    """Try the first frame that can be read, since what does not fit it does not fit the source.

    Raises:
        UserError: it lacks what the network or the format needs, or no frame can be read.
    """
    problem: UserError | None = None
    with closing(job.source.moments(Shard())) as moments:
        for moment in moments:
            writer.files(moment)
            try:
                frame = moment.read().frame
            except UserError as error:
                problem = problem or error
                continue
            if job.model.sees_intensity:
                warn_if_faint(frame)
            try:
                job.model.prepare(frame)
            except UserError as error:
                raise UserError(trouble_with(moment, error)) from error
            writer.check(frame)
            return
    raise problem or UserError(f"{job.source}: has no frames")


def _picture_of(job: Job) -> Callable[[Moment], Path | None]:
    """Where the pictures of some frames go, spread evenly over the source."""
    chosen = set(spread(len(job.source), job.config.pictures)) if job.config.pictures else set()

    def path(moment: Moment) -> Path | None:
        if moment.place not in chosen:
            return None
        return below(job.out / PICTURES, f"{moment.name}.png", str(job.source))

    return path


class _Pace:
    """Progress for people: how many frames are done, how fast, and how long the others will take.

    The clock runs from the first frame that has to be predicted, since those that are kept go by in no time.
    """

    def __init__(self, frames: int, *, enabled: bool) -> None:
        self._frames, self._enabled = frames, enabled
        self._first = 0
        self._begun_s = self._now_s = time.monotonic()
        self._next_s = self._begun_s + PROGRESS_S

    @property
    def seconds(self) -> float:
        """From the first frame that had to be predicted to the last."""
        return self._now_s - self._begun_s

    def show(self, total: Tally) -> None:
        """So much is done."""
        self._now_s = time.monotonic()
        if total.frames == total.kept:
            self._begun_s, self._first = self._now_s, total.frames
        if self._enabled and self._now_s >= self._next_s:
            self._next_s = self._now_s + PROGRESS_S
            done = total.frames - self._first
            left_s = self.seconds * max(self._frames - total.frames, 0) / max(done, 1)
            share = 100 * min(total.frames / max(self._frames, 1), 1)
            rate = done / max(self.seconds, 1e-3)
            _log.info("%d frames (%.1f %%), %.1f frames/s, %s left", total.frames, share, rate, _duration(left_s))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
