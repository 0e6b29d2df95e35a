"""What was asked of a whole dataset: each question is gone through once, and its answer kept for all who look."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from olivine.explorer.mistakes.confusion import Confusion
from olivine.explorer.mistakes.survey import Survey, in_background
from olivine.explorer.mistakes.suspects import LabelErrors
from olivine.explorer.mistakes.versus import Versus
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.networks import Network

_Asked = tuple[str, int]
"""A network, and which of its versions: a run that still trains becomes another."""


class Tally(Protocol):
    """What a survey is added up to."""

    @property
    def look(self) -> Callable[..., Any]:
        """Called with a moment and the answer of each network."""
        ...

    @property
    def add(self) -> Callable[[int, Any], None]:
        """Called with the place of the frame and what `look` found."""
        ...


Table = TypeVar("Table", bound=Tally)


class Inquiry(Generic[Table]):
    """A survey and what it is added up to, which may be read while it goes on. Several threads may ask it.

    Args:
        moments: the frames.
        networks: those that are asked.
        table: what is found is added to it.

    Attributes:
        table: as given.
        survey: how far it is.
        trouble: what ended it before its time; empty for nothing.
    """

    def __init__(self, moments: Moments, networks: Sequence[Network], table: Table) -> None:
        self.table, self.trouble = table, ""
        self.survey: Survey[Any] = Survey(moments, networks, table.look)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def running(self) -> bool:
        """Whether frames are being looked at."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Go on in a thread of its own, unless it goes on already or is through."""
        with self._lock:
            if not self.running:
                self.survey.resume()
                self.trouble = ""
                self._thread = in_background(self.survey, self.table.add, lambda: None, self._ended)

    def stop(self, wait_s: float = 0.0) -> None:
        """Stop after the frame that is being looked at; wait so long for it."""
        self.survey.stop()
        if wait_s and self._thread is not None:
            self._thread.join(wait_s)

    def _ended(self, trouble: str) -> None:
        self.trouble = trouble


class Inquiries:
    """The inquiries of a dataset, by what is asked.

    Args:
        moments: the frames and networks.
    """

    def __init__(self, moments: Moments) -> None:
        self._moments = moments
        self._confusions: dict[_Asked, Inquiry[Confusion]] = {}
        self._versus: dict[tuple[_Asked, _Asked], Inquiry[Versus]] = {}
        self._label_errors: dict[_Asked, Inquiry[LabelErrors]] = {}
        self._lock = threading.Lock()

    def confusion(self, network: Network) -> Inquiry[Confusion]:
        """What a network confuses; not started.

        Raises:
            UserError: as of `Confusion`.
        """
        key = _asked(network)
        with self._lock:
            if key not in self._confusions:
                self._confusions[key] = Inquiry(self._moments, [network], Confusion(self._moments, network))
            return self._confusions[key]

    def known_confusion(self, network: Network) -> Inquiry[Confusion] | None:
        """The same where it was asked before, else None."""
        return self._confusions.get(_asked(network))

    def known_versus(self, first: Network, second: Network) -> Inquiry[Versus] | None:
        """As `versus` where it was asked before, else None."""
        return self._versus.get((_asked(first), _asked(second)))

    def versus(self, first: Network, second: Network) -> Inquiry[Versus]:
        """Where a network beats another; not started.

        Raises:
            UserError: as of `Versus`.
        """
        key = _asked(first), _asked(second)
        with self._lock:
            if key not in self._versus:
                table = Versus(self._moments, first, second)
                self._versus[key] = Inquiry(self._moments, [first, second], table)
            return self._versus[key]

    def label_errors(self, network: Network) -> Inquiry[LabelErrors]:
        """Which labels a network doubts; not started.

        Raises:
            UserError: as of `LabelErrors`.
        """
        key = _asked(network)
        with self._lock:
            if key not in self._label_errors:
                self._label_errors[key] = Inquiry(self._moments, [network], LabelErrors(self._moments, network))
            return self._label_errors[key]

    def known_label_errors(self, network: Network) -> Inquiry[LabelErrors] | None:
        """The same where it was asked before, else None."""
        return self._label_errors.get(_asked(network))

    def stop(self) -> None:
        """Stop all that goes on."""
        with self._lock:
            for confusion in self._confusions.values():
                confusion.stop()
            for versus in self._versus.values():
                versus.stop()
            for doubts in self._label_errors.values():
                doubts.stop()


def _asked(network: Network) -> _Asked:
    return network.run.name, network.version
