"""What one visitor sees: the scene, the images, the controls. A thin layer: it shows what the stage makes of a view.

What is asked for by the controls becomes the next view; a thread of its own makes it concrete, so that nothing waits
for a network, and of views that come in faster than they can be shown only the last is.
"""

from __future__ import annotations

import html
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from olivine.drawing.tiles import RGB, png, scale
from olivine.errors import UserError, printable
from olivine.explorer.coloring import SIMILARITY, Coloring, modes
from olivine.explorer.networks import LEVELS
from olivine.explorer.pictures import RINGS_M, floor_m
from olivine.explorer.planes import pixel_at, plane
from olivine.explorer.similarity import FEATURES, Query, pick
from olivine.explorer.snapshot import picture
from olivine.explorer.stage import Shown, Stage
from olivine.explorer.view import View
from olivine.geometry import corners
from olivine.geometry.edges import EDGES

if TYPE_CHECKING:
    import viser

IMAGE_PX = 480
"""Images are sent no wider than this."""

PLAY_S = 0.4
"""Seconds from one frame to the next while playing, at least."""

_RING, _HIDDEN = (70, 76, 92), (52, 54, 60)
_SMALL = "font-size:0.78em;opacity:0.75;padding:0 1em 0.5em;overflow-wrap:anywhere"
_log = logging.getLogger("olivine")


