"""What a visitor sees in three dimensions: points, once for each run, boxes, cameras, circles about the sensor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.data.frame import Boxes
from olivine.drawing.tiles import RGB
from olivine.errors import printable
from olivine.explorer.browser.desk import Desk, Part
from olivine.explorer.scene.pictures import LINES, RINGS_M, floor_m
from olivine.explorer.stage import Shown
from olivine.geometry import corners
from olivine.geometry.edges import EDGES

_RING = (70, 76, 92)
_NAME_M = np.array([0.0, 0.0, 6.0])


class Scene(Part):
    """The scene.

    Attributes:
        point_size_m: how large points are drawn.
    """

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.point_size_m = 0.07
        self._seen, self._copies = False, 0

    def update(self, shown: Shown) -> None:
        """Draw the view; at first, look at it from its place."""
        with self.desk.client.atomic():
            if not self._seen:
                self.look(shown)
                self._draw_ground(shown)
                self._seen = True
            elif len(shown.beside) != self._copies and shown.view.eye is None:
                self.look(shown)
            self.draw_points(shown)
            self._draw_copies(shown)
            self._draw_boxes(shown)
            self._draw_frusta(shown)

    def look(self, shown: Shown) -> None:
        """Look at the scene from the place that the view names."""
        camera, eye = self.desk.client.camera, shown.eye
        camera.up_direction = (0.0, 0.0, 1.0)
        camera.position, camera.look_at = eye.position, eye.target

    def draw_points(self, shown: Shown) -> None:
        """Draw the points that the filter leaves."""
        self._draw_cloud("/points", *shown.cloud)
        for place, copy in enumerate(shown.beside):
            drawn = shown.drawn(copy)
            points_m = shown.moment.frame.points_lidar_m[drawn] + copy.offset_m
            self._draw_cloud(f"/copies/{place}/points", points_m.astype(np.float32), copy.coloring.colors[drawn])

    def _draw_cloud(self, name: str, points_m: NDArray[np.float32], colors: RGB) -> None:
        scene: Any = self.desk.client.scene
        shown = self.desk.shown
        size_m = self.point_size_m * (2 if shown is not None and shown.beside else 1)  # seen from further away
        scene.add_point_cloud(name, points_m, colors, point_size=size_m, point_shape="circle", point_shading="flat")

    def _draw_copies(self, shown: Shown) -> None:
        """What stands about the points of copies: their names and boxes, and the name of the first."""
        scene, beside = self.desk.client.scene, shown.beside
        for place in range(len(beside), self._copies):
            for part in ("points", "name", "boxes"):
                scene.remove_by_name(f"/copies/{place}/{part}")
        if self._copies and not beside:
            scene.remove_by_name("/copies/own")
        for place, copy in enumerate(beside):
            said = f"{copy.name}: {copy.trouble}" if copy.trouble else copy.name
            scene.add_label(f"/copies/{place}/name", printable(said), position=copy.offset_m + _NAME_M)
            self._draw_edges(f"/copies/{place}/boxes", copy.boxes, copy.box_colors, copy.offset_m)
        if beside:
            scene.add_label("/copies/own", printable(shown.view.network), position=_NAME_M)
        self._copies = len(beside)

    def _draw_ground(self, shown: Shown) -> None:
        turn, height = np.linspace(0, 2 * np.pi, 97), floor_m(shown.moment.frame.points_lidar_m)
        rings = [np.stack((r * np.cos(turn), r * np.sin(turn), np.full_like(turn, height)), 1) for r in RINGS_M]
        lines = np.concatenate([np.stack((ring[:-1], ring[1:]), 1) for ring in rings]).astype(np.float32)
        self.desk.client.scene.add_line_segments("/rings", lines, _RING, thickness=1, thickness_units="screen")

    def _draw_boxes(self, shown: Shown) -> None:
        self._draw_edges("/boxes", shown.boxes, shown.box_colors, np.zeros(3))

    def _draw_edges(
        self, name: str, boxes: Boxes | None, box_colors: RGB | None, offset_m: NDArray[np.float64]
    ) -> None:
        lines, colors = np.zeros((1, 2, 3), np.float32), np.zeros((1, 2, 3), np.uint8)
        if boxes is not None and box_colors is not None:
            lines = (corners(boxes.boxes)[:, EDGES].reshape(-1, 2, 3) + offset_m).astype(np.float32)
            colors = np.repeat(box_colors, len(EDGES), axis=0)[:, None].repeat(2, axis=1)
        self.desk.client.scene.add_line_segments(name, lines, colors, thickness=2, thickness_units="screen")

    def _draw_frusta(self, shown: Shown) -> None:
        lines = shown.frusta_m.astype(np.float32)
        lines = lines if len(lines) else np.zeros((1, 2, 3), np.float32)
        self.desk.client.scene.add_line_segments("/frusta", lines, LINES, thickness=1, thickness_units="screen")
