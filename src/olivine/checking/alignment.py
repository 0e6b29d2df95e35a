"""How well a camera's calibration brings the edges of clouds onto those of images, and where it would do best.

The score is the mean of the images' edge maps at the projected edges of the clouds: 0 where they meet by chance. It is
looked for over small rotations of the camera, and over the time that images are late where the vehicle's motion is
known. What the score depends on is summed by tiles of the images, so that its uncertainty can be told from how much
tiles differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from olivine.checking.edges import CloudEdges, ImageEdges
from olivine.geometry import invert, rigid_transform, transform_points

MAX_EDGES, COARSE_EDGES = 8000, 3000
"""Edges that are looked at, over all frames of a camera, and while a whole grid of rotations is; of more, every n-th
is."""

REACH_DEG = 3.0
"""Calibrations are looked for this far off, about each of two axes."""

LEAST_SPEED_MPS = 1.0
"""A vehicle slower than this shows no delay; turning by 1 rad/s counts as 10 m/s."""

APART_DEG = 1.0
"""A rotation that differs by more than this in pitch or yaw is another."""

_ROLLS_DEG = (-2.0, -1.0, 0.0, 1.0, 2.0)
_GRID_DEG = 0.5
_SEEDS = 4
_FINEST_DEG = 0.02
_TILES = (6, 3)
_STEP_DEG = 0.25
"""Slopes and curvature of the score are measured over this step: as wide as the finest blur of the edges."""


@dataclass(frozen=True)
class View:
    """One image of a camera with the cloud of its frame.

    Attributes:
        edges: of the cloud.
        image: edges of the image.
        camera_from_lidar: [4, 4] as the dataset has it.
        twist: [6] angular (rad/s) and linear (m/s) velocity of the LiDAR in its own frame; None where unknown.
        scene: the recording it belongs to; images of one recording say partly the same.
    """

    edges: CloudEdges
    image: ImageEdges
    camera_from_lidar: NDArray[np.float64]
    twist: NDArray[np.float64] | None = None
    scene: str = ""


class Alignment:
    """The score of some views of one camera.

    Args:
        views: images with their clouds.
        most: how many edges are looked at.

    Attributes:
        edges: number of edges that are looked at.
        tiles: number of tiles; those at one place of all images of a recording count as one.
        speed_mps: how fast the vehicle moves on average, 0 where that is not known of every view.
    """

    def __init__(self, views: Sequence[View], most: int = MAX_EDGES) -> None:
        self._views = tuple(views)
        self._rows = [_thinned(view.edges, most / max(1, sum(len(v.edges) for v in views))) for view in views]
        self._weights = np.concatenate([view.edges.weights[rows] for view, rows in self._each()])
        self._lenses = np.concatenate([_lens(view, rows) for view, rows in self._each()], axis=1)
        self._pixels = np.concatenate([view.image.maps.ravel() for view in views])
        sizes = np.cumsum([0, *(view.image.maps.size for view in views)])
        self._starts = np.concatenate(
            [start + _map_of(view, rows) for start, (view, rows) in zip(sizes, self._each(), strict=False)]
        )
        self.edges = len(self._weights)
        scenes = list(dict.fromkeys(view.scene for view in views))
        self.tiles = len(scenes) * _TILES[0] * _TILES[1]
        self._at = (0.0, self._points(0.0))
        self._tile = _tiles(self._at[1], self._lenses)
        self._tile += np.concatenate([np.full(len(rows), scenes.index(view.scene)) for view, rows in self._each()]) * (
            _TILES[0] * _TILES[1]
        )
        known = [view.twist for view in views if view.twist is not None]
        speeds = [float(np.linalg.norm(twist[3:])) + 10 * float(np.linalg.norm(twist[:3])) for twist in known]
        self.speed_mps = float(np.mean(speeds)) if len(known) == len(views) else 0.0

    def _each(self) -> Iterator[tuple[View, NDArray[np.int64]]]:
        return zip(self._views, self._rows, strict=True)

    def _points(self, late_s: float) -> NDArray[np.float32]:
        """[E, 3] the edges in the camera frame when images are taken that much later."""
        return np.concatenate(
            [
                transform_points(moved(view, late_s) @ view.camera_from_lidar, view.edges.points_lidar_m[rows])
                for view, rows in self._each()
            ]
        ).astype(np.float32)

    def thinned(self, most: int) -> Alignment:
        """The same with fewer edges."""
        return self if self.edges <= most else Alignment(self._views, most)

    def score(self, rotation_deg: NDArray[np.float64], late_s: float = 0.0) -> float:
        """The score after the camera is turned.

        Args:
            rotation_deg: [3] rotation vector in the camera frame: pitch, yaw, roll, degrees; it is applied after
                `camera_from_lidar`.
            late_s: how much later than stated the images were taken, seconds.
        """
        weights, values = self._values(rotation_deg, late_s)
        return float(weights @ values) / max(float(weights.sum()), 1e-9)

    def sums(self, rotation_deg: NDArray[np.float64], late_s: float = 0.0) -> tuple[NDArray[np.float64], ...]:
        """[T], [T]: the weighted sum of map values and the weights, by tile; see `score`."""
        weights, values = self._values(rotation_deg, late_s)
        parts = (weights * values, weights)
        return tuple(np.bincount(self._tile, part, self.tiles).astype(np.float64) for part in parts)

    def _values(self, rotation_deg: NDArray[np.float64], late_s: float) -> tuple[NDArray[np.float32], ...]:
        """[E] weight of each edge, 0 where it leaves the image, and [E] the map's value where it falls."""
        if late_s != self._at[0]:
            self._at = (late_s, self._points(late_s))
        turn = Rotation.from_rotvec(np.radians(rotation_deg)).as_matrix().astype(np.float32)
        column, row, inside = _pixels_of(self._at[1] @ turn.T, self._lenses)
        width = self._lenses[5].astype(np.int64)
        pixel = np.where(inside, self._starts + row.astype(np.int64) * width + column.astype(np.int64), 0)
        return self._weights * inside, self._pixels[pixel]

    def __len__(self) -> int:
        return len(self._views)


