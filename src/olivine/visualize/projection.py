"""Pictures of points on images, to judge calibration and weak labels by eye.

Frames lie one below the other, each with its cameras three abreast at reduced size and under their names. In the first
picture points are coloured by depth, warm near and cold far, with the scale below; in the second, where there are
masks, by weak label, over the mask itself, with a legend below. A class of the masks that the dataset's class set has
too is shown in its colour there.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from olivine.data.frame import Camera, Dataset, Frame
from olivine.data.labels import ClassSet
from olivine.data.masks import UNKNOWN
from olivine.data.pairs import Pairs, find_pairs
from olivine.drawing.tiles import RGB, abreast, below, legend, png, scale, titled
from olivine.errors import UserError
from olivine.files import write_bytes
from olivine.geometry import transform_points

NEAR_M, FAR_M = 2.0, 60.0
COLUMNS = 3
"""Cameras that stand abreast."""

_DEPTH_STOPS = np.array([[255, 40, 40], [255, 160, 0], [250, 250, 60], [60, 220, 90], [40, 160, 255], [120, 60, 255]])
_DEPTH_TICKS_M = (2, 5, 10, 20, 40, 60)
_UNKNOWN_COLOR = (150, 150, 150)
_WHEEL = np.array(
    [np.multiply(colorsys.hsv_to_rgb(hue / 170, 0.85, value), 255) for value in (1.0, 0.75, 0.5) for hue in range(170)],
    int,
)
"""[510, 3] colours for classes that no class set has one for."""

_MASK_OPACITY = 0.5
MAX_TILE_PX = (1280, 960, 640)
"""Widest tile where one, two and three stand abreast."""


def depth_colors(depth_m: NDArray[np.floating]) -> RGB:
    """Colours of depths on a logarithmic scale, red at 2 m and violet from 60 m on.

    Args:
        depth_m: [P] distance along the optical axis, metres, positive.

    Returns:
        [P, 3] uint8 RGB.
    """
    position = np.log(np.asarray(depth_m, np.float64) / NEAR_M) / np.log(FAR_M / NEAR_M) * (len(_DEPTH_STOPS) - 1)
    stops = np.arange(len(_DEPTH_STOPS))
    return np.stack([np.interp(position, stops, channel) for channel in _DEPTH_STOPS.T], axis=1).astype(np.uint8)


def depth_scale() -> RGB:
    """The strip that says which colour of `depth_colors` is how many metres."""
    depths_m = np.geomspace(NEAR_M, FAR_M, 256)
    ticks = [(float(np.log(depth_m / NEAR_M) / np.log(FAR_M / NEAR_M)), f"{depth_m}") for depth_m in _DEPTH_TICKS_M]
    return scale(depth_colors(depths_m), ticks, "depth [m]")


def mask_palette(names: Sequence[str], classes: ClassSet) -> RGB:
    """Colours of the classes of a mask manifest.

    Args:
        names: [M] names of the masks' classes, in index order.
        classes: the dataset's class set; a class of the same name (blanks, hyphens and underscores alike) has its
            colour.

    Returns:
        [256, 3] uint8 RGB: M different colours, then grey for every other value.
    """
    palette = np.empty((UNKNOWN + 1, 3), np.uint8)
    palette[:] = _UNKNOWN_COLOR
    published = {_plain(name): color for name, color in zip(classes.names, classes.colors[1:], strict=True)}
    known = {index: published[_plain(name)] for index, name in enumerate(names) if _plain(name) in published}
    taken = [_UNKNOWN_COLOR, *known.values()]
    distance = np.min([np.abs(_WHEEL - np.array(color, int)).sum(1) for color in taken], axis=0)
    for index in range(len(names)):
        if index in known:
            palette[index] = known[index]
        else:  # the colour that is least like any other so far
            palette[index] = color = _WHEEL[distance.argmax()]
            distance = np.minimum(distance, np.abs(_WHEEL - color).sum(1))
    return palette


def mask_legend(names: Sequence[str], palette: RGB, width: int) -> RGB:
    """The legend of masks and of points that take their labels; `palette` as of `mask_palette`."""
    return legend([*names, "unknown"], palette[[*range(len(names)), UNKNOWN]], width)


def draw_points(
    image: RGB, uv: NDArray[np.floating], colors: RGB, depth_m: NDArray[np.floating], radius: int = 1
) -> RGB:
    """Draw points as small squares, near ones over far ones.

    Args:
        image: [H, W, 3] uint8 RGB.
        uv: [P, 2] pixels (column, row), pixel centres at integers.
        colors: [P, 3] uint8 RGB.
        depth_m: [P] metres, decides what covers what.
        radius: a point covers 2·radius + 1 pixels a side.

    Returns:
        A new [H, W, 3] uint8 RGB.
    """
    canvas: RGB = image.copy()
    order = np.argsort(-depth_m, kind="stable")
    column, row = np.rint(uv[order]).astype(np.int64).T
    shift = np.arange(-radius, radius + 1)
    # Points outermost, so that where squares overlap the later (nearer) point is the one written last.
    rows = np.clip(row[:, None, None] + shift[:, None], 0, image.shape[0] - 1)
    columns = np.clip(column[:, None, None] + shift, 0, image.shape[1] - 1)
    rows, columns = np.broadcast_arrays(rows, columns)
    canvas[rows, columns] = colors[order][:, None, None]
    return canvas


def draw_depth(camera: Camera, uv: NDArray[np.floating], depth_m: NDArray[np.floating], width: int) -> RGB:
    """A camera's image at reduced `width` with its points [P, 2], [P] coloured by depth, [h, width, 3] uint8.

    Raises:
        UserError: the image cannot be read.
    """
    image, scaled = resized(camera.image(), uv, width)
    return draw_points(image, scaled, depth_colors(depth_m), depth_m)


def draw_labels(
    camera: Camera,
    uv: NDArray[np.floating],
    depth_m: NDArray[np.floating],
    label: NDArray[np.uint8],
    palette: RGB,
    width: int,
) -> RGB:
    """A camera's image at reduced `width` under its mask, with its points coloured by weak label.

    Args:
        camera: the camera.
        uv: [P, 2] pixels of the points in the full image.
        depth_m: [P] metres.
        label: [P] weak label of each point, 255 unknown.
        palette: [256, 3] colour of each label.
        width: of the picture, pixels.

    Returns:
        [h, width, 3] uint8 RGB; unknown pixels keep the image's own colour.

    Raises:
        UserError: the image or the mask cannot be read.
    """
    pixels, mask = camera.image().copy(), camera.mask()
    if mask is not None:
        known = mask != UNKNOWN
        tint = palette[mask[known]].astype(np.float32)
        pixels[known] = ((1 - _MASK_OPACITY) * pixels[known] + _MASK_OPACITY * tint).astype(np.uint8)
    image, scaled = resized(pixels, uv, width)
    return draw_points(image, scaled, palette[label], depth_m)


def frame_tiles(frame: Frame, pairs: Pairs, palette: RGB | None, width: int) -> tuple[list[RGB], list[RGB]]:
    """The images of a frame under their names, with its points.

    Args:
        frame: the frame.
        pairs: its pairs, with labels where there is a palette.
        palette: [256, 3] colours of the masks' classes, None where there are no masks.
        width: of a tile, pixels; images that are smaller stay as they are.

    Returns:
        A tile per camera with points by depth; with a palette another with points by weak label over the mask.

    Raises:
        UserError: an image or a mask cannot be read.
    """
    depth, labels = [], []
    for index, camera in enumerate(frame.cameras):
        here = pairs.select(pairs.camera == index)
        depth_m = transform_points(camera.camera_from_lidar, frame.points_lidar_m[here.point])[:, 2]
        title, own = tile_title(frame, camera), min(camera.size[0], width)
        depth.append(titled(draw_depth(camera, here.uv, depth_m, own), title))
        if palette is not None:
            labels.append(titled(draw_labels(camera, here.uv, depth_m, here.label, palette, own), title))
    return depth, labels


def tile_title(frame: Frame, camera: Camera) -> str:
    """What stands above the picture of a camera."""
    return f"{camera.name}, frame {frame.token}"


def draw_projections(dataset: Dataset, folder: Path, frames: int = 3) -> list[Path]:
    """Draw some frames of a dataset, spread evenly over it.

    Args:
        dataset: an opened dataset.
        folder: where the pictures go, made if missing: `projection_depth.png`, and `projection_labels.png` where the
            dataset has masks.
        frames: how many frames; those that cannot be read or have no camera are left out (`olivine.checking.check`
            names what is wrong with them).

    Returns:
        The pictures written; none where no frame can be drawn.
    """
    names = dataset.manifest.classes if dataset.manifest else ()
    palette = mask_palette(names, dataset.classes) if dataset.manifest else None
    depth_rows, label_rows = [], []
    for index in spread(len(dataset), frames):
        try:
            frame = dataset[index]
            width = MAX_TILE_PX[max(1, min(len(frame.cameras), COLUMNS)) - 1]
            depth, labels = frame_tiles(frame, find_pairs(frame, labels=palette is not None), palette, width)
        except UserError:
            continue
        depth_rows += [abreast(depth, COLUMNS)] if depth else []
        label_rows += [abreast(labels, COLUMNS)] if labels else []
    written = []
    if depth_rows:
        written.append(save(below([*depth_rows, depth_scale()]), folder / "projection_depth.png"))
    if label_rows and palette is not None:
        strip = mask_legend(names, palette, max(row.shape[1] for row in label_rows))
        written.append(save(below([*label_rows, strip]), folder / "projection_labels.png"))
    return written


def resized(image: RGB, uv: NDArray[np.floating], width: int) -> tuple[RGB, NDArray[np.float64]]:
    """The image at `width`, and where its points then are (pixel centres at integers, before and after)."""
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    small = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    scale = np.array([width / image.shape[1], height / image.shape[0]])
    return small, (np.asarray(uv, np.float64) + 0.5) * scale - 0.5


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ")


def spread(count: int, frames: int) -> list[int]:
    """The places of at most so many frames, spread evenly over `count`."""
    return [int(place) for place in np.unique(np.linspace(0, count - 1, frames).round())]


def save(picture: RGB, path: Path) -> Path:
    """Write a picture as a PNG file and return where."""
    write_bytes(path, png(picture))
    return path
