"""What the parts of a visitor's panel share: the view that is asked for, and what is shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from olivine.errors import printable
from olivine.explorer.stage import Shown, Stage
from olivine.explorer.view import View

if TYPE_CHECKING:
    import viser

SMALL = "font-size:0.78em;opacity:0.75;padding:0 1em 0.5em;overflow-wrap:anywhere"
"""Style of lines that explain."""


class Desk:
    """A visitor's view, which parts change, and what is shown of it. Several threads may ask it.

    Args:
        client: the visitor.
        stage: what makes views concrete.
        view: what is shown at first.

    Attributes:
        shown: what is on screen, or None before anything is.
        began: when the view on screen began to be made, as of `time.perf_counter`.

    Raises:
        UserError: the network of the view cannot be read.
    """

    def __init__(self, client: viser.ClientHandle, stage: Stage, view: View) -> None:
        self.client: Any = client  # its values can be set, which its types do not say
        self.stage = stage
        self.shown: Shown | None = None
        self.began = time.perf_counter()
        self._view = stage.settled(view)
        self._wake = threading.Condition()
        self._stale, self._closed = True, False

    @property
    def view(self) -> View:
        """What was last asked for."""
        return self._view

    @property
    def stale(self) -> bool:
        """Whether what is being shown is no longer asked for, by a change or because the visitor has gone."""
        return self._stale or self._closed

    @property
    def closed(self) -> bool:
        """Whether the visitor has gone."""
        return self._closed

    def change(self, make: Callable[[View], View]) -> None:
        """Show another view, made of the one that was last asked for."""
        with self._wake:
            changed = make(self._view)
            if changed != self._view:
                self._view, self._stale = changed, True
                self._wake.notify_all()

    def again(self) -> None:
        """Show the view once more."""
        with self._wake:
            self._stale = True
            self._wake.notify_all()

    def close(self) -> None:
        """The visitor has gone."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()

    def take(self, wait_s: float) -> View | None:
        """The view that is to be shown next, or None where within some seconds none is asked for."""
        with self._wake:
            if not self.stale:
                self._wake.wait(wait_s)
            if not self._stale or self._closed:
                return None
            self._stale = False
            return self._view

    def say(self, text: str, title: str = "Not shown") -> None:
        """Tell the visitor what could not be done."""
        self.client.add_notification(title, printable(text), color="red", auto_close_seconds=8)


class Part:
    """Some controls of a panel, or what is drawn.

    Args:
        desk: what it shares with the others.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def update(self, shown: Shown) -> None:
        """Show what belongs here of a view that has become concrete. A desk that is stale may be left as it is."""

    def idle(self) -> None:
        """Do what is done without being asked: called a few times a second while no view is made."""

    def halt(self) -> None:
        """Stop what goes on by itself: a view could not be shown, or the visitor has gone."""