@dataclass(frozen=True)
class Peak:
    """The best place of a score.

    Attributes:
        rotation_deg: [3] pitch, yaw, roll.
        late_s: seconds.
        score: there.
    """

    rotation_deg: NDArray[np.float64]
    late_s: float
    score: float


def best_rotations(alignment: Alignment) -> tuple[list[Peak], NDArray[np.float64]]:
    """The best rotations, the best first, at least 1° from each other before each was refined.

    Returns:
        The peaks, and [G] the scores of the grid away from the best, which say what is common where nothing meets.
    """
    steps = np.arange(-REACH_DEG, REACH_DEG + 1e-6, _GRID_DEG)
    grid = np.array([(pitch, yaw, roll) for roll in _ROLLS_DEG for pitch in steps for yaw in steps])
    coarse = alignment.thinned(COARSE_EDGES)
    scores = np.array([coarse.score(place) for place in grid])
    seeds = [int(np.abs(grid).sum(axis=1).argmin())]  # what is given is the first guess
    for index in np.argsort(-scores, kind="stable"):
        if all(np.abs(grid[index] - grid[seed]).max() > 1.1 for seed in seeds):
            seeds.append(int(index))
        if len(seeds) == _SEEDS:
            break
    peaks = [refine(alignment, Peak(grid[seed], 0.0, 0.0)) for seed in seeds]
    peaks = sorted(peaks, key=lambda peak: -peak.score)
    away = np.abs(grid - peaks[0].rotation_deg)[:, :2].max(axis=1) > APART_DEG
    return peaks, scores[away]


def refine(alignment: Alignment, start: Peak, axes: Sequence[int] = (0, 1, 2)) -> Peak:
    """Climb from a place along the axes of rotation, in steps that halve, to the top."""
    place, late_s = start.rotation_deg.copy(), start.late_s
    top, _ = climb(lambda x: alignment.score(x, late_s), place, np.array([0.25, 0.25, 0.5]), _FINEST_DEG, axes)
    return Peak(top, late_s, alignment.score(top, late_s))


def climb(
    height: Callable[[NDArray[np.float64]], float],
    start: NDArray[np.float64],
    steps: NDArray[np.float64],
    finest: float,
    axes: Sequence[int],
) -> tuple[NDArray[np.float64], float]:
    """The top near a place, by steps along each axis that halve until the first is shorter than `finest`."""
    place, top = start.copy(), height(start)
    while steps[0] > finest:
        moved_on = False
        for axis in axes:
            for sign in (1, -1):
                other = place.copy()
                other[axis] += sign * steps[axis]
                value = height(other)
                if value > top:
                    place, top, moved_on = other, value, True
                    break
        if not moved_on:
            steps = steps / 2
    return place, top


def best_delay(alignment: Alignment, reach_s: float = 0.4) -> Peak:
    """The time that images are late which explains most without any rotation."""
    times = np.arange(-reach_s, reach_s + 1e-6, 0.025)
    still = np.zeros(3)
    scores = [alignment.score(still, float(time)) for time in times]
    start = np.array([times[int(np.argmax(scores))]])
    top, score = climb(lambda x: alignment.score(still, float(x[0])), start, np.array([0.0125]), 0.002, (0,))
    return Peak(still, float(top[0]), score)


