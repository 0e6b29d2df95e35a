"""The part that shows a frame's images: beside the scene, and standing in it before their cameras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from olivine.drawing.tiles import RGB
from olivine.errors import printable
from olivine.explorer.browser.desk import Desk, Part
from olivine.explorer.scene.planes import plane
from olivine.explorer.stage import Shown

IMAGE_PX = 480
"""Images are sent no wider than this."""

_STANDING = {"": "nothing", "frusta": "frusta", "images": "images"}


class Images(Part):
    """The images.

    Attributes:
        clicked: told of a click on an image that stands in the scene, with viser's event.
    """

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        gui = desk.client.gui
        self.clicked: Callable[[Any], None] | None = None
        with gui.add_folder("Images"):
            masks = desk.stage.moments.dataset.manifest is not None
            self._mask = gui.add_slider("Masks", 0.0, 1.0, 0.05, desk.view.mask, visible=masks)
            self._dots = gui.add_slider("Points", 0.0, 1.0, 0.05, desk.view.dots)
            segments = desk.stage.moments.dataset.superpixels is not None
            self._segments = gui.add_slider("Superpixels", 0.0, 1.0, 0.05, desk.view.superpixels, visible=segments)
            self._standing = gui.add_dropdown(
                "In the scene",
                tuple(_STANDING.values()),
                initial_value=_STANDING[desk.view.cameras],
                hint="A click on an image there compares with its pixel",
            )
        beside = gui.add_panel()
        with beside.add_tab("Images"):
            self._folder = gui.add_folder("Cameras")
        beside.dock_left()
        beside.set_width(330)
        self._parts: list[Any] = []
        self._planes: dict[int, Any] = {}
        self._mask.on_update(lambda _: desk.change(lambda view: replace(view, mask=float(self._mask.value))))
        self._dots.on_update(lambda _: desk.change(lambda view: replace(view, dots=float(self._dots.value))))
        self._segments.on_update(
            lambda _: desk.change(lambda view: replace(view, superpixels=float(self._segments.value)))
        )
        self._standing.on_update(lambda _: self._stand())
        gui.add_command("Masks", hotkey="M").on_trigger(lambda _: self._turn_masks())

    def update(self, shown: Shown) -> None:
        """Draw the images, one after the other, until another view is asked for."""
        count = len(shown.moment.frame.cameras)
        self._clear(count if shown.view.cameras == "images" else 0)
        for place in range(count):
            if self.desk.stale:
                return
            self._draw(shown, place)

    def _draw(self, shown: Shown, place: int) -> None:
        drawn = self.desk.stage.camera(shown, place, IMAGE_PX)
        name = printable(shown.moment.frame.cameras[place].name)
        if shown.view.cameras == "images":
            self._draw_plane(shown, place, drawn)
        if place < len(self._parts):
            self._parts[place].image = drawn
            return
        with self._folder:
            self._parts.append(self.desk.client.gui.add_image(drawn, label=name, jpeg_quality=88))

    def _stand(self) -> None:
        """Let frusta or images stand in the scene, or no longer."""
        cameras = next(word for word, said in _STANDING.items() if said == self._standing.value)
        self.desk.change(lambda view: replace(view, cameras=cameras))

    def _clear(self, left: int) -> None:
        """Take the images out of the scene, from a place on."""
        for place in [place for place in self._planes if place >= left]:
            self._planes.pop(place).remove()

    def _draw_plane(self, shown: Shown, place: int, drawn: RGB) -> None:
        at = plane(shown.moment.frame.cameras[place])
        part = self.desk.client.scene.add_image(
            f"/images/{place}", drawn, *at.size_m, wxyz=at.wxyz, position=at.center_m, jpeg_quality=88
        )
        if self.clicked is not None:
            part.on_click(self.clicked)
        self._planes[place] = part

    def _turn_masks(self) -> None:
        self._mask.value = 0.0 if self.desk.view.mask else 0.5
