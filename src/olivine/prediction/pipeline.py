"""The stages between frames and the files of their predictions.

    frames, read and voxelised ahead by threads ──▶ network, a batch at a time ──▶ files, written by threads

Every stage holds a bounded number of frames, so memory does not grow with the source. Files are whole or absent; those
that are there are kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from olivine.data.collate import collate
from olivine.data.frame import Boxes
from olivine.data.prepare import Prepared
from olivine.drawing.tiles import RGB, png
from olivine.errors import UserError
from olivine.files import write_bytes
from olivine.inference import ClassifiedPoints, DetectedObjects, Model
from olivine.prediction.formats import Found, Writer
from olivine.prediction.sources import Moment, Reading
from olivine.processes import ahead, in_batches
from olivine.visualize.boxes import SHOWN_SCORE
from olivine.visualize.predicted import classes_picture, objects_picture


@dataclass
class Tally:
    """What became of frames.

    Attributes:
        frames: how many are over.
        kept: how many of them had all their files before.
        points: points that were predicted now.
        outside: those of them that lie outside the network's grid, which have class 0 and confidence 0.
        gaps: rows of scans without a return, likewise.
        boxes: boxes that were found now.
        network_s: seconds in the network.
        problems: one line for each frame that has no prediction.
    """

    frames: int = 0
    kept: int = 0
    points: int = 0
    outside: int = 0
    gaps: int = 0
    boxes: int = 0
    network_s: float = 0.0
    problems: tuple[str, ...] = ()

    def add(self, other: Tally) -> None:
        """Count what `other` counted, too."""
        for name in vars(other):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True)
class _Item:
    """One frame on its way through the stages, with as much as the next one needs."""

    moment: Moment
    reading: Reading | None = None
    sample: Prepared | None = None
    found: Found | None = None
    tally: Tally | None = None


class Pipeline:
    """The stages.

    Args:
        model: the network.
        writer: what writes its predictions.
        picture_of: where the picture of a frame goes, None for a frame that is not drawn.
        batch_size: frames in the network at a time.
        workers: threads.
    """

    def __init__(
        self,
        model: Model,
        writer: Writer,
        picture_of: Callable[[Moment], Path | None],
        batch_size: int,
        workers: int,
    ) -> None:
        self._model, self._writer, self._picture_of = model, writer, picture_of
        self._batch_size, self._workers = batch_size, workers

    def run(self, moments: Iterable[Moment]) -> Iterator[Tally]:
        """Predict frames; a frame that cannot be read is passed over.

        Yields:
            What became of each frame, once its files are on disk or it is known to fail, in order.

        Raises:
            UserError: the network gives what is not finite, or a file cannot be written.
        """
        depth = self._batch_size + self._workers
        with ThreadPoolExecutor(self._workers) as pool:
            prepared = ahead(pool, self._prepare, moments, depth)
            written = ahead(pool, self._write, self._predicted(prepared), depth, at_once=True)
            for item in written:
                assert item.tally is not None
                yield item.tally

    def _files(self, moment: Moment) -> list[Path]:
        picture = self._picture_of(moment)
        return [*self._writer.files(moment), *([] if picture is None else [picture])]

    def _prepare(self, moment: Moment) -> _Item:
        """Read and voxelise a frame, unless all its files are there."""
        if all(path.exists() for path in self._files(moment)):
            return _Item(moment, tally=Tally(frames=1, kept=1))
        try:
            reading = moment.read()
            return _Item(moment, reading, self._model.prepare(reading.frame))
        except UserError as error:
            return _Item(moment, tally=Tally(frames=1, problems=(trouble_with(moment, error),)))

    def _predicted(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Give frames to the network, a batch at a time; what has no sample is handed on."""
        return in_batches(items, lambda item: item.sample is not None, self._batch_size, self._apply)

    def _apply(self, items: list[_Item]) -> list[_Item]:
        begun_s = time.perf_counter()
        batch = collate([item.sample for item in items if item.sample is not None], seed=0).to(self._model.device)
        detects = self._model.detector is not None
        found: list[Found] = [*(self._model.detect_batch(batch) if detects else self._model.classify_batch(batch))]
        spent = Tally(frames=1, network_s=(time.perf_counter() - begun_s) / len(items))
        return [
            replace(item, sample=None, found=each, tally=replace(spent))
            for item, each in zip(items, found, strict=True)
        ]

    def _write(self, item: _Item) -> _Item:
        """Write the files of a frame, if something was found of it; the picture is the last."""
        reading, found, tally = item.reading, item.found, item.tally
        if reading is None or found is None or tally is None:
            return item
        self._writer.write(item.moment, reading, found)
        picture = self._picture_of(item.moment)
        if picture is not None:
            write_bytes(picture, png(self._drawn(reading, found)))
        tally.points = len(reading.frame.points_lidar_m)
        tally.gaps = 0 if reading.returned is None else int((~reading.returned).sum())
        if isinstance(found, ClassifiedPoints):
            tally.outside = int((found.classes == 0).sum())
        else:
            tally.boxes = len(found.names)
        return _Item(item.moment, tally=tally)

    def _drawn(self, reading: Reading, found: Found) -> RGB:
        if isinstance(found, ClassifiedPoints):
            assert self._model.classes is not None
            return classes_picture(reading.frame, found.classes, self._model.classes)
        return objects_picture(reading.frame, _sure(found))


def trouble_with(moment: Moment, error: UserError) -> str:
    """What is wrong with a frame, by name."""
    return str(error) if moment.name in str(error) else f"frame {moment.name}: {error}"


def _sure(found: DetectedObjects) -> Boxes:
    """The boxes that are drawn, as labelled ones are."""
    count = int((found.scores >= SHOWN_SCORE).sum())  # the best come first
    return Boxes(found.boxes[:count].astype(np.float64), found.names[:count])
