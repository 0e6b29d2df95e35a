"""The part that hands on what is on screen: as an address, as a picture, and as a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from olivine.drawing.tiles import png
from olivine.errors import UserError
from olivine.explorer.browser.desk import Desk, Part
from olivine.explorer.coloring import modes
from olivine.explorer.sharing.page import page
from olivine.explorer.sharing.snapshot import heading, picture
from olivine.explorer.stage import Shown
from olivine.explorer.view import View


class Share(Part):
    """The view's address, and what can be saved."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        gui = desk.client.gui
        self._moved, self._listens = False, False
        with gui.add_folder("What is on screen"):
            self._address = gui.add_text("View", "", hint="Put it behind the address, or after --view")
            save = gui.add_button("Save as picture", hint="PNG with images and legend")
            solid = gui.add_button("Save as page", hint="HTML with the scene to turn and the images; needs no server")
        save.on_click(lambda _: self._download("png", lambda shown: png(picture(desk.stage, shown))))
        solid.on_click(lambda _: self._download("html", self._page))

    def update(self, shown: Shown) -> None:
        """Say the address of the view."""
        if not self._listens:  # from when the view has been looked at from its own place
            self.desk.client.camera.on_update(lambda _: setattr(self, "_moved", True))
            self._listens = True
        self._address.value = f"?{self.addressed(shown.view)}"

    def idle(self) -> None:
        """Say it anew when the scene was turned."""
        if self._moved and self.desk.shown is not None:
            self._moved = False
            self._address.value = f"?{self.addressed(self.desk.shown.view)}"

    def addressed(self, view: View) -> str:
        """The address of a view as it is seen now."""
        return self._seen(view).address()

    def _seen(self, view: View) -> View:
        """A view from where the visitor looks at it now."""
        camera = self.desk.client.camera
        return replace(view, eye=_place(camera.position), target=_place(camera.look_at))

    def _page(self, shown: Shown) -> bytes:
        stage = self.desk.stage
        what = modes(stage.moments, stage.network(shown.view))[shown.view.color]
        return page(stage, shown, heading(stage, shown), what)

    def _download(self, ending: str, make: Callable[[Shown], bytes]) -> None:
        """Hand what is on screen to the visitor as a file."""
        if self.desk.shown is None:
            return
        shown = replace(self.desk.shown, view=self._seen(self.desk.shown.view))
        try:
            data = make(shown)
        except UserError as error:
            self.desk.say(str(error))
            return
        name = f"{shown.view.frame:06d}-{shown.view.color}.{ending}"
        self.desk.client.send_file_download(name, data, save_immediately=True)


def _place(values: Any) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 2) for value in values)
    return x, y, z