def covariance_deg2(alignment: Alignment, peak: Peak) -> NDArray[np.float64]:
    """[3, 3] covariance of a peak's rotation: the sandwich of an M-estimator, with tiles as what is independent.

    At the top the slopes of all tiles cancel; how much they vary, over how sharply the score falls on all sides, is how
    uncertain the place is. An axis along which the score does not fall is as uncertain as can be.
    """
    centre, steps = peak.rotation_deg, np.eye(3) * _STEP_DEG
    total, weight = alignment.sums(centre, peak.late_s)
    mean, scale = total.sum() / max(weight.sum(), 1e-9), max(weight.sum(), 1e-9)

    def residual(place: NDArray[np.float64]) -> NDArray[np.float64]:
        value, counted = alignment.sums(place, peak.late_s)
        return np.asarray((value - mean * counted) / scale)

    ahead, behind = [residual(centre + step) for step in steps], [residual(centre - step) for step in steps]
    slopes = np.stack([(a - b) / (2 * _STEP_DEG) for a, b in zip(ahead, behind, strict=True)])
    middle = residual(centre).sum()
    curve = np.array([(a.sum() + b.sum() - 2 * middle) / _STEP_DEG**2 for a, b in zip(ahead, behind, strict=True)])
    hessian = np.diag(curve)
    for i in range(3):
        for j in range(i):
            both = residual(centre + steps[i] + steps[j]).sum() - residual(centre + steps[i] - steps[j]).sum()
            both += residual(centre - steps[i] - steps[j]).sum() - residual(centre - steps[i] + steps[j]).sum()
            hessian[i, j] = hessian[j, i] = both / (4 * _STEP_DEG**2)
    if np.linalg.eigvalsh(hessian).max() > -1e-4:
        return np.eye(3) * REACH_DEG**2
    bread = np.linalg.inv(hessian)
    return np.asarray(bread @ (slopes @ slopes.T) @ bread)


def moved(view: View, late_s: float) -> NDArray[np.float64]:
    """[4, 4] what carries points of the camera frame to where they are when the image is taken that much later."""
    if view.twist is None or not late_s:
        return np.eye(4)
    step = rigid_transform(Rotation.from_rotvec(view.twist[:3] * late_s).as_matrix(), view.twist[3:] * late_s)
    return view.camera_from_lidar @ invert(step) @ invert(view.camera_from_lidar)


def _thinned(edges: CloudEdges, share: float) -> NDArray[np.int64]:
    """Every n-th edge, so that about this share is left."""
    kept: NDArray[np.int64] = np.flatnonzero(np.diff(np.floor(np.arange(len(edges) + 1) * min(share, 1.0))) > 0)
    return kept


def _lens(view: View, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """[7, E]: fx, skew, cx, fy, cy, width, height of the image that each edge falls into."""
    matrix, (_, height, width) = view.image.intrinsics, view.image.maps.shape
    values = [matrix[0, 0], matrix[0, 1], matrix[0, 2], matrix[1, 1], matrix[1, 2], width, height]
    return np.repeat(np.array(values, np.float32)[:, None], len(rows), axis=1)


def _map_of(view: View, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """[E] where the map of each edge's kind starts among the pixels of all three."""
    return np.asarray(view.edges.kinds[rows].astype(np.int64) * view.image.maps[0].size)


def _pixels_of(points_m: NDArray[np.float32], lens: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """[E] column, [E] row of the nearest pixel, and [E] whether there is one."""
    fx, skew, cx, fy, cy, width, height = lens
    x, y, z = points_m.T
    depth_m = np.maximum(z, np.float32(0.1))
    column, row = np.rint((fx * x + skew * y) / depth_m + cx), np.rint(fy * y / depth_m + cy)
    return column, row, (column >= 0) & (row >= 0) & (column < width) & (row < height) & (z > 0.1)


def _tiles(points_m: NDArray[np.float32], lens: NDArray[np.float32]) -> NDArray[np.int64]:
    """[E] the tile of an image that each edge falls into, or the nearest one."""
    column, row, _ = _pixels_of(points_m, lens)
    across = np.clip(column / lens[5] * _TILES[0], 0, _TILES[0] - 1).astype(np.int64)
    down = np.clip(row / lens[6] * _TILES[1], 0, _TILES[1] - 1).astype(np.int64)
    return np.asarray(down * _TILES[0] + across)
