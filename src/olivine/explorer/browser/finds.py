"""Lists of frames and clusters that lead to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from olivine.errors import printable
from olivine.explorer.browser.desk import SMALL, Desk, Part
from olivine.explorer.browser.scene import Scene
from olivine.explorer.browser.trips import Trips
from olivine.explorer.mistakes.clusters import Cluster
from olivine.explorer.stage import Shown
from olivine.explorer.view import View

LISTED = 10
"""So many clusters are listed."""

_NOWHERE = "go to a frame"
_QUIET = (64, 70, 82)


class Finds(Part):
    """A menu of frames and a list of clusters, worst first; a click goes there.

    Args:
        desk: what it shares with the others.
        scene: where clusters are looked at.
    """

    def __init__(self, desk: Desk, scene: Scene) -> None:
        super().__init__(desk)
        gui = desk.client.gui
        self._trips, self._view = Trips(desk, scene, "found"), View()
        self._frames: list[int] = []
        self._clusters: list[Cluster] = []
        self._title = gui.add_html("")
        self._menu = gui.add_dropdown("Frames", (_NOWHERE,), visible=False)
        self._buttons: list[Any] = [gui.add_button("", visible=False, color=_QUIET) for _ in range(LISTED)]
        self._menu.on_update(lambda _: self._to_frame(str(self._menu.value)))
        for place, button in enumerate(self._buttons):
            button.on_click(lambda _, place=place: self._to_cluster(place))

    def show(self, title: str, frames: Sequence[tuple[int, str]], clusters: Sequence[Cluster], view: View) -> None:
        """List what was found.

        Args:
            title: what it is, HTML.
            frames: (place of the frame, what to say of it), worst first.
            clusters: worst first.
            view: what colours mean where it leads; of it colouring and networks are taken.
        """
        self._view, self._frames, self._clusters = view, [place for place, _ in frames], list(clusters[:LISTED])
        self._title.content = f'<div style="{SMALL}">{title}</div>'
        self._menu.options = (_NOWHERE, *(_line(place, words) for place, words in frames))
        self._menu.value, self._menu.visible = _NOWHERE, bool(frames)
        for place, button in enumerate(self._buttons):
            button.visible = place < len(self._clusters)
            if button.visible:
                cluster = self._clusters[place]
                sure = f" · p {cluster.confidence:.2f}" if cluster.confidence else ""
                button.label = f"frame {cluster.frame} · {cluster.points:,} points{sure}"

    def clear(self) -> None:
        """List nothing."""
        self.show("", (), (), self._view)
        self._title.content = ""

    def update(self, shown: Shown) -> None:
        """Look at the cluster that was gone to, and draw a box around it until another frame is shown."""
        self._trips.update(shown)

    def _to_frame(self, words: str) -> None:
        options = list(self._menu.options)
        if words in options[1:]:
            frame = self._frames[options.index(words) - 1]
            self._trips.go(replace(self._view, frame=frame))

    def _to_cluster(self, place: int) -> None:
        if place < len(self._clusters):
            self._trips.visit(self._clusters[place], self._view)


def _line(place: int, words: str) -> str:
    return printable(f"frame {place}: {words}")
