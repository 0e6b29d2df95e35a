"""The part that compares with what is clicked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from olivine.explorer.browser.desk import SMALL, Desk, Part
from olivine.explorer.browser.images import Images
from olivine.explorer.coloring import SIMILARITY
from olivine.explorer.selecting.clicks import clicked
from olivine.explorer.selecting.similarity import FEATURES
from olivine.explorer.stage import Shown
from olivine.explorer.subject.networks import LEVELS

_FINEST = "finest"


class Similarity(Part):
    """Clicks on points and pixels, the level, the threshold; with no network, a line that says so."""

    def __init__(self, desk: Desk, images: Images) -> None:
        super().__init__(desk)
        gui, there = desk.client.gui, bool(desk.stage.moments.networks)
        with gui.add_folder("Similarity"):
            said = (
                "Click a point of the scene, or of an image there." if there else "Name a run, whose features compare."
            )
            gui.add_html(f'<div style="{SMALL}">{said}</div>')
            self._level = gui.add_dropdown("Level", (_FINEST, *LEVELS, FEATURES), visible=there)
            self._threshold = gui.add_slider("Threshold", 0.0, 1.0, 0.01, desk.view.threshold, visible=there)
        self._level.on_update(lambda _: self._at(str(self._level.value)))
        self._threshold.on_update(
            lambda _: desk.change(lambda view: replace(view, threshold=float(self._threshold.value)))
        )
        if there:
            desk.client.scene.on_click()(self._clicked)
            images.clicked = self._clicked

    def update(self, shown: Shown) -> None:
        """Let level and threshold be those of the view, whoever asked for it."""
        if self.desk.stale:
            return
        level = shown.view.level or _FINEST
        if level in self._level.options and self._level.value != level:
            self._level.value = level
        if self._threshold.value != shown.view.threshold:
            self._threshold.value = shown.view.threshold

    def _clicked(self, event: Any) -> None:
        """A click on the scene, or on an image that stands in it."""
        shown = self.desk.shown
        query = None if shown is None else clicked(shown, np.array(event.ray_origin), np.array(event.ray_direction))
        if query is not None:
            self.desk.change(lambda view: replace(view, query=str(query), color=SIMILARITY))

    def _at(self, level: str) -> None:
        self.desk.change(lambda view: replace(view, level="" if level == _FINEST else level))
