"""Pictures of where weak labels and labelled points agree, to see what a prompt or a threshold gets wrong.

One picture per frame: each camera's image, darkened and without its colours, with its points right, wrong or unknown,
and beside it the same image under its mask. Wrong points are drawn last and larger, so that none hides behind a right
one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from olivine.data.frame import Camera, Frame
from olivine.data.labels import ClassSet
from olivine.data.pairs import Pairs
from olivine.drawing.tiles import RGB, abreast, below, beside, legend, png, titled
from olivine.files import write_bytes
from olivine.geometry import transform_points
from olivine.visualize.projection import draw_labels, draw_points, mask_legend, mask_palette, resized, tile_title

RIGHT, WRONG, UNLABELLED = 0, 1, 2
"""What a point-pixel pair says: the classes agree, they do not, or the pixel has none."""

_AGREEMENT_NAMES = ("right", "wrong", "pixel unknown")
_AGREEMENT_COLORS = np.array([[40, 170, 255], [255, 60, 30], [255, 225, 60]], np.uint8)
_PICTURE_PX = 1920
_DIMMED = 0.5


class AgreementPictures:
    """Draws frames into a folder.

    Args:
        folder: where the pictures go, made if missing.
        names: class names of the masks, in index order.
        classes: the dataset's class set, for its colours.
    """

    def __init__(self, folder: Path, names: tuple[str, ...], classes: ClassSet) -> None:
        self._folder, self._names = folder, names
        self._palette = mask_palette(names, classes)

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
            title = tile_title(frame, camera)
            tiles.append(beside([titled(points, title), titled(self._mask(camera), f"{title}: mask")]))
        picture = abreast(tiles, max(1, _PICTURE_PX // max(tile.shape[1] for tile in tiles)))
        strips = (
            legend(_AGREEMENT_NAMES, _AGREEMENT_COLORS, picture.shape[1]),
            mask_legend(self._names, self._palette, picture.shape[1]),
        )
        path = self._folder / f"{frame.token.replace('/', '_')}.png"
        write_bytes(path, png(below([picture, *strips])))
        return path

    def _points(self, frame: Frame, camera: Camera, own: Pairs, agreement: NDArray[np.uint8]) -> RGB:
        depth_m = transform_points(camera.camera_from_lidar, frame.points_lidar_m[own.point])[:, 2]
        grey = camera.image().mean(axis=2, keepdims=True) * _DIMMED
        picture, uv = resized(np.repeat(grey.astype(np.uint8), 3, axis=2), own.uv, _width(camera))
        for chosen, radius in ((agreement != WRONG, 1), (agreement == WRONG, 2)):
            colors = _AGREEMENT_COLORS[agreement[chosen]]
            picture = draw_points(picture, uv[chosen], colors, depth_m[chosen], radius)
        return picture

    def _mask(self, camera: Camera) -> RGB:
        nothing = np.zeros(0)
        none = np.zeros(0, np.uint8)
        return draw_labels(camera, np.zeros((0, 2)), nothing, none, self._palette, _width(camera))


def _width(camera: Camera) -> int:
    return min(camera.size[0], _PICTURE_PX // 2)
