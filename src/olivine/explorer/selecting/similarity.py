"""Similarity to a point or a pixel, of the points of any frame and of the pixels of its images.

It is the cosine between embeddings: at the level of points or of classes by the heads of a pretraining, where pixels
have embeddings too, or of the backbone's features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olivine.errors import UserError
from olivine.explorer.coloring import Coloring, Scale, ramp
from olivine.explorer.subject.moments import Moment, Moments
from olivine.explorer.subject.networks import LEVELS, Answer, Network

FEATURES = "features"
"""The level of the backbone's features, which every network has, and pixels have not."""

_DIM = np.array((58, 62, 72), np.uint8)
_EDGE = 1e-3  # places on an image are rounded
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Query:
    """What is compared with.

    Attributes:
        frame: place of its frame in the dataset.
        row: row of the point; -1 for a pixel.
        camera: place of the camera in the frame; -1 for a point.
        uv: the pixel (column, row) in the full image.
    """

    frame: int
    row: int = -1
    camera: int = -1
    uv: tuple[float, float] = (0.0, 0.0)

    def __str__(self) -> str:
        """For an address; `parse` reads it."""
        if self.row >= 0:
            return f"point:{self.frame}:{self.row}"
        return f"pixel:{self.frame}:{self.camera}:{self.uv[0]:.1f}:{self.uv[1]:.1f}"

    @staticmethod
    def parse(text: str) -> Query:
        """The query of an address.

        Raises:
            UserError: it is none.
        """
        kind, *numbers = text.split(":")
        try:
            if kind == "point" and len(numbers) == 2:
                found = Query(int(numbers[0]), row=int(numbers[1]))
            elif kind == "pixel" and len(numbers) == 4:
                uv = (float(numbers[2]), float(numbers[3]))
                found = Query(int(numbers[0]), camera=int(numbers[1]), uv=uv)
            else:
                raise ValueError
            if min(found.frame, max(found.row, found.camera)) < 0 or not np.isfinite(found.uv).all():
                raise ValueError
        except ValueError:
            said = "point:FRAME:ROW or pixel:FRAME:CAMERA:COLUMN:ROW"
            raise UserError(f"query={text!r} is nothing to compare with; it is written {said}") from None
        return found


def levels(network: Network, moment: Moment) -> tuple[str, ...]:
    """The levels at which a network's embeddings may be compared, the finest first."""
    return (*(level for level in LEVELS if level in moment.answer(network).embeddings), FEATURES)


def vector(moments: Moments, network: Network, query: Query, level: str) -> NDArray[np.float32]:
    """The embedding of what is compared with.

    Returns:
        [D] float32 of unit length.

    Raises:
        UserError: there is no such frame, point, camera or level, it lies outside the network's grid, or the network
            has no image side.
    """
    if query.frame >= len(moments):
        raise UserError(f"query={query}: there are {len(moments)} frames, counted from 0")
    moment = moments[query.frame]
    if query.row < 0:
        return _of_pixel(moment, network, query, level)
    rows = embeddings(moment.answer(network), level)
    if query.row >= len(rows):
        raise UserError(f"query={query}: the frame has {len(rows)} points, counted from 0")
    if not rows[query.row].any():
        raise UserError(f"query={query}: this point lies outside the network's grid")
    return np.asarray(rows[query.row])


def embeddings(answer: Answer, level: str) -> NDArray[np.float32]:
    """[N, D] float32 of unit length, zeros outside the grid.

    Raises:
        UserError: the network has no such level.
    """
    if level == FEATURES:
        norms = np.linalg.norm(answer.features, axis=1, keepdims=True)
        return np.asarray(answer.features / np.maximum(norms, np.float32(1e-12)))
    if level not in answer.embeddings:
        raise UserError(f"level={level}: this network has {', '.join((*answer.embeddings, FEATURES))}")
    return answer.embeddings[level]


def of_points(answer: Answer, level: str, to: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N] cosine of each point's embedding with a unit vector [D]; 0 outside the grid."""
    return np.asarray(embeddings(answer, level) @ to)


def of_pixels(moment: Moment, network: Network, level: str, to: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """[cameras, h, w] cosine of pixels' embeddings with a unit vector [D]; None where pixels have none at this level.

    Raises:
        UserError: an image, the run's checkpoint or its teacher cannot be read.
    """
    grids = moment.pixels(network)
    return None if level not in grids else np.asarray(grids[level] @ to)


def coloring(similarity: NDArray[np.float32], threshold: float | None) -> Coloring:
    """Points by their similarity, 0…1; below a threshold all alike, so that what is selected stands out.

    Args:
        similarity: [N] cosines.
        threshold: points from it on are selected; None selects nothing.
    """
    colors = ramp(similarity)
    if threshold is not None:
        colors[similarity < threshold] = _DIM
    strip = ramp(np.linspace(0, 1, 256))
    return Coloring(colors, scale=Scale("similarity", strip, tuple((tick, f"{tick:g}") for tick in _TICKS)))


def pick(
    points_m: NDArray[np.floating],
    origin_m: NDArray[np.floating],
    direction: NDArray[np.floating],
    within_rad: float = 0.01,
) -> int | None:
    """The point that a click means: the nearest of those close to its ray, else the closest to it.

    Args:
        points_m: [N, 3] metres.
        origin_m: [3] where the ray begins, in the same frame.
        direction: [3] where it goes, of any length.
        within_rad: points seen at most this far beside the ray are close to it.

    Returns:
        The row, or None where nothing lies within five times that.
    """
    there = np.asarray(points_m, np.float64) - origin_m
    along = there @ (np.asarray(direction, np.float64) / np.linalg.norm(direction))
    beside = np.sqrt(np.maximum((there**2).sum(axis=1) - along**2, 0))
    angle = np.where(along > 0, np.arctan2(beside, np.maximum(along, 1e-9)), np.inf)
    close = np.flatnonzero(angle <= within_rad)
    if len(close):
        return int(close[along[close].argmin()])
    return int(angle.argmin()) if len(angle) and angle.min() <= 5 * within_rad else None


def _of_pixel(moment: Moment, network: Network, query: Query, level: str) -> NDArray[np.float32]:
    """The embedding of the pixel of the grid that is nearest."""
    grids, cameras = moment.pixels(network), moment.frame.cameras
    if level not in grids:
        known = ", ".join(grids) or "none, for this network was not taught by images"
        raise UserError(f"level={level}: pixels have embeddings at {known}")
    if query.camera >= len(cameras):
        raise UserError(f"query={query}: the frame has {len(cameras)} cameras, counted from 0")
    size, (height, width) = cameras[query.camera].size, grids[level].shape[1:3]
    share = (np.array(query.uv) + 0.5) / size
    if (np.abs(share - 0.5) > 0.5 + _EDGE).any():
        raise UserError(f"query={query}: the image has {size[0]} × {size[1]} pixels")
    column, row = np.clip((share * (width, height)).astype(int), 0, (width - 1, height - 1))
    return np.asarray(grids[level][query.camera, row, column])
