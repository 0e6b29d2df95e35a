"""The part that brings more than a frame and a run into the scene: sweeps, runs side by side, runs that go on training.

What a view asks for beyond its own frame and run comes bit by bit, made by a thread of its own.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import Any

from olivine.errors import UserError, printable
from olivine.explorer.browser.desk import Desk, Part
from olivine.explorer.stage import Shown
from olivine.explorer.view import ALL, MOST_SWEEPS, View

LOOK_S = 2.0
"""Seconds from one look for later checkpoints to the next."""

_SHOW_S = 0.7
_log = logging.getLogger("olivine")


class Around(Part):
    """Sweeps, runs beside, and what makes them."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        gui, networks = desk.client.gui, list(desk.stage.moments.networks)
        self._filling: View | None = None
        self._filled: View | None = None
        self._looked = time.monotonic()
        several = len(desk.stage.moments) > 1
        with gui.add_folder("Around", expand_by_default=desk.view.sweeps > 1 or bool(desk.view.beside)):
            self._sweeps = gui.add_slider(
                "Sweeps", 1, MOST_SWEEPS, 1, desk.view.sweeps, disabled=not several, hint="Frames of the scene in one"
            )
            self._boxes = dict[str, Any]()
            for name in networks if len(networks) > 1 else ():
                there = ALL in desk.view.beside or name in desk.view.beside
                self._boxes[name] = gui.add_checkbox(printable(name), there, hint="Its points beside those of the run")
                self._boxes[name].on_update(lambda _: self._chosen())
        self._sweeps.on_update(lambda _: desk.change(lambda view: replace(view, sweeps=int(self._sweeps.value))))

    def update(self, shown: Shown) -> None:
        """Let what is missing be made."""
        view = shown.view
        if shown.missing and view not in (self._filling, self._filled):
            self._filling = view
            threading.Thread(target=self._fill, args=(view,), name="around", daemon=True).start()

    def idle(self) -> None:
        """Show the view once more where a run that trains has gone on."""
        if time.monotonic() - self._looked > LOOK_S:
            self._looked = time.monotonic()
            if self.desk.stage.outdated(self.desk.view):
                self._filled = None
                self.desk.again()

    def halt(self) -> None:
        """Make nothing more."""
        self._filling = None

    def _chosen(self) -> None:
        names = tuple(name for name, box in self._boxes.items() if box.value)
        self.desk.change(lambda view: replace(view, beside=names))

    def _fill(self, view: View) -> None:
        """Make what a view asks for, until another one does; show it now and then, and at the end."""
        shown_at, asked = time.monotonic(), self.desk.view
        try:
            for _ in self.desk.stage.fill(view):
                if self._filling != view or self.desk.view != asked or self.desk.closed:
                    return
                if time.monotonic() - shown_at > _SHOW_S:
                    self.desk.again()
                    shown_at = time.monotonic()
            self._filled = view
            self.desk.again()
        except UserError as error:
            self._filled = view
            self.desk.say(str(error))
        except Exception:  # noqa: BLE001 (it is said, and the visit goes on)
            self._filled = view
            _log.exception("the explorer could not show more than a frame")
        finally:
            if self._filling == view:
                self._filling = None
