"""A whole dataset gone through by networks, a frame at a time, so that memory does not grow with the dataset."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from olivine.errors import UserError
from olivine.explorer.subject.moments import Moment, Moments
from olivine.explorer.subject.networks import Network

Found = TypeVar("Found")

TROUBLES = 20
"""The reasons of so many frames that could not be looked at are kept; others are counted."""

_log = logging.getLogger("olivine")


def spread(count: int) -> list[int]:
    """0…count-1 in an order whose beginnings are spread evenly over them: van der Corput's.

    A survey that is stopped has so seen a fair sample of the frames.
    """
    bits = max(1, (count - 1).bit_length())
    mirrored = (int(f"{place:0{bits}b}"[::-1], 2) for place in range(1 << bits))
    return [place for place in mirrored if place < count]


class Survey(Generic[Found]):
    """A pass over the frames of a dataset; what it finds of each comes as it is found.

    Frames are read beside those that `Moments` keeps, so that what is on screen stays in memory, and each is let go
    when it was looked at. A frame that cannot be read, or looked at, is passed over and its reason kept.

    Args:
        moments: the frames.
        networks: those that are asked about each frame.
        look: called with the moment and the answer of each network, in their order; what it makes of them must be
            small. A `UserError` says why it cannot.
        order: places of the frames; all in the order of `spread` where left out.

    Attributes:
        total: how many frames there are to go through.
        done: how many it went through, those that could not be looked at included.
        failed: how many could not be looked at.
        troubles: (place of the frame, reason) of the first of them, `TROUBLES` at most.
    """

    def __init__(
        self,
        moments: Moments,
        networks: Sequence[Network],
        look: Callable[..., Found],
        order: Sequence[int] | None = None,
    ) -> None:
        self._moments, self._networks, self._look = moments, tuple(networks), look
        self._order = spread(len(moments)) if order is None else list(order)
        self._stopped = threading.Event()
        self._versions: list[int] | None = None
        self.total, self.done, self.failed = len(self._order), 0, 0
        self.troubles: list[tuple[int, str]] = []

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._stopped.is_set()

    @property
    def whole(self) -> bool:
        """Whether it went through all frames."""
        return self.done == self.total

    def stop(self) -> None:
        """Look at no further frame; from any thread."""
        self._stopped.set()

    def resume(self) -> None:
        """Let it be gone through again, from where it stopped."""
        self._stopped.clear()

    def __iter__(self) -> Iterator[tuple[int, Found]]:
        """Go through the frames that are left, yielding (place of the frame, what was found) of each.

        Raises:
            UserError: the weights of a network cannot be read, or are others than before, of a run that still trains.
        """
        if self._versions is None:  # which loads them; else every frame would say that they cannot be read
            self._versions = [network.version for network in self._networks]
        while self.done < self.total and not self.stopped:
            self._check_versions(self._versions)
            place = self._order[self.done]
            try:
                moment = Moment(place, self._moments.dataset[place], self._moments.subject.pairs)
                found = self._look(moment, *(network.answer(moment.frame) for network in self._networks))
            except UserError as error:
                self.done, self.failed = self.done + 1, self.failed + 1
                if len(self.troubles) < TROUBLES:
                    self.troubles.append((place, str(error)))
                continue
            self.done += 1
            yield place, found

    def _check_versions(self, versions: list[int]) -> None:
        for network, version in zip(self._networks, versions, strict=True):
            if network.version != version:
                raise UserError(f"{network.run.name} has trained on meanwhile; go through the frames anew")


def in_background(
    survey: Survey[Found],
    take: Callable[[int, Found], object],
    tell: Callable[[], object],
    end: Callable[[str], object],
) -> threading.Thread:
    """Go through a survey in a thread of its own, which ends with the survey or soon after `Survey.stop`.

    Args:
        survey: the survey.
        take: is handed the place of each frame and what was found.
        tell: called after each, to show how far it is.
        end: called last, with what went wrong; empty where it went through or was stopped.

    Returns:
        The thread, started.
    """

    def work() -> None:
        trouble = ""
        try:
            for place, found in survey:
                take(place, found)
                tell()
        except UserError as error:
            trouble = str(error)
        except Exception as error:  # noqa: BLE001 (it is said, and the explorer goes on)
            _log.exception("a survey of the dataset failed")
            trouble = f"this failed within olivine: {error!r}"
        end(trouble)

    thread = threading.Thread(target=work, name="survey", daemon=True)
    thread.start()
    return thread
