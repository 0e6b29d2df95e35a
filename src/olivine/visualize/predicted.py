"""Pictures of what was predicted of one frame: on its images and from above, with a legend."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from olivine.data.frame import Boxes, Camera, Frame
from olivine.data.labels import ClassSet, without_classes
from olivine.data.pairs import find_pairs
from olivine.drawing.tiles import RGB, abreast, below, legend, titled
from olivine.geometry import transform_points
from olivine.visualize.boxes import SHOWN_SCORE, box_colors, box_tiles, extent_of
from olivine.visualize.projection import COLUMNS, MAX_TILE_PX, draw_points, mask_palette, resized, tile_title

REACH_M = 50.0
"""Half the side of the square that is shown from above, metres."""

_ABOVE_PX = 800
_NOTHING = (150, 150, 150)


def class_colors(classes: ClassSet) -> RGB:
    """[C + 1, 3] colours of a class set, row 0 grey for no prediction; a set without colours gets some."""
    own = classes.colors[1:]
    rest = own if own.any() else mask_palette(classes.names, without_classes("none"))[: classes.count]
    return np.concatenate((np.array([_NOTHING], np.uint8), rest))


def classes_picture(frame: Frame, predicted: NDArray[np.uint8], classes: ClassSet) -> RGB:
    """A segmented frame: its points by class on its images and from above.

    Args:
        frame: the frame.
        predicted: [N] class 1…C of each point, 0 for none.
        classes: what they are.

    Raises:
        UserError: an image cannot be read.
    """
    colors = class_colors(classes)
    pairs = find_pairs(frame, labels=False)
    width = MAX_TILE_PX[max(1, min(len(frame.cameras), COLUMNS)) - 1]
    tiles = []
    for number, camera in enumerate(frame.cameras):
        here = pairs.select(pairs.camera == number)
        seen = frame.points_lidar_m[here.point]
        tile = _on_image(camera, here.uv, seen, colors[predicted[here.point]], width)
        tiles.append(titled(tile, tile_title(frame, camera)))
    images = [abreast(tiles, COLUMNS)] if tiles else []
    above = titled(_from_above(frame.points_lidar_m, colors[predicted]), f"from above, {REACH_M:g} m around")
    key = legend([*(name.replace("_", " ") for name in classes.names), "none"], np.roll(colors, -1, axis=0), _ABOVE_PX)
    return below([*images, above, key])


def objects_picture(frame: Frame, boxes: Boxes) -> RGB:
    """A frame with the boxes that were found, on its images and from above.

    Args:
        frame: the frame.
        boxes: what was found with a score from `SHOWN_SCORE` on.

    Raises:
        UserError: an image cannot be read.
    """
    colors = box_colors(boxes.names, without_classes("none"))
    width = MAX_TILE_PX[max(1, min(len(frame.cameras), COLUMNS)) - 1]
    said = f"found with a score from {SHOWN_SCORE:g} on"
    images, above = box_tiles(frame, boxes, colors, width, extent_of(frame.points_lidar_m, boxes), said)
    parts = [abreast(images, COLUMNS)] if images else []
    key = [legend(list(colors), np.array(list(colors.values()), np.uint8), _ABOVE_PX)] if colors else []
    return below([*parts, above, *key])


def _on_image(camera: Camera, uv: NDArray[np.floating], points_m: NDArray[np.float32], colors: RGB, width: int) -> RGB:
    """A camera's image with points [P, 3] that fall on its pixels [P, 2], in their colours."""
    depth_m = transform_points(camera.camera_from_lidar, points_m)[:, 2]
    small, scaled = resized(camera.image(), uv, min(camera.size[0], width))
    return draw_points(small, scaled, colors, depth_m)


def _from_above(points_m: NDArray[np.float32], colors: RGB) -> RGB:
    """Points on white, x to the right and y up, high ones over low ones."""
    near = (np.abs(points_m[:, :2]) < REACH_M).all(axis=1)
    shown = points_m[near].astype(np.float64)
    pixels = np.column_stack((shown[:, 0] + REACH_M, REACH_M - shown[:, 1])) * ((_ABOVE_PX - 1) / (2 * REACH_M))
    white = np.full((_ABOVE_PX, _ABOVE_PX, 3), 255, np.uint8)
    return draw_points(white, pixels, colors[near], -shown[:, 2])
