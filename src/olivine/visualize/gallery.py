"""Pictures of what a trained network makes of a dataset: clouds from above, images with points and weak labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from olivine.data.frame import Boxes, Dataset, Frame
from olivine.data.pairs import find_pairs
from olivine.data.voxelize import CartesianVoxels
from olivine.drawing.figures import clouds, maps, pca_colors
from olivine.drawing.links import view_of
from olivine.drawing.report import Picture
from olivine.drawing.tiles import abreast, below, legend, png
from olivine.errors import UserError
from olivine.inference import Model
from olivine.visualize.boxes import SHOWN_SCORE, Colors, box_colors, box_tiles, extent_of
from olivine.visualize.projection import COLUMNS, depth_scale, frame_tiles, mask_legend, mask_palette

_TILE_PX = 400
_BOX_TILE_PX = 640
_LEGEND_PX = 900
_GROUND_M, _HIGH_M = -2.0, 2.0  # heights between which a map of heights goes from dark to light


def cloud_pictures(dataset: Dataset, index: int, models: Mapping[str, Model]) -> list[Picture]:
    """One labelled cloud from above: its truth, and each model's prediction or features.

    Args:
        dataset: a labelled dataset.
        index: which frame.
        models: by name; those with classes show what they predict, the others their features.

    Raises:
        UserError: the frame has no labels.
    """
    frame = dataset[index]
    if frame.labels is None:
        raise UserError(f"{dataset.name}: frame {frame.token} has no labels to show")
    colors = {"truth": dataset.classes.colors[frame.labels]}
    features = {}
    for name, model in models.items():
        seen = (frame.points_lidar_m, frame.intensity)
        if model.classes is None:
            features[f"{name}: features"] = pca_colors(model.features(*seen, intensity_max=frame.intensity_max))
        else:
            predicted = model.predict(*seen, intensity_max=frame.intensity_max)
            colors[f"{name}: prediction"] = dataset.classes.colors[predicted]
    caption = f"Frame {frame.token} from above, 35 m around the car, coloured by class."
    view = view_of([("frame", index), ("color", "prediction"), ("beside", "all")])
    pictures = [Picture(clouds(frame.points_lidar_m, colors), caption, view)]
    if features:
        text = "The same frame before any fine-tuning: the leading three principal components of its features."
        view = view_of([("frame", index), ("color", "features"), ("beside", "all")])
        pictures.append(Picture(clouds(frame.points_lidar_m, features), text, view))
    names = [name.replace("_", " ") for name in dataset.classes.names]
    return [*pictures, Picture(png(legend(names, dataset.classes.colors[1:], _LEGEND_PX)), "Classes.")]


def map_pictures(frame: Frame, models: Mapping[str, Model]) -> list[Picture]:
    """What backbones with a map seen from above make of one cloud.

    Args:
        frame: the frame.
        models: by name, with maps of the same ground.

    Returns:
        One picture: how high the points stand on every pixel, and each model's features there, coloured by their three
        leading principal components; white where there are no points, or none that the network sees.

    Raises:
        UserError: a model's backbone makes no map.
    """
    pictures: dict[str, NDArray[np.uint8]] = {}
    bounds_m = 0.0, 0.0, 0.0, 0.0
    for name, model in models.items():
        features = model.feature_map(frame.points_lidar_m, frame.intensity, intensity_max=frame.intensity_max)
        assert isinstance(model.voxels, CartesianVoxels)
        assert model.voxels.bounds_m is not None
        west, south, _, east, north, _ = model.voxels.bounds_m
        bounds_m = west, south, east, north
        if not pictures:
            pictures["height of the highest point"] = _heights(frame.points_lidar_m, model, features.shape[1:])
        seen = features.any(axis=0)
        colors = np.full((*seen.shape, 3), 255, np.uint8)
        colors[seen] = pca_colors(features[:, seen].T)
        pictures[name] = colors
    text = (
        f"Frame {frame.token} from above: points by height, and features by their three leading principal components."
    )
    return [Picture(maps(pictures, bounds_m), text)]


def _heights(points_m: NDArray[np.floating], model: Model, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """[Y, X, 3] the pixels of a model's map by their highest point within its bounds, dark low and light high."""
    assert isinstance(model.voxels, CartesianVoxels)
    assert model.voxels.bounds_m is not None
    low, high = np.array(model.voxels.bounds_m).reshape(2, 3)
    points_m = points_m[model.voxels.inside(points_m.astype(np.float32))]
    column, row = ((points_m[:, :2] - low[:2]) / (high - low)[:2] * np.array(shape[::-1])).astype(np.int64).T
    highest = np.full(shape, -np.inf)
    np.maximum.at(highest, (row, column), points_m[:, 2])
    seen = np.isfinite(highest)
    colors = np.full((*shape, 3), 255, np.uint8)
    share = (highest[seen] - _GROUND_M) / (_HIGH_M - _GROUND_M)
    colors[seen] = (30 + 200 * np.clip(share, 0, 1)).astype(np.uint8)[:, None]
    return colors


