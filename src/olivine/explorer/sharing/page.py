"""What is on screen as a page of one frame that needs no server: the scene turned by the mouse, and the images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from olivine.data.frame import Boxes
from olivine.drawing.report import Picture, Section, report_html
from olivine.drawing.scene import Look, Scene
from olivine.drawing.tiles import RGB, jpeg, scale
from olivine.explorer.coloring import together
from olivine.explorer.scene.pictures import RINGS_M, floor_m
from olivine.explorer.stage import Shown, Stage
from olivine.geometry import corners
from olivine.geometry.edges import EDGES

IMAGE_PX = 960
"""Images of a page are no wider."""

_RING, _FRUSTUM = (70, 76, 92), (120, 130, 150)


def page(stage: Stage, shown: Shown, title: str, what: str) -> bytes:
    """A page of a view.

    Args:
        stage: what made it concrete.
        shown: the view.
        title: of the page.
        what: its colours show, in words.

    Returns:
        An HTML file that needs nothing beside it, and loads nothing.

    Raises:
        UserError: an image or a mask cannot be read.
    """
    cameras = enumerate(shown.moment.frame.cameras)
    images = [Picture(jpeg(stage.camera(shown, place, IMAGE_PX)), camera.name) for place, camera in cameras]
    said = [*([shown.trouble] if shown.trouble else []), *shown.notes, f"?{shown.view.address()}"]
    sections = [Section("Scene", said, scene=solid([(what, shown)]))]
    sections += [Section("Images", pictures=images)] if images else []
    return report_html(title, sections).encode()


def solid(views: Sequence[tuple[str, Shown]]) -> Scene:
    """The scene of a page.

    Args:
        views: of one frame, each with what its colours show; those whose points are not those of the first are left
            out, as where other frames could not be coloured.
    """
    first = views[0][1]
    points_m = _points(first)
    looks = [_look(title, shown) for title, shown in views]
    lines_m, colors = _lines(first)
    return Scene(
        points_m,
        [look for look in looks if len(look.colors) == len(points_m)],
        first.eye.position,
        first.eye.target,
        lines_m,
        colors,
    )


def _points(shown: Shown) -> NDArray[np.float32]:
    """[K, 3] the frame's points, those of other frames with them, and the copies'."""
    points_m = shown.moment.frame.points_lidar_m
    around = [] if shown.around is None else [shown.around.points_m]
    return np.concatenate([points_m, *around, *(points_m + copy.offset_m for copy in shown.beside)]).astype(np.float32)


def _look(title: str, shown: Shown) -> Look:
    """The colours of these points; the legend filters where it is one for all of them."""
    around = [] if shown.around is None else [shown.drawn_around()]
    visible = [shown.drawn(), *around, *(shown.drawn(copy) for copy in shown.beside)]
    lines, found = together(shown.parts)
    entries = [entry for entry in found if entry is not None]
    strip = shown.coloring.scale
    return Look(
        title,
        np.concatenate([coloring.colors for coloring in shown.parts]),
        np.concatenate(visible),
        np.concatenate(entries) if len(entries) == len(found) else None,
        [(line.name, line.color) for line in lines],
        None if strip is None else scale(strip.colors, strip.ticks, strip.title),
    )


def _lines(shown: Shown) -> tuple[NDArray[np.float32], RGB]:
    """[L, 2, 3] circles about the sensor, cameras and boxes, and [L, 3] their colours."""
    turn, height = np.linspace(0, 2 * np.pi, 97), floor_m(shown.moment.frame.points_lidar_m)
    rings = [np.stack((r * np.cos(turn), r * np.sin(turn), np.full_like(turn, height)), 1) for r in RINGS_M]
    parts = [np.concatenate([np.stack((ring[:-1], ring[1:]), 1) for ring in rings]), shown.frusta_m]
    colors = [np.full((len(part), 3), color, np.uint8) for part, color in zip(parts, (_RING, _FRUSTUM), strict=True)]
    boxed = [(shown.boxes, shown.box_colors, np.zeros(3))]
    boxed += [(copy.boxes, copy.box_colors, copy.offset_m) for copy in shown.beside]
    for boxes, own, offset_m in boxed:
        if isinstance(boxes, Boxes) and own is not None:
            parts.append(corners(boxes.boxes)[:, EDGES].reshape(-1, 2, 3) + offset_m)
            colors.append(np.repeat(own, len(EDGES), axis=0))
    return np.concatenate(parts).astype(np.float32), np.concatenate(colors)