class Panel:
    """A visitor's controls and what they show.

    Args:
        client: the visitor.
        stage: what makes views concrete.
        view: what is shown at first.
    """

    def __init__(self, client: viser.ClientHandle, stage: Stage, view: View) -> None:
        self._client: Any = client  # its values can be set, which its types do not say
        self._stage = stage
        self._view = stage.settled(view)
        self._shown: Shown | None = None
        self._wake = threading.Condition()
        self._dirty, self._closed, self._playing, self._moved = True, False, False, False
        self._legend_of: tuple[str, ...] = ()
        self._legend_parts: list[Any] = []
        self._build()
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._worker.start()

    def close(self) -> None:
        """End the thread; the visitor has gone."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()

    def change(self, make: Callable[[View], View]) -> None:
        """Show another view, made of the one that was last asked for."""
        with self._wake:
            changed = make(self._view)
            if changed != self._view:
                self._view, self._dirty = changed, True
                self._wake.notify_all()

    # What is there to press.

    def _build(self) -> None:
        gui, count = self._client.gui, len(self._stage.moments)
        gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False, brand_color=(72, 160, 130))
        gui.main_panel.dock_right()
        gui.main_panel.set_width(300)
        gui.set_panel_label(printable(self._stage.moments.subject.title))
        with gui.add_folder("Frame"):
            self._frame = gui.add_slider("Frame", 0, max(1, count - 1), 1, self._view.frame, disabled=count < 2)
            self._steps = gui.add_button_group("Go", ("Back", "Play", "Next", "Scene"), disabled=count < 2)
            self._about = gui.add_html("")
        self._build_colors()
        self._legend = gui.add_folder("Legend")
        with gui.add_folder("Images"):
            masks = self._stage.moments.dataset.manifest is not None
            self._mask = gui.add_slider("Masks", 0.0, 1.0, 0.05, self._view.mask, visible=masks)
            self._dots = gui.add_slider("Points", 0.0, 1.0, 0.05, self._view.dots)
            self._standing = gui.add_checkbox("In the scene", False, hint="Where a click compares with a pixel")
        self._build_similarity()
        with gui.add_folder("Share", expand_by_default=False):
            self._address = gui.add_text("View", "", hint="Put it behind the address, or after --view")
            self._save = gui.add_button("Save as picture", hint="PNG with images and legend")
        self._images = gui.add_panel()
        with self._images.add_tab("Images"):
            self._image_folder = gui.add_folder("Cameras")
        self._images.dock_left()
        self._images.set_width(330)
        self._image_parts: list[Any] = []
        self._planes: dict[int, Any] = {}
        self._listen()
        self._bind_keys()

    def _build_colors(self) -> None:
        gui, networks = self._client.gui, list(self._stage.moments.networks)
        with gui.add_folder("Colour"):
            self._network = (
                gui.add_dropdown("Network", networks, initial_value=self._view.network) if len(networks) > 1 else None
            )
            self._color = gui.add_dropdown("Points by", [""])
            self._size = gui.add_slider("Point size", 0.01, 0.3, 0.01, 0.07)
        self._offer_colors()

    def _build_similarity(self) -> None:
        """A click on a point compares; nothing of it where there is no network."""
        gui, there = self._client.gui, bool(self._stage.moments.networks)
        with gui.add_folder("Similarity", visible=there):
            gui.add_html(f'<div style="{_SMALL}">Click a point of the scene, or of an image there.</div>')
            self._level = gui.add_dropdown("Level", ("finest", *LEVELS, FEATURES))
            self._threshold = gui.add_slider("Threshold", 0.0, 1.0, 0.01, self._view.threshold)
        if there:
            self._client.scene.on_click()(self._clicked)

    def _clicked(self, event: Any) -> None:
        """A click that met no image."""
        shown = self._shown
        if shown is None:
            return
        rows = np.flatnonzero(shown.visible)
        points_m = shown.moment.frame.points_lidar_m[rows]
        row = pick(points_m, np.array(event.ray_origin), np.array(event.ray_direction))
        if row is not None:
            self._compare(Query(shown.view.frame, row=int(rows[row])))

    def _clicked_image(self, place: int, event: Any) -> None:
        shown = self._shown
        if shown is not None:
            camera = shown.moment.frame.cameras[place]
            uv = pixel_at(camera, np.array(event.ray_origin), np.array(event.ray_direction))
            if uv is not None:
                self._compare(Query(shown.view.frame, camera=place, uv=uv))

    def _compare(self, query: Query) -> None:
        self.change(lambda view: replace(view, query=str(query), color=SIMILARITY))
        self._color.value = modes(self._stage.moments, self._stage.network(self._view))[SIMILARITY]

    def _at_level(self, level: str) -> None:
        self.change(lambda view: replace(view, level="" if level == "finest" else level))

    def _offer_colors(self) -> None:
        """The colourings that the network at hand has, in words."""
        found = modes(self._stage.moments, self._stage.network(self._view))
        self._color.options = list(found.values())
        self._color.value = found[self._stage.settled(self._view).color]

    def _listen(self) -> None:
        self._frame.on_update(lambda _: self.change(lambda view: replace(view, frame=int(self._frame.value))))
        self._color.on_update(lambda _: self._chosen())
        self._mask.on_update(lambda _: self.change(lambda view: replace(view, mask=float(self._mask.value))))
        self._dots.on_update(lambda _: self.change(lambda view: replace(view, dots=float(self._dots.value))))
        self._level.on_update(lambda _: self._at_level(str(self._level.value)))
        self._threshold.on_update(
            lambda _: self.change(lambda view: replace(view, threshold=float(self._threshold.value)))
        )
        self._standing.on_update(lambda _: self._stand())
        self._size.on_update(lambda _: self._resize())
        self._steps.on_click(lambda _: self._step(str(self._steps.value)))
        self._save.on_click(lambda _: self._download())
        if self._network is not None:
            chosen = self._network
            chosen.on_update(lambda _: self._switch(str(chosen.value)))

    def _bind_keys(self) -> None:
        gui = self._client.gui
        for key, word in (("N", "Next"), ("B", "Back"), ("space", "Play"), ("M", "Masks"), ("C", "Colour")):
            command = gui.add_command({"Play": "Play or stop"}.get(word, word), hotkey=key)
            command.on_trigger(lambda _, word=word: self._step(word))

    # What happens then.

    def _chosen(self) -> None:
        found = modes(self._stage.moments, self._stage.network(self._view))
        name = next((name for name, words in found.items() if words == self._color.value), None)
        if name is not None:
            self.change(lambda view: replace(view, color=name))

    def _switch(self, network: str) -> None:
        self.change(lambda view: replace(view, network=network))
        try:
            self._offer_colors()
        except UserError as error:
            self._say(str(error))

    def _step(self, word: str) -> None:
        count = len(self._stage.moments)
        if word == "Play":
            with self._wake:
                self._playing = not self._playing
                self._wake.notify_all()
        elif word in ("Next", "Back"):
            self._move(1 if word == "Next" else -1)
        elif word == "Scene":
            dataset, at = self._stage.moments.dataset, self._view.frame
            here = dataset.scene(at)
            others = (place % count for place in range(at + 1, at + count))
            self._move(next((place for place in others if dataset.scene(place) != here), at) - at)
        elif word == "Masks":
            self._mask.value = 0.0 if self._view.mask else 0.5
        elif word == "Colour":
            options = list(self._color.options)
            self._color.value = options[(options.index(self._color.value) + 1) % len(options)]

    def _move(self, by: int) -> None:
        self._frame.value = (self._view.frame + by) % len(self._stage.moments)

    def _resize(self) -> None:
        if self._shown is not None:
            self._draw_points(self._shown)

    def _filter(self, name: str) -> None:
        self.change(lambda view: replace(view, hidden=view.hidden ^ {name}))

    def _download(self) -> None:
        if self._shown is not None:
            try:
                data = png(picture(self._stage, self._shown))
            except UserError as error:
                self._say(str(error))
                return
            view = self._shown.view
            self._client.send_file_download(f"{view.frame:06d}-{view.color}.png", data, save_immediately=True)

    def _say(self, text: str) -> None:
        self._client.add_notification("Not shown", printable(text), color="red", auto_close_seconds=8)

    # What makes views concrete.

    def _work(self) -> None:
        while True:
            with self._wake:
                if not (self._dirty or self._closed):
                    self._wake.wait(PLAY_S)
                if self._closed:
                    return
                asked, view = self._dirty, self._view
                self._dirty = False
            try:
                if asked:
                    self._present(view)
                elif self._playing:
                    self._move(1)
                elif self._moved and self._shown is not None:
                    self._moved = False
                    self._address.value = f"?{self._addressed(self._shown.view)}"
            except UserError as error:
                self._playing = False
                self._say(str(error))
            except Exception:  # noqa: BLE001 (a view that fails must not end the visit)
                if not self._closed:  # else the visitor has gone in between
                    _log.exception("the explorer could not show a view")

    def _present(self, view: View) -> None:
        before, began = self._shown, time.perf_counter()
        shown = self._stage.show(view)
        with self._client.atomic():
            if before is None:
                self._look(shown)
                self._draw_ground(shown)
            self._draw_points(shown)
            self._draw_boxes(shown)
        self._shown = shown
        self._explain(shown.coloring, shown.view)
        frame = shown.moment.frame
        seconds = time.perf_counter() - began
        self._about.content = _about(frame.scene, frame.token, int(shown.visible.sum()), len(shown.visible), seconds)
        self._address.value = f"?{self._addressed(shown.view)}"
        if shown.trouble:
            self._say(shown.trouble)
        for place in range(len(frame.cameras)):
            if self._dirty or self._closed:
                return
            self._draw_image(shown, place)

    def _look(self, shown: Shown) -> None:
        camera, eye = self._client.camera, shown.eye
        camera.up_direction = (0.0, 0.0, 1.0)
        camera.position, camera.look_at = eye.position, eye.target
        camera.on_update(lambda _: setattr(self, "_moved", True))

    def _addressed(self, view: View) -> str:
        camera = self._client.camera
        return replace(view, eye=_place(camera.position), target=_place(camera.look_at)).address()

    def _draw_points(self, shown: Shown) -> None:
        points_m, colors = shown.moment.frame.points_lidar_m[shown.visible], shown.coloring.colors[shown.visible]
        size = float(self._size.value)
        self._client.scene.add_point_cloud(
            "/points", points_m, colors, point_size=size, point_shape="circle", point_shading="flat"
        )

    def _draw_ground(self, shown: Shown) -> None:
        turn, height = np.linspace(0, 2 * np.pi, 97), floor_m(shown.moment.frame.points_lidar_m)
        rings = [np.stack((r * np.cos(turn), r * np.sin(turn), np.full_like(turn, height)), 1) for r in RINGS_M]
        lines = np.concatenate([np.stack((ring[:-1], ring[1:]), 1) for ring in rings]).astype(np.float32)
        self._client.scene.add_line_segments("/rings", lines, _RING, thickness=1, thickness_units="screen")

    def _draw_boxes(self, shown: Shown) -> None:
        boxes = shown.boxes
        lines, colors = np.zeros((1, 2, 3), np.float32), np.zeros((1, 2, 3), np.uint8)
        if boxes is not None and shown.box_colors is not None:
            lines = corners(boxes.boxes)[:, EDGES].reshape(-1, 2, 3).astype(np.float32)
            colors = np.repeat(shown.box_colors, len(EDGES), axis=0)[:, None].repeat(2, axis=1)
        self._client.scene.add_line_segments("/boxes", lines, colors, thickness=2, thickness_units="screen")

    def _draw_image(self, shown: Shown, place: int) -> None:
        drawn, name = self._stage.camera(shown, place, IMAGE_PX), printable(shown.moment.frame.cameras[place].name)
        if self._standing.value:
            self._draw_plane(shown, place, drawn)
        if place < len(self._image_parts):
            self._image_parts[place].image = drawn
            return
        with self._image_folder:
            self._image_parts.append(self._client.gui.add_image(drawn, label=name, jpeg_quality=88))

    def _stand(self) -> None:
        """Let the images stand in the scene, or no longer."""
        if self._standing.value:
            with self._wake:
                self._dirty = True
                self._wake.notify_all()
            return
        for part in self._planes.values():
            part.remove()
        self._planes = {}

    def _draw_plane(self, shown: Shown, place: int, drawn: RGB) -> None:
        at = plane(shown.moment.frame.cameras[place])
        part = self._client.scene.add_image(
            f"/images/{place}", drawn, *at.size_m, wxyz=at.wxyz, position=at.center_m, jpeg_quality=88
        )
        if self._stage.moments.networks:
            part.on_click(lambda event: self._clicked_image(place, event))
        self._planes[place] = part

    def _explain(self, coloring: Coloring, view: View) -> None:
        """The legend: a line of each class that the frame has, which filters it; or the scale."""
        there = coloring.counts() > 0
        lines = [line for line, some in zip(coloring.legend, there, strict=True) if some or line.name in view.hidden]
        wanted = (view.color, *(line.name for line in lines))
        if wanted != self._legend_of or coloring.scale is not None:
            for part in self._legend_parts:
                part.remove()
            self._legend_parts, self._legend_of = [], wanted
            with self._legend:
                self._legend_parts = self._legend_lines(coloring, [line.name for line in lines])
        if coloring.scale is None:
            for part, line in zip(self._legend_parts, lines, strict=False):
                part.color = _HIDDEN if line.name in view.hidden else line.color

    def _legend_lines(self, coloring: Coloring, names: list[str]) -> list[Any]:
        gui, parts = self._client.gui, list[Any]()
        if coloring.scale is not None:
            strip = scale(coloring.scale.colors, coloring.scale.ticks, coloring.scale.title)
            return [gui.add_image(strip, format="png")]
        for name in names:
            button = gui.add_button(printable(name), hint="Hide or show")
            button.on_click(lambda _, name=name: self._filter(name))
            parts.append(button)
        return parts or [gui.add_html("<small>Alike colours are alike features.</small>")]


def _about(scene: str, token: str, shown: int, count: int, seconds: float) -> str:
    """A line about the frame, as HTML in which no name of the data does anything."""
    words = f"{html.escape(printable(scene))} · {html.escape(printable(token))}"
    points = f"{shown:,} of {count:,} points" if shown < count else f"{count:,} points"
    return f'<div style="{_SMALL}">{words}<br>{points} · {1000 * seconds:.0f} ms</div>'


def _place(values: Any) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 2) for value in values)
    return x, y, z
