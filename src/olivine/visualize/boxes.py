"""Pictures of boxes: their edges on the images, and from above among the points.

The front of a box bears a cross on the image; seen from above a line runs to it from the middle. Where objects are
labelled in the image too, that box is drawn as a thin white rectangle, which should enclose the box in space.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from olivine.data.frame import Boxes, Camera, Dataset, Frame
from olivine.data.labels import ClassSet
from olivine.drawing.tiles import RGB, abreast, below, legend, titled
from olivine.errors import UserError
from olivine.geometry import corners
from olivine.geometry.edges import camera_edges
from olivine.visualize.projection import COLUMNS, MAX_TILE_PX, mask_palette, resized, save, spread, tile_title

GRID_M = 10
"""Lines of the ground lie this far apart in the picture from above."""

SHOWN_SCORE = 0.3
"""Detections of a lower score are not drawn."""

_REACH_M = 80
_ABOVE_PX = 640
_GROUND, _LINES, _POINTS = (16, 18, 24), (44, 48, 58), (150, 155, 165)
_LABELLED = (255, 255, 255)

Colors = Mapping[str, tuple[int, int, int]]
"""RGB of each category."""


def box_colors(names: Iterable[str], classes: ClassSet) -> Colors:
    """A colour for each category, those that a class set knows in its own.

    Args:
        names: of the categories, in any order and number.
        classes: the dataset's class set.
    """
    distinct = sorted(set(names))
    palette = mask_palette(distinct, classes)
    return {name: (int(r), int(g), int(b)) for name, (r, g, b) in zip(distinct, palette[: len(distinct)], strict=True)}


def draw_on_image(camera: Camera, boxes: Boxes, colors: Colors, width: int, labelled: bool = True) -> RGB:
    """A camera's image at reduced `width` with the boxes that it sees.

    Args:
        camera: the camera.
        boxes: M boxes in the LiDAR frame.
        colors: of their categories.
        width: of the picture, pixels.
        labelled: draw the labelled image boxes too; only where this is the camera they belong to.

    Returns:
        [h, width, 3] uint8 RGB.

    Raises:
        UserError: the image cannot be read.
    """
    edges_px = camera_edges(boxes.boxes, camera.camera_from_lidar, camera.intrinsics)
    small, scaled = resized(camera.image(), edges_px.reshape(-1, 2), width)
    picture = Image.fromarray(small)
    draw = ImageDraw.Draw(picture)
    for name, edges in zip(boxes.names, scaled.reshape(edges_px.shape), strict=True):
        front = np.stack((edges[[0, 4], [0, 1]], edges[[0, 4], [1, 0]]))  # diagonals of the front face
        for ends, thickness in ((edges, 2), (front, 1)):
            for line in ends[np.isfinite(ends).all(axis=(1, 2))].round().tolist():
                draw.line([tuple(end) for end in line], fill=colors[name], width=thickness)
    if labelled and boxes.image_boxes is not None:
        _, corners_px = resized(camera.image(), boxes.image_boxes.reshape(-1, 2), width)
        for left, top, right, bottom in corners_px.reshape(-1, 4).round().tolist():
            draw.rectangle((left, top, right, bottom), outline=_LABELLED, width=1)
    return np.asarray(picture)


def draw_above(
    points_m: NDArray[np.floating], boxes: Boxes, colors: Colors, extent_m: tuple[float, float, float, float]
) -> RGB:
    """Points and boxes from above, x to the right and y up, on lines that lie `GRID_M` apart.

    Args:
        points_m: [N, 3] points in the LiDAR frame, metres.
        boxes: M boxes in the same frame.
        colors: of their categories.
        extent_m: x_min, x_max, y_min, y_max of what is shown.

    Returns:
        [h, w, 3] uint8 RGB, `_ABOVE_PX` on the longer side.
    """
    left, right, low, high = extent_m
    scale = _ABOVE_PX / max(right - left, high - low)
    width, height = round((right - left) * scale), round((high - low) * scale)

    def pixels(xy_m: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.stack(((xy_m[..., 0] - left) * scale, (high - xy_m[..., 1]) * scale), axis=-1)

    picture = Image.new("RGB", (width, height), _GROUND)
    draw = ImageDraw.Draw(picture)
    for at in np.arange(np.ceil(left / GRID_M), np.floor(right / GRID_M) + 1) * GRID_M:
        draw.line([((at - left) * scale, 0), ((at - left) * scale, height)], fill=_LINES)
    for at in np.arange(np.ceil(low / GRID_M), np.floor(high / GRID_M) + 1) * GRID_M:
        draw.line([(0, (high - at) * scale), (width, (high - at) * scale)], fill=_LINES)
    draw.point([tuple(place) for place in pixels(points_m[:, :2]).round().tolist()], fill=_POINTS)
    around = corners(boxes.boxes)[:, :4, :2]
    front = np.stack((boxes.boxes[:, :2], around[:, :2].mean(axis=1)), axis=1)
    for name, ring, heading in zip(boxes.names, pixels(around).tolist(), pixels(front).tolist(), strict=True):
        draw.line([tuple(place) for place in [*ring, ring[0]]], fill=colors[name], width=2)
        draw.line([tuple(place) for place in heading], fill=colors[name], width=2)
    return np.asarray(picture)


def extent_of(points_m: NDArray[np.floating], boxes: Boxes) -> tuple[float, float, float, float]:
    """x_min, x_max, y_min, y_max of what is worth showing: nearly all points and all boxes, in tens of metres."""
    xy_m = points_m[:, :2] if len(points_m) else np.zeros((1, 2))
    low, high = np.quantile(xy_m, 0.01, axis=0), np.quantile(xy_m, 0.99, axis=0)
    if len(boxes.boxes):
        low = np.minimum(low, boxes.boxes[:, :2].min(axis=0) - 5)
        high = np.maximum(high, boxes.boxes[:, :2].max(axis=0) + 5)
    low = np.clip(np.floor(low / GRID_M) * GRID_M, -_REACH_M, _REACH_M - GRID_M)
    high = np.clip(np.ceil(high / GRID_M) * GRID_M, low + GRID_M, _REACH_M)
    return float(low[0]), float(high[0]), float(low[1]), float(high[1])


def box_tiles(
    frame: Frame,
    boxes: Boxes,
    colors: Colors,
    width: int,
    extent_m: tuple[float, float, float, float],
    what: str = "",
) -> tuple[list[RGB], RGB]:
    """Boxes of a frame, labelled or detected, on its images and from above, each under its title.

    Args:
        frame: the frame.
        boxes: what is drawn.
        colors: of their categories.
        width: of an image's tile, pixels; images that are smaller stay as they are.
        extent_m: what is shown from above, as of `extent_of`.
        what: what the boxes are, for the titles.

    Returns:
        A tile per camera, and one from above.

    Raises:
        UserError: an image cannot be read.
    """
    which = f"{what}: " if what else ""
    images = [
        titled(
            draw_on_image(camera, boxes, colors, min(camera.size[0], width), not place),
            f"{which}{tile_title(frame, camera)}",
        )
        for place, camera in enumerate(frame.cameras)
    ]
    above = draw_above(frame.points_lidar_m, boxes, colors, extent_m)
    return images, titled(above, f"{which}lines {GRID_M} m apart, x to the right, frame {frame.token}")


def draw_boxes(dataset: Dataset, folder: Path, frames: int = 3) -> list[Path]:
    """Draw the annotated boxes of some frames, spread evenly over a dataset.

    Args:
        dataset: an opened dataset.
        folder: where the pictures go, made if missing: `boxes_images.png` where there are cameras, and
            `boxes_above.png`.
        frames: how many frames; those that cannot be read or are not annotated are left out.

    Returns:
        The pictures written; none where no frame has annotated boxes.
    """
    read = []
    for index in spread(len(dataset), frames):
        try:
            frame = dataset[index]
        except UserError:
            continue
        if frame.boxes is not None:
            read.append((frame, frame.boxes))
    colors = box_colors((name for _, boxes in read for name in boxes.names), dataset.classes)
    image_rows, above_tiles = [], []
    for frame, boxes in read:
        width = MAX_TILE_PX[max(1, min(len(frame.cameras), COLUMNS)) - 1]
        try:
            images, above = box_tiles(frame, boxes, colors, width, extent_of(frame.points_lidar_m, boxes))
        except UserError:
            continue
        image_rows += [abreast(images, COLUMNS)] if images else []
        above_tiles.append(above)
    pictures = {"boxes_images.png": image_rows, "boxes_above.png": [abreast(above_tiles, 2)] if above_tiles else []}
    return [save(_with_legend(tiles, colors), folder / name) for name, tiles in pictures.items() if tiles]


def _with_legend(tiles: list[RGB], colors: Colors) -> RGB:
    """Tiles one below the other, and what the colours mean."""
    if not colors:
        return below(tiles)
    strip = legend(list(colors), np.array(list(colors.values()), np.uint8), max(tile.shape[1] for tile in tiles))
    return below([*tiles, strip])
