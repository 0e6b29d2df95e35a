"""Batches in a reproducible order.

Every random choice about a sample comes from a generator keyed by (seed, epoch, sample index), so what a sample looks
like does not depend on the number of workers or processes, nor on where a run was resumed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import data as torch_data

from olivine.data.batch import Batch
from olivine.data.collate import collate
from olivine.data.frame import Dataset, Frame
from olivine.data.prepare import Prepared
from olivine.data.second_view import neighbour
from olivine.errors import UserError
from olivine.processes import end_with_parent, feeders_awaited, shielded
from olivine.streams import number, stream


class _Key(NamedTuple):
    """Where in a run a sample stands; `look`: it is shown between epochs, not learned from."""

    seed: int
    epoch: int
    step: int
    rank: int
    sample: int
    look: bool


@dataclass(frozen=True)
class _Mistake:
    """The message of a `UserError` on its way out of a loader process.

    An exception raised there would arrive with the process's traceback as its message, so it travels as a value.
    """

    message: str


class Loader:
    """Deliver a dataset as batches, epoch by epoch.

    Args:
        dataset: the frames.
        prepare: makes a sample of a frame, with the sample's own generator and, with `max_gap`, another frame.
        batch_size: samples per batch **of this process**.
        seed: keys every random choice.
        shuffle: a new order each epoch and an incomplete last batch dropped (training); otherwise file order and all
            samples (evaluation).
        workers: loader processes; 0 prepares samples in this one. The batches are the same.
        rank: this process.
        world: number of processes; together they see each sample once an epoch.
        max_gap: hand `prepare` a second frame too, of the same scene and at most so many frames away; None hands it
            one frame.
        pin: hand out batches in memory that a GPU can read while the host goes on.

    Attributes:
        steps: batches per epoch of this process.

    Raises:
        UserError: shuffled, but there are fewer frames than one batch over all processes.
    """

    def __init__(
        self,
        dataset: Dataset,
        prepare: PrepareFrame,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        max_gap: int | None = None,
        pin: bool = False,
    ) -> None:
        if shuffle and len(dataset) < batch_size * world:
            raise UserError(
                f"train.batch_size: one step takes {batch_size * world} frames but the split holds {len(dataset)}; "
                "lower train.batch_size or choose a larger split"
            )
        self._order = _Order(len(dataset), batch_size, seed, shuffle, rank, world)
        self._samples = _Samples(dataset, prepare, max_gap)
        self._loader = torch_data.DataLoader(
            self._samples,
            batch_sampler=self._order,
            collate_fn=_collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="spawn" if workers > 0 else None,
            worker_init_fn=partial(_begin_worker, os.getpid()),
            pin_memory=pin,
            # The loader draws a base seed for its workers; an own generator leaves the global one alone.
            generator=torch.Generator(),
        )
        self.steps = self._order.steps

    def try_frame(self) -> Prepared | None:
        """Read and prepare the first frame in this process; None where there is none.

        Raises:
            UserError: a file of it is missing or damaged, or does not hold what samples are made of.
        """
        if not len(self._samples):
            return None
        _, sample = self._samples[_Key(self._order.seed, 0, 0, self._order.rank, 0, look=True)]
        assert isinstance(sample, Prepared)
        return sample

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch.

        Args:
            epoch: which epoch, from 0; chooses the order and the augmentation.
            start: batches of this epoch to leave out, without reading them (resume).

        Raises:
            UserError: a file of a frame is missing or damaged, wherever it was read.
        """
        self._order.epoch, self._order.start, self._order.whole = epoch, start, False
        yield from self._read()

    def everything(self, epoch: int) -> Iterator[Batch]:
        """Every frame of this process's share once, in file order; the last batch may be smaller.

        Args:
            epoch: which epoch, from 0; chooses the augmentation, as in `batches`.

        Raises:
            UserError: a file of a frame is missing or damaged, wherever it was read.
        """
        self._order.epoch, self._order.start, self._order.whole = epoch, 0, True
        yield from self._read()

    def _read(self) -> Iterator[Batch]:
        with shielded() if self._loader.num_workers else nullcontext(), feeders_awaited():
            batches = iter(self._loader)
        for batch in batches:
            if isinstance(batch, _Mistake):
                raise UserError(batch.message)
            yield batch


class PrepareFrame(Protocol):
    """What makes samples of frames; `olivine.data.prepare.Prepare` does."""

    def __call__(self, frame: Frame, rng: np.random.Generator, other: Frame | None = None) -> Prepared:
        """The sample of a frame, and where one is given, of another one beside it."""
        ...


class _Order(torch_data.Sampler[list[_Key]]):
    """The keys of each batch of the current epoch, or `whole`: of every frame once, whatever the training order."""

    def __init__(self, frames: int, batch_size: int, seed: int, shuffle: bool, rank: int, world: int) -> None:
        self._frames, self._batch_size, self.seed = frames, batch_size, seed
        self._shuffle, self.rank, self._world = shuffle, rank, world
        self.epoch = 0
        self.start = 0
        self.whole = False
        own = frames // (batch_size * world) if shuffle else -(-len(range(rank, frames, world)) // batch_size)
        self.steps = own

    def __iter__(self) -> Iterator[list[_Key]]:
        indices = self._indices()
        for step in range(self.start, len(self) + self.start):
            chosen = indices[step * self._batch_size : (step + 1) * self._batch_size]
            yield [_Key(self.seed, self.epoch, step, self.rank, int(sample), self.whole) for sample in chosen]

    def __len__(self) -> int:
        if self.whole:
            return -(-len(self._indices()) // self._batch_size)
        return self.steps - self.start

    def _indices(self) -> Sequence[int] | NDArray[np.int64]:
        """This process's frames in order; a step of all processes together takes consecutive ones."""
        if self.whole or not self._shuffle:
            return range(self.rank, self._frames, self._world)
        order = stream("order of frames", self.seed, self.epoch).permutation(self._frames)
        whole = order[: self.steps * self._batch_size * self._world]
        return np.asarray(whole.reshape(self.steps, self._world, self._batch_size)[:, self.rank].reshape(-1))


class _Samples(torch_data.Dataset[tuple[_Key, Prepared | _Mistake]]):
    """Frames read and prepared by key."""

    def __init__(self, dataset: Dataset, prepare: PrepareFrame, max_gap: int | None) -> None:
        self._dataset, self._prepare, self._max_gap = dataset, prepare, max_gap

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: _Key) -> tuple[_Key, Prepared | _Mistake]:
        rng = stream("sample", key.seed, key.epoch, key.sample)
        try:
            return key, self._prepare(self._dataset[key.sample], rng, self._other(key.sample, rng))
        except UserError as error:
            if torch_data.get_worker_info() is None:
                raise
            return key, _Mistake(str(error))

    def _other(self, index: int, rng: np.random.Generator) -> Frame | None:
        """The frame for a second view; None where it is to show the first one's own."""
        if self._max_gap is None:
            return None
        place = neighbour(self._dataset, index, self._max_gap, rng)
        return None if place == index else self._dataset[place]


def _begin_worker(parent: int, worker: int) -> None:  # noqa: ARG001
    end_with_parent(parent)


def _collate(items: list[tuple[_Key, Prepared | _Mistake]]) -> Batch | _Mistake:
    samples = []
    for _, sample in items:
        if isinstance(sample, _Mistake):
            return sample
        samples.append(sample)
    key = items[0][0]
    seed = number("look at a batch" if key.look else "batch", key.seed, key.epoch, key.step, key.rank)
    try:
        return collate(samples, seed, [key.sample for key, _ in items])
    except UserError as error:
        return _Mistake(str(error))
