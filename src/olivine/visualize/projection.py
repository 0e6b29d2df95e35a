"""Pictures of points on images, to judge calibration and weak labels by eye.

Frames lie one below the other, each with its cameras three abreast at reduced size. In the first picture points are
coloured by depth, warm near and cold far; in the second, where there are masks, by weak label, over the mask itself,
with a legend below.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from olivine.data.check import open_any
from olivine.data.frame import Camera, Dataset, Frame, Pairs, find_pairs
from olivine.data.masks import UNKNOWN
from olivine.engine.files import writing
from olivine.errors import UserError
from olivine.geometry import transform_points

RGB = NDArray[np.uint8]

NEAR_M, FAR_M = 2.0, 60.0
_DEPTH_STOPS = np.array([[255, 40, 40], [255, 160, 0], [250, 250, 60], [60, 220, 90], [40, 160, 255], [120, 60, 255]])
_UNKNOWN_COLOR = (150, 150, 150)
_GOLDEN_ANGLE = 0.618034
_MASK_OPACITY = 0.5
_COLUMNS = 3
_MAX_TILE_PX = (1280, 960, 640)  # for one, two and three columns
_LEGEND_CELL_PX = (190, 24)


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


def label_colors(classes: int) -> RGB:
    """Distinct colours for the classes of a mask manifest, [256, 3] uint8 RGB; grey for every other value."""
    palette = np.empty((UNKNOWN + 1, 3), np.uint8)
    palette[:] = _UNKNOWN_COLOR
    for index in range(classes):
        # Steps of the golden angle keep neighbours in the list far apart in hue, however many there are.
        hue, value = (index * _GOLDEN_ANGLE) % 1.0, (1.0, 0.75)[index % 2]
        palette[index] = np.multiply(colorsys.hsv_to_rgb(hue, 0.85, value), 255).astype(np.uint8)
    return palette


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
    image, scaled = _resized(camera.image(), uv, width)
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
    image, scaled = _resized(pixels, uv, width)
    return draw_points(image, scaled, palette[label], depth_m)


def draw_projections(dataset: Dataset, folder: Path, frames: int = 3) -> list[Path]:
    """Draw some frames of a dataset, spread evenly over it.

    Args:
        dataset: an opened dataset.
        folder: where the pictures go, made if missing: `projection_depth.png`, and `projection_labels.png` where the
            dataset has masks.
        frames: how many frames; those that cannot be read or have no camera are left out (`olivine.data.check`
            names what is wrong with them).

    Returns:
        The pictures written; none where no frame can be drawn.
    """
    chosen = np.unique(np.linspace(0, len(dataset) - 1, frames).round().astype(int))
    palette = label_colors(len(dataset.manifest.classes)) if dataset.manifest else None
    depth_rows, label_rows = [], []
    for index in chosen.tolist():
        try:
            frame = dataset[index]
            pairs = find_pairs(frame, labels=palette is not None)
            depth_row, label_row = _frame_rows(frame, pairs, palette)
        except UserError:
            continue
        if depth_row:
            depth_rows.append(_tiled(depth_row))
        if label_row:
            label_rows.append(_tiled(label_row))
    written = []
    if depth_rows:
        written.append(_save(_stacked(depth_rows), folder / "projection_depth.png"))
    if label_rows and dataset.manifest and palette is not None:
        legend = _legend(dataset.manifest.classes, palette, max(row.shape[1] for row in label_rows))
        written.append(_save(_stacked([*label_rows, legend]), folder / "projection_labels.png"))
    return written


def draw_folder(root: Path, folder: Path, frames: int = 3, *, own: str | None = None) -> list[Path]:
    """Draw some frames of every dataset that a folder holds; see `olivine.data.check.open_any`.

    Args:
        root: the datasets' folder.
        folder: where the pictures go; where `root` holds several datasets, each gets a numbered folder in it.
        frames: how many frames of each dataset.
        own: import path of a dataset of one's own, which the folder is then opened as.

    Returns:
        The pictures written.

    Raises:
        UserError: no dataset there, or one that cannot be opened.
    """
    datasets = open_any(root) if own is None else open_any(root, own)
    places = [folder] if len(datasets) == 1 else [folder / f"{n}-{each.name}" for n, each in enumerate(datasets)]
    written = [draw_projections(dataset, place, frames) for dataset, place in zip(datasets, places, strict=True)]
    return [path for paths in written for path in paths]


def _frame_rows(frame: Frame, pairs: Pairs, palette: RGB | None) -> tuple[list[RGB], list[RGB]]:
    """The depth pictures and (with a palette) the label pictures of a frame's cameras."""
    depth_row, label_row = [], []
    for index, camera in enumerate(frame.cameras):
        here = pairs.select(pairs.camera == index)
        depth_m = transform_points(camera.camera_from_lidar, frame.points_lidar_m[here.point])[:, 2]
        width = min(camera.size[0], _MAX_TILE_PX[min(len(frame.cameras), _COLUMNS) - 1])
        depth_row.append(draw_depth(camera, here.uv, depth_m, width))
        if palette is not None:
            label_row.append(draw_labels(camera, here.uv, depth_m, here.label, palette, width))
    return depth_row, label_row


def _resized(image: RGB, uv: NDArray[np.floating], width: int) -> tuple[RGB, NDArray[np.float64]]:
    """The image at `width`, and where its points then are (pixel centres at integers, before and after)."""
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    small = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    scale = np.array([width / image.shape[1], height / image.shape[0]])
    return small, (np.asarray(uv, np.float64) + 0.5) * scale - 0.5


def _tiled(tiles: Sequence[RGB]) -> RGB:
    """The pictures of one frame, `_COLUMNS` abreast."""
    return _stacked([_side_by_side(tiles[start : start + _COLUMNS]) for start in range(0, len(tiles), _COLUMNS)])


def _side_by_side(tiles: Sequence[RGB]) -> RGB:
    height = max(tile.shape[0] for tile in tiles)
    return np.concatenate([np.pad(tile, ((0, height - tile.shape[0]), (0, 0), (0, 0))) for tile in tiles], axis=1)


def _stacked(rows: Sequence[RGB]) -> RGB:
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows], axis=0)


def _legend(classes: Sequence[str], palette: RGB, width: int) -> RGB:
    """A strip [h, width, 3] with the colour and name of every class, and of unknown."""
    entries = [*enumerate(classes), (UNKNOWN, "unknown")]
    cell_width, cell_height = _LEGEND_CELL_PX
    per_row = max(1, width // cell_width)
    strip = Image.new("RGB", (width, cell_height * -(-len(entries) // per_row)))
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default()
    for place, (label, name) in enumerate(entries):
        x, y = place % per_row * cell_width, place // per_row * cell_height
        draw.rectangle((x + 4, y + 4, x + 20, y + 20), fill=tuple(palette[label].tolist()))
        draw.text((x + 26, y + 6), name, fill="white", font=font)
    return np.asarray(strip)


def _save(picture: RGB, path: Path) -> Path:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return path
