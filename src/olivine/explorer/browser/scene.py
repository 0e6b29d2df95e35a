"""What a visitor sees in three dimensions: points, boxes, circles about the sensor."""

from __future__ import annotations

from typing import Any

import numpy as np

from olivine.explorer.browser.desk import Desk, Part
from olivine.explorer.pictures import RINGS_M, floor_m
from olivine.explorer.stage import Shown
from olivine.geometry import corners
from olivine.geometry.edges import EDGES

_RING = (70, 76, 92)


class Scene(Part):
    """The scene.

    Attributes:
        point_size_m: how large points are drawn.
    """

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.point_size_m = 0.07
        self._seen = False

    def update(self, shown: Shown) -> None:
        """Draw the view; at first, look at it from its place."""
        with self.desk.client.atomic():
            if not self._seen:
                self.look(shown)
                self._draw_ground(shown)
                self._seen = True
            self.draw_points(shown)
            self._draw_boxes(shown)

    def look(self, shown: Shown) -> None:
        """Look at the scene from the place that the view names."""
        camera, eye = self.desk.client.camera, shown.eye
        camera.up_direction = (0.0, 0.0, 1.0)
        camera.position, camera.look_at = eye.position, eye.target

    def draw_points(self, shown: Shown) -> None:
        """Draw the points that the filter leaves."""
        points_m, colors = shown.moment.frame.points_lidar_m[shown.visible], shown.coloring.colors[shown.visible]
        scene: Any = self.desk.client.scene
        scene.add_point_cloud(
            "/points", points_m, colors, point_size=self.point_size_m, point_shape="circle", point_shading="flat"
        )

    def _draw_ground(self, shown: Shown) -> None:
        turn, height = np.linspace(0, 2 * np.pi, 97), floor_m(shown.moment.frame.points_lidar_m)
        rings = [np.stack((r * np.cos(turn), r * np.sin(turn), np.full_like(turn, height)), 1) for r in RINGS_M]
        lines = np.concatenate([np.stack((ring[:-1], ring[1:]), 1) for ring in rings]).astype(np.float32)
        self.desk.client.scene.add_line_segments("/rings", lines, _RING, thickness=1, thickness_units="screen")

    def _draw_boxes(self, shown: Shown) -> None:
        boxes = shown.boxes
        lines, colors = np.zeros((1, 2, 3), np.float32), np.zeros((1, 2, 3), np.uint8)
        if boxes is not None and shown.box_colors is not None:
            lines = corners(boxes.boxes)[:, EDGES].reshape(-1, 2, 3).astype(np.float32)
            colors = np.repeat(shown.box_colors, len(EDGES), axis=0)[:, None].repeat(2, axis=1)
        self.desk.client.scene.add_line_segments("/boxes", lines, colors, thickness=2, thickness_units="screen")
