"""The labelling run: every camera image of a dataset through a labeller, to a folder of masks with its manifest.

One process does a whole dataset or a shard of it (`label`); `olivine.labels.ray_run` spreads the same work over the
workers of a Ray cluster. Masks are made by `olivine.labels.pipeline` in both. A run that is started again keeps the
masks that are whole and makes the others; it ends in the same bytes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivine.data.shards import Shard
from olivine.engine.device import chosen_device
from olivine.errors import UserError
from olivine.labels.base import Labeller
from olivine.labels.config import LabelConfig
from olivine.labels.manifest import LabelFolder, settings_of
from olivine.labels.pipeline import Progress, ShardImages, make_masks

PROGRESS_S = 5.0
"""Seconds between lines of progress."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelSummary:
    """What a run did.

    Attributes:
        images: masks of its share of the dataset that are there now.
        kept: how many of them were there before.
        failed: one line for each image or frame that could not be read and has no mask, in alphabetical order.
        manifest: the manifest, or None while other shards are not done.
    """

    images: int
    kept: int
    failed: tuple[str, ...]
    manifest: Path | None

    def as_json(self) -> dict[str, Any]:
        """The same, ready for `json.dumps`."""
        manifest = None if self.manifest is None else str(self.manifest)
        return {"images": self.images, "kept": self.kept, "failed": list(self.failed), "manifest": manifest}

    def __str__(self) -> str:
        """For people, on one line."""
        where = "other shards are not done, so there is no manifest yet" if self.manifest is None else self.manifest
        return f"{self.images} masks ({self.kept} kept), {len(self.failed)} failed: {where}"


def label(config: LabelConfig, shard: Shard | None = None, *, progress: bool = True) -> LabelSummary:
    """Label every camera image of a dataset; continues where an earlier run was stopped.

    An image that cannot be read is passed over: it gets no mask, is named in the summary and in the manifest, and is
    tried again by the next run.

    Args:
        config: what to label, how, and where to.
        shard: the share of this run; by default everything.
        progress: log progress.

    Raises:
        UserError: the labeller's extra or model is missing, the dataset cannot be opened, the folder holds masks of
            another origin or with other settings, or a mask cannot be written.
    """
    return label_images(config, config.labeller.build(chosen_device(config.device)), shard, progress=progress)


def label_images(
    config: LabelConfig, labeller: Labeller, shard: Shard | None = None, *, progress: bool = True
) -> LabelSummary:
    """`label` with a labeller that is built already, in place of the one that `config` names."""
    shard = shard or Shard()
    folder = LabelFolder(config.out, settings_of(labeller, config.data, config.split), shard)
    images = ShardImages(config.data, config.split, shard)
    folder.begin()
    done = make_masks(config, labeller, images, range(len(images)))
    return conclude(folder, done, len(images), progress=progress)


def conclude(folder: LabelFolder, done: Iterable[Progress], frames: int, *, progress: bool) -> LabelSummary:
    """Watch a run to its end and record it.

    Args:
        folder: the records of the run, begun.
        done: the run: what became of its images, in any order, as it goes.
        frames: how many frames there are.
        progress: log progress.
    """
    total, pace = Progress(), _Pace(frames, enabled=progress)
    for step in done:
        total.add(step)
        pace.show(total)
    problems = tuple(sorted(total.problems))
    if frames and not total.tally.images and not problems:
        raise UserError(f"none of {frames} frames has a camera image to label; choose another data or split")
    for problem in problems:
        _log.warning("no mask: %s", problem)
    summary = LabelSummary(total.tally.images, total.kept, problems, folder.finish(total.tally))
    pace.end(total)
    return summary


class _Pace:
    """Progress for people: how many images are done, how fast, and how long the others will take.

    The clock runs from the first image that has to be labelled, since those that are kept go by in no time.
    """

    def __init__(self, frames: int, *, enabled: bool) -> None:
        self._frames, self._enabled = frames, enabled
        self._first = 0
        self._begun_s = time.monotonic()
        self._next_s = self._begun_s + PROGRESS_S

    def show(self, total: Progress) -> None:
        """So much is done."""
        now_s = time.monotonic()
        if not total.made:
            self._begun_s, self._first = now_s, total.frames
        if self._enabled and now_s >= self._next_s:
            self._next_s = now_s + PROGRESS_S
            left_s = (now_s - self._begun_s) * (self._frames - total.frames) / max(total.frames - self._first, 1)
            images, share = total.tally.images + len(total.problems), 100 * total.frames / self._frames
            rate, left = self._rate(total, now_s), _duration(left_s)
            _log.info("%d images (%.1f %%), %.1f images/s, %s left", images, share, rate, left)

    def end(self, total: Progress) -> None:
        """All are done."""
        if self._enabled:
            now_s = time.monotonic()
            rate, took = self._rate(total, now_s), _duration(now_s - self._begun_s)
            _log.info("%d images labelled in %s (%.1f images/s), %d kept", total.made, took, rate, total.kept)

    def _rate(self, total: Progress, now_s: float) -> float:
        return total.made / max(now_s - self._begun_s, 1e-3)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
