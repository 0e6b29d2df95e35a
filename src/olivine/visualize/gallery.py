"""Pictures of what a trained network makes of a dataset: clouds from above, images with points and weak labels."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from olivine.data.frame import Dataset, find_pairs
from olivine.errors import UserError
from olivine.geometry import transform_points
from olivine.inference import Model
from olivine.visualize.figures import clouds, legend, pca_colors
from olivine.visualize.projection import draw_depth, draw_labels, label_colors
from olivine.visualize.report import Picture

_TILE_PX = 400


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
    pictures = [Picture(clouds(frame.points_lidar_m, colors), caption)]
    if features:
        text = "The same frame before any fine-tuning: the leading three principal components of its features."
        pictures.append(Picture(clouds(frame.points_lidar_m, features), text))
    names = [name.replace("_", " ") for name in dataset.classes.names]
    return [*pictures, Picture(legend(names, dataset.classes.colors[1:]), "Classes.")]


def image_pictures(dataset: Dataset, index: int) -> list[Picture]:
    """The images of a frame: points by depth, and points by weak label over the masks where there are any.

    None where the frame has no cameras.
    """
    frame = dataset[index]
    if not frame.cameras:
        return []
    pairs = find_pairs(frame)
    depth, labels = [], []
    palette = label_colors(len(dataset.manifest.classes)) if dataset.manifest else None
    for number, camera in enumerate(frame.cameras):
        own = pairs.select(pairs.camera == number)
        depth_m = transform_points(camera.camera_from_lidar, frame.points_lidar_m[own.point])[:, 2]
        depth.append(draw_depth(camera, own.uv, depth_m, _TILE_PX))
        if palette is not None:
            labels.append(draw_labels(camera, own.uv, depth_m, own.label, palette, _TILE_PX))
    pictures = [Picture(_mosaic(depth), "LiDAR points on the images, coloured by depth: red near, violet far.")]
    if labels and dataset.manifest:
        text = f"Weak labels ({dataset.manifest.labeller}) and the points that take them."
        pictures.append(Picture(_mosaic(labels), text))
    return pictures


def _mosaic(tiles: list[NDArray[np.uint8]]) -> bytes:
    """Tiles of one size three abreast, as PNG bytes."""
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    rows = -(-len(tiles) // 3)
    canvas = np.zeros((rows * height, min(len(tiles), 3) * width, 3), np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // 3 * height, number % 3 * width
        canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
