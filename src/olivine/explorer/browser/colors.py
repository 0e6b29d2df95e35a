"""The part that says what colours show, and what they mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from olivine.drawing.tiles import RGB, scale
from olivine.errors import UserError, printable
from olivine.explorer.browser.desk import Desk, Part
from olivine.explorer.browser.scene import Scene
from olivine.explorer.coloring import Coloring, Scale, lines_of, modes
from olivine.explorer.stage import Shown
from olivine.explorer.view import View

_HIDDEN = (52, 54, 60)


class Colors(Part):
    """Which network is asked, what points are coloured by, how large they are."""

    def __init__(self, desk: Desk, scene: Scene) -> None:
        super().__init__(desk)
        gui, networks = desk.client.gui, list(desk.stage.moments.networks)
        self._scene = scene
        with gui.add_folder("Colour"):
            self._network = (
                gui.add_dropdown("Network", networks, initial_value=desk.view.network) if len(networks) > 1 else None
            )
            self._color = gui.add_dropdown("Points by", [""])
            self._size = gui.add_slider("Point size", 0.01, 0.3, 0.01, scene.point_size_m)
        self._offer()
        self._color.on_update(lambda _: self._chosen())
        self._size.on_update(lambda _: self._resize())
        if self._network is not None:
            chosen = self._network
            chosen.on_update(lambda _: self._switch(str(chosen.value)))
        gui.add_command("Colour", hotkey="C").on_trigger(lambda _: self._next())

    def update(self, shown: Shown) -> None:
        """Let the menus say what is shown, whoever asked for it."""
        if self.desk.stale:
            return
        if self._network is not None and self._network.value != shown.view.network:
            self._network.value = shown.view.network
        words = self._known().get(shown.view.color)
        if words is not None and self._color.value != words:
            self._color.value = words

    def _known(self) -> dict[str, str]:
        """The colourings that the network at hand has, in words."""
        return modes(self.desk.stage.moments, self.desk.stage.network(self.desk.view))

    def _offer(self) -> None:
        found = self._known()
        self._color.options = list(found.values())
        self._color.value = found[self.desk.stage.settled(self.desk.view).color]

    def _chosen(self) -> None:
        name = next((name for name, words in self._known().items() if words == self._color.value), None)
        if name is not None:
            self.desk.change(lambda view: replace(view, color=name))

    def _switch(self, network: str) -> None:
        self.desk.change(lambda view: replace(view, network=network))
        try:
            self._offer()
        except UserError as error:
            self.desk.say(str(error))

    def _next(self) -> None:
        options = list(self._color.options)
        self._color.value = options[(options.index(self._color.value) + 1) % len(options)]

    def _resize(self) -> None:
        self._scene.point_size_m = float(self._size.value)
        if self.desk.shown is not None:
            self._scene.draw_points(self.desk.shown)


class Legend(Part):
    """What the colours mean: a line of each class that the frame has, which filters it; or the scale."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._folder = desk.client.gui.add_folder("Legend")
        self._of: tuple[object, ...] = ()
        self._measured = False
        self._parts: list[Any] = []

    def update(self, shown: Shown) -> None:
        """Explain the colours of the view."""
        coloring, view = shown.coloring, shown.view
        lines = lines_of(shown.parts, view.hidden)
        wanted = _meaning(coloring, view, [line.name for line in lines])
        if coloring.scale is not None and self._measured:
            if wanted != self._of:
                self._parts[0].image, self._of = _strip(coloring.scale), wanted
        elif wanted != self._of:
            for part in self._parts:
                part.remove()
            self._parts, self._of, self._measured = [], wanted, coloring.scale is not None
            with self._folder:
                self._parts = self._build(coloring, [line.name for line in lines])
        if coloring.scale is None:
            for part, line in zip(self._parts, lines, strict=False):
                part.color = _HIDDEN if line.name in view.hidden else line.color

    def _build(self, coloring: Coloring, names: list[str]) -> list[Any]:
        gui, parts = self.desk.client.gui, list[Any]()
        if coloring.scale is not None:
            return [gui.add_image(_strip(coloring.scale), format="png")]
        for name in names:
            button = gui.add_button(printable(name), hint="Hide or show")
            button.on_click(lambda _, name=name: self._filter(name))
            parts.append(button)
        return parts or [gui.add_html("<small>Alike colours are alike features.</small>")]

    def _filter(self, name: str) -> None:
        def turned(view: View) -> View:
            return replace(view, hidden=view.hidden ^ {name})

        self.desk.change(turned)


def _meaning(coloring: Coloring, view: View, names: list[str]) -> tuple[object, ...]:
    """What the legend is of: as long as it stays the same, its parts stay."""
    measured = coloring.scale
    return (view.color, *names) if measured is None else (view.color, measured.title, measured.ticks)


def _strip(measured: Scale) -> RGB:
    return scale(measured.colors, measured.ticks, measured.title)
