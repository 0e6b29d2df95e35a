"""Pictures of where weak labels and labelled points agree, to see what a prompt or a threshold gets wrong.

One picture per frame: each camera's image with its points coloured right, wrong or unknown, and beside it the same
image under its mask.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from olivine.data.frame import Camera, Frame, Pairs
from olivine.data.masks import UNKNOWN
from olivine.engine.files import write_bytes
from olivine.geometry import transform_points
from olivine.visualize.figures import legend
from olivine.visualize.projection import draw_labels, label_colors

RIGHT, WRONG, UNLABELLED = 0, 1, 2
"""What a point-pixel pair says: the classes agree, they do not, or the pixel has none."""

_AGREEMENT_NAMES = ("right", "wrong", "pixel unknown")
_AGREEMENT_COLORS = np.array([[40, 170, 255], [255, 60, 30], [255, 225, 60]], np.uint8)
_PICTURE_PX = 1920

RGB = NDArray[np.uint8]


class AgreementPictures:
    """Draws frames into a folder.

    Args:
        folder: where the pictures go, made if missing.
        classes: class names of the masks, in index order.

    Raises:
        MissingExtraError: matplotlib, which draws the legends, is not installed.
    """

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        self._folder = folder
        self._mask_palette = label_colors(len(classes))
        self._agreement_palette = np.zeros((UNKNOWN + 1, 3), np.uint8)
        self._agreement_palette[: len(_AGREEMENT_COLORS)] = _AGREEMENT_COLORS
        untinted = np.full((1, 3), 255, np.uint8)
        self._legends = (
            _decoded(legend(_AGREEMENT_NAMES, _AGREEMENT_COLORS)),
            _decoded(legend([*classes, "unknown: no tint"], np.vstack([self._mask_palette[: len(classes)], untinted]))),
        )

    def draw(self, frame: Frame, pairs: Pairs, agreement: NDArray[np.uint8]) -> Path:
        """Write the picture of one frame.

        Args:
            frame: a frame with at least one camera.
            pairs: its scored pairs.
            agreement: [P] `RIGHT`, `WRONG` or `UNLABELLED` of each.

        Returns:
            The picture, named after the frame's token.

        Raises:
            UserError: an image or a mask cannot be read, or the picture cannot be written.
        """
        tiles = []
        for index, camera in enumerate(frame.cameras):
            own = pairs.camera == index
            points = self._points(frame, camera, pairs.select(own), agreement[own])
            tiles.append(_side_by_side([points, self._mask(camera)]))
        abreast = max(1, _PICTURE_PX // max(tile.shape[1] for tile in tiles))
        rows = [_side_by_side(tiles[start : start + abreast]) for start in range(0, len(tiles), abreast)]
        picture = _stacked([*rows, _side_by_side(self._legends)])
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, format="PNG")
        path = self._folder / f"{frame.token.replace('/', '_')}.png"
        write_bytes(path, buffer.getvalue())
        return path

    def _points(self, frame: Frame, camera: Camera, own: Pairs, agreement: NDArray[np.uint8]) -> RGB:
        bare = dataclasses.replace(camera, mask_path=None)
        depth_m = transform_points(camera.camera_from_lidar, frame.points_lidar_m[own.point])[:, 2]
        return draw_labels(bare, own.uv, depth_m, agreement, self._agreement_palette, _width(camera))

    def _mask(self, camera: Camera) -> RGB:
        nothing = np.zeros(0)
        none = np.zeros(0, np.uint8)
        return draw_labels(camera, np.zeros((0, 2)), nothing, none, self._mask_palette, _width(camera))


def _width(camera: Camera) -> int:
    return min(camera.size[0], _PICTURE_PX // 2)


def _decoded(png: bytes) -> RGB:
    with Image.open(io.BytesIO(png)) as file:
        return np.asarray(file.convert("RGB"))


def _stacked(tiles: Sequence[RGB]) -> RGB:
    """Tiles one below the other, on white."""
    width = max(tile.shape[1] for tile in tiles)
    return np.concatenate([_padded(tile, tile.shape[0], width) for tile in tiles], axis=0)


def _side_by_side(tiles: Sequence[RGB]) -> RGB:
    """Tiles one beside the other, on white."""
    height = max(tile.shape[0] for tile in tiles)
    return np.concatenate([_padded(tile, height, tile.shape[1]) for tile in tiles], axis=1)


def _padded(tile: RGB, height: int, width: int) -> RGB:
    return np.pad(tile, ((0, height - tile.shape[0]), (0, width - tile.shape[1]), (0, 0)), constant_values=255)
