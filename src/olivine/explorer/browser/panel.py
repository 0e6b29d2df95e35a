"""A visitor's panel: its parts, and the thread that makes views concrete for them.

What is asked for by the controls becomes the next view; a thread of its own makes it concrete, so that nothing waits
for a network, and of views that come in faster than they can be shown only the last is.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from olivine.errors import UserError, printable
from olivine.explorer.asked import missed
from olivine.explorer.browser.around import Around
from olivine.explorer.browser.colors import Colors, Legend
from olivine.explorer.browser.desk import Desk, Part
from olivine.explorer.browser.frames import Frames
from olivine.explorer.browser.images import Images
from olivine.explorer.browser.mistakes import Mistakes
from olivine.explorer.browser.scene import Scene
from olivine.explorer.browser.selection import Selections
from olivine.explorer.browser.share import Share
from olivine.explorer.browser.similarity import Similarity
from olivine.explorer.browser.suspects import Suspects
from olivine.explorer.browser.versus import Beats
from olivine.explorer.stage import Stage
from olivine.explorer.view import View

if TYPE_CHECKING:
    import viser

PLAY_S = 0.4
"""Seconds from one frame to the next while playing, at least."""

_log = logging.getLogger("olivine")


class Panel:
    """A visitor's controls and what they show.

    Args:
        client: the visitor.
        stage: what makes views concrete.
        view: what is shown at first.

    Raises:
        UserError: the network of the view cannot be read.
    """

    def __init__(self, client: viser.ClientHandle, stage: Stage, view: View) -> None:
        self.desk = Desk(client, stage, view)
        gui = self.desk.client.gui
        gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False, brand_color=(72, 160, 130))
        gui.main_panel.dock_right()
        gui.main_panel.set_width(300)
        gui.set_panel_label(printable(stage.moments.subject.title))
        self._parts = self._build()
        for words in missed(stage, view):
            self.desk.say(words)
        threading.Thread(target=self._work, daemon=True).start()

    def _build(self) -> tuple[Part, ...]:
        """The parts, from top to bottom; they are updated in the order that is returned, what is quick first."""
        desk = self.desk
        scene, frames = Scene(desk), Frames(desk)
        tabs = desk.client.gui.add_tab_group()
        with tabs.add_tab("Look"):
            colors, legend, images = Colors(desk, scene), Legend(desk), Images(desk)
            around = Around(desk)
        with tabs.add_tab("Compare"):
            similarity, selections = Similarity(desk, images), Selections(desk)
        with tabs.add_tab("Mistakes"):
            mistakes, beats, suspects = Mistakes(desk, scene), Beats(desk, scene), Suspects(desk, scene)
        with tabs.add_tab("Share"):
            share = Share(desk)
        quick = scene, legend, frames, colors, mistakes, beats, suspects
        return *quick, similarity, selections, share, around, images

    def close(self) -> None:
        """End the thread; the visitor has gone."""
        self.desk.close()

    def _work(self) -> None:
        desk = self.desk
        while not desk.closed:
            view = desk.take(PLAY_S)
            try:
                if view is not None:
                    self._present(view)
                elif not desk.stale:
                    for part in self._parts:
                        part.idle()
            except UserError as error:
                self._halt()
                desk.say(str(error))
            except Exception:  # noqa: BLE001 (a view that fails must not end the visit)
                if not desk.closed:  # else the visitor has gone in between
                    _log.exception("the explorer could not show a view")
                    desk.say("this failed within olivine; where the explorer runs is said how")
        self._halt()

    def _halt(self) -> None:
        for part in self._parts:
            part.halt()

    def _present(self, view: View) -> None:
        self.desk.began = time.perf_counter()
        self.desk.shown = shown = self.desk.stage.show(view, wait=False)
        if shown.trouble:
            self.desk.say(shown.trouble)
        for part in self._parts:
            part.update(shown)