def image_pictures(dataset: Dataset, index: int) -> list[Picture]:
    """The images of a frame: points by depth, and points by weak label over the masks where there are any.

    None where the frame has no cameras.
    """
    frame = dataset[index]
    if not frame.cameras:
        return []
    names = dataset.manifest.classes if dataset.manifest else ()
    palette = mask_palette(names, dataset.classes) if dataset.manifest else None
    depth, labels = frame_tiles(frame, find_pairs(frame), palette, _TILE_PX)
    text = "LiDAR points on the images, coloured by depth: red near, violet far."
    view = view_of([("frame", index), ("color", "range")])
    pictures = [Picture(png(below([abreast(depth, COLUMNS), depth_scale()])), text, view)]
    if dataset.manifest and palette is not None:
        text = f"Weak labels ({dataset.manifest.labeller}) and the points that take them."
        tiles = abreast(labels, COLUMNS)
        view = view_of([("frame", index), ("color", "weak"), ("mask", 0.5)])
        pictures.append(Picture(png(below([tiles, mask_legend(names, palette, tiles.shape[1])])), text, view))
    return pictures


def detection_pictures(dataset: Dataset, index: int, models: Mapping[str, Model]) -> list[Picture]:
    """A frame with its labelled boxes, where it has some, and with what detectors find in it.

    Args:
        dataset: a dataset, with or without boxes.
        index: which frame.
        models: detectors by name.

    Returns:
        Pictures as of `box_pictures`; of what was found only what has a score from `SHOWN_SCORE` on.

    Raises:
        UserError: a model detects nothing, the frame does not fit it, or an image cannot be read.
    """
    frame = dataset[index]
    boxes = {} if frame.boxes is None else {"labelled": frame.boxes}
    for name, model in models.items():
        found = model.detect(frame.points_lidar_m, frame.intensity, intensity_max=frame.intensity_max)
        sure = int((found.scores >= SHOWN_SCORE).sum())  # the best come first
        boxes[name] = Boxes(found.boxes[:sure].astype(np.float64), found.names[:sure])
    _, names = _together(boxes)
    return box_pictures(frame, boxes, box_colors(names, dataset.classes))


def box_pictures(frame: Frame, boxes: Mapping[str, Boxes], colors: Colors) -> list[Picture]:
    """Boxes of a frame, labelled and detected, on its images and from above.

    Args:
        frame: the frame.
        boxes: by what they are, e.g. `"labelled"` or the name of a detector.
        colors: of their categories, as of `olivine.visualize.boxes.box_colors`.

    Raises:
        UserError: an image cannot be read.
    """
    pictures, above = [], []
    extent_m = extent_of(frame.points_lidar_m, Boxes(*_together(boxes)))
    for what, each in boxes.items():
        images, seen = box_tiles(frame, each, colors, _BOX_TILE_PX, extent_m, what)
        above.append(seen)
        if images:
            pictures.append(Picture(png(abreast(images, COLUMNS)), f"Frame {frame.token}: boxes, {what}."))
    key = legend(list(colors), np.array(list(colors.values()), np.uint8).reshape(-1, 3), _LEGEND_PX)
    return [*pictures, Picture(png(below([abreast(above, COLUMNS), key])), f"Frame {frame.token} from above.")]


def _together(boxes: Mapping[str, Boxes]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """All boxes, and their names."""
    values = [np.zeros((0, 7)), *(each.boxes for each in boxes.values())]
    return np.concatenate(values), tuple(name for each in boxes.values() for name in each.names)
