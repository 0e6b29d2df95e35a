"""The part that goes from frame to frame, and says which one is shown."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from dataclasses import replace

from olivine.errors import printable
from olivine.explorer.browser.desk import SMALL, Desk, Part
from olivine.explorer.stage import Shown


class Frames(Part):
    """A slider, buttons and keys; playing."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        gui, count = desk.client.gui, len(desk.stage.moments)
        self._playing = False
        with gui.add_folder("Frame"):
            self._frame = gui.add_slider("Frame", 0, max(1, count - 1), 1, desk.view.frame, disabled=count < 2)
            self._steps = gui.add_button_group("Go", ("Back", "Play", "Next", "Scene"), disabled=count < 2)
            self._about = gui.add_html("")
        self._frame.on_update(lambda _: desk.change(lambda view: replace(view, frame=int(self._frame.value))))
        self._steps.on_click(lambda _: self._step(str(self._steps.value)))
        for key, word in (("N", "Next"), ("B", "Back"), ("space", "Play")):
            command = gui.add_command({"Play": "Play or stop"}.get(word, word), hotkey=key)
            command.on_trigger(lambda _, word=word: self._step(word))

    def go(self, frame: int) -> None:
        """Show another frame."""
        self._frame.value = frame

    def update(self, shown: Shown) -> None:
        """Say which frame it is, how many points are left, and how long it took."""
        if int(self._frame.value) != shown.view.frame and self.desk.view.frame == shown.view.frame:
            self._frame.value = shown.view.frame
        frame = shown.moment.frame
        seconds = time.perf_counter() - self.desk.began
        notes = [*shown.notes, f"{shown.missing} still to come"] if shown.missing else shown.notes
        drawn = int(shown.visible.sum())
        self._about.content = _about(frame.scene, frame.token, drawn, len(shown.visible), seconds, notes)

    def idle(self) -> None:
        """Play."""
        if self._playing:
            self._move(1)

    def halt(self) -> None:
        """Play no longer."""
        self._playing = False

    def _step(self, word: str) -> None:
        if word == "Play":
            self._playing = not self._playing
        elif word == "Scene":
            dataset, at = self.desk.stage.moments.dataset, self.desk.view.frame
            count, here = len(dataset), dataset.scene(at)
            others = (place % count for place in range(at + 1, at + count))
            self._move(next((place for place in others if dataset.scene(place) != here), at) - at)
        else:
            self._move(1 if word == "Next" else -1)

    def _move(self, by: int) -> None:
        self.go((self.desk.view.frame + by) % len(self.desk.stage.moments))


def _about(scene: str, token: str, shown: int, count: int, seconds: float, notes: Sequence[str] = ()) -> str:
    """A line about the frame, as HTML in which no name of the data does anything."""
    words = f"{html.escape(printable(scene))} · {html.escape(printable(token))}"
    points = f"{shown:,} of {count:,} points" if shown < count else f"{count:,} points"
    said = "".join(f"<br>{html.escape(printable(note))}" for note in notes)
    return f'<div style="{SMALL}">{words}<br>{points} · {1000 * seconds:.0f} ms{said}</div>'
