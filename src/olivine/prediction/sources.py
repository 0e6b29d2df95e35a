"""Where frames to predict come from: `Source`, of a dataset; bare scans and logs have files of their own.

A source lists its moments without reading them; a moment is read in a thread, while the network works on an earlier
one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.data.frame import Dataset, Frame
from olivine.data.shards import Shard


@dataclass(frozen=True)
class Reading:
    """A moment as it was read.

    Attributes:
        frame: what the network is given.
        returned: [R] bool, which rows of the file are the points of the frame; None: all of them.
        origin_m: what was taken off the coordinates of the file, metres.
    """

    frame: Frame
    returned: NDArray[np.bool_] | None = None
    origin_m: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def per_row(self, values: NDArray[Any]) -> NDArray[Any]:
        """[R] values of all rows of the file, of those [N] of the points; 0 where there is no point."""
        if self.returned is None:
            return values
        rows = np.zeros(len(self.returned), values.dtype)
        rows[self.returned] = values
        return rows


@dataclass(frozen=True)
class Moment:
    """A frame that is still to be read.

    Attributes:
        place: among all of its source.
        name: what its files are named by, a path below the folder of predictions.
        read: reads it; raises `UserError` where its files are missing or damaged.
    """

    place: int
    name: str
    read: Callable[[], Reading]


class Source(ABC):
    """Frames in order.

    Attributes:
        kind: what it is: the name of a dataset, `scans` or `log`.
        dataset: the dataset, or None where it is none.
    """

    kind: str
    dataset: Dataset | None = None

    @abstractmethod
    def __len__(self) -> int:
        """How many frames there are; of a log about."""

    @abstractmethod
    def moments(self, shard: Shard) -> Generator[Moment]:
        """The moments of a share, in order, not read."""

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What decides the frames beside where they lie, ready for `json.dumps`."""

    def close(self) -> None:  # noqa: B027 (most sources hold nothing open)
        """Close the files."""

    @property
    def left_out(self) -> dict[str, int]:
        """Of a log that was gone through: scans that are no moments, by reason."""
        return {}

    @abstractmethod
    def __str__(self) -> str:
        """For messages."""


class DatasetSource(Source):
    """The frames of a dataset.

    Args:
        dataset: the dataset.
        where: its folder, for messages.
        settings: what it was opened with.
    """

    def __init__(self, dataset: Dataset, where: str, settings: dict[str, Any]) -> None:
        self.dataset: Dataset = dataset
        self.kind, self._where, self._settings = dataset.name, where, settings

    def __len__(self) -> int:
        return len(self.dataset)

    def moments(self, shard: Shard) -> Generator[Moment]:
        """The moments of a share; named by the frames' tokens."""
        for place in shard.frames(len(self.dataset)):
            yield Moment(place, self.dataset.token(place), partial(self._read, place))

    def _read(self, place: int) -> Reading:
        frame = self.dataset[place]
        return Reading(frame, frame.returns)

    @property
    def settings(self) -> dict[str, Any]:
        """The dataset's configuration without its root, and the split."""
        return self._settings

    def __str__(self) -> str:
        return self._where
