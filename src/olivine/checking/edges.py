"""Edges of a cloud and of an image: what `olivine.checking.alignment` brings to meet each other.

Where an object ends, the LiDAR's range jumps and the image changes; where paint ends on the road, the LiDAR's intensity
jumps and the image changes too. The idea is Levinson and Thrun's (Automatic Online Calibration of Cameras and Lasers,
RSS 2013). Beams need not be known: neighbours are looked for by direction as seen from the LiDAR.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.spatial import cKDTree

from olivine.data.frame import Camera
from olivine.geometry import project, transform_points

ACROSS, UPRIGHT, ANY = 0, 1, 2
"""Kinds of edges: the image changes from left to right, from top to bottom, or in any direction."""

WORKING_FOCAL_PX = 620.0
"""Images are reduced to this focal length: a degree is 11 pixels then, and noise is averaged out."""

_MARGIN = 0.12
"""Points this far outside the image count too, tan of the angle: 7°, more than calibrations are looked for off."""

_LOG_JUMP, _LOG_JUMP_UPRIGHT = 0.04, 0.25
"""A neighbour that is farther by these ratios (log) is another object. Between beams it must be more: of the road
ahead, the next beam always sees a farther part."""

_INTENSITY_JUMP = 0.3
"""Intensity edges: steps of the rank of intensity among the points in view, 0…1, along a beam. Steps from beam to beam
are as much those of the beams, which are not alike."""

_FLAT = 0.03
_UPRIGHT_WEIGHT = 0.7
_BLURS_PX = (1.0, 2.5, 6.0)
"""Edges are spread by all of these: the wide ones lead there from afar, the narrow ones say where exactly."""

_LOCAL_PX = 41
_NEIGHBOURS = 16


@dataclass(frozen=True)
class CloudEdges:
    """Points of a cloud at which something ends.

    Attributes:
        points_lidar_m: [E, 3] float32, LiDAR frame.
        weights: [E] float32, more for higher steps.
        kinds: [E] uint8 `ACROSS`, `UPRIGHT` or `ANY`.
        spacing_deg: angle between a beam and the next, in the middle; 0 where there are no points.
    """

    points_lidar_m: NDArray[np.float32]
    weights: NDArray[np.float32]
    kinds: NDArray[np.uint8]
    spacing_deg: float = 0.0

    def __len__(self) -> int:
        return len(self.weights)


@dataclass(frozen=True)
class ImageEdges:
    """How near an image's edges are, at every pixel of the image at a reduced size.

    Attributes:
        maps: [3, H, W] float32 by kind of edge; 0 on average over the image, 1 its standard deviation.
        intrinsics: [3, 3] float64 of the image at this size.
        contrast: [H, W] standard deviation of grey values, 0…255, over the whole image.
    """

    maps: NDArray[np.float32]
    intrinsics: NDArray[np.float64]
    contrast: float


def cloud_edges(
    points_lidar_m: NDArray[np.floating], intensity: NDArray[np.floating] | None, camera: Camera
) -> CloudEdges:
    """The edges of a cloud in and around the view of a camera.

    Args:
        points_lidar_m: [N, 3] metres.
        intensity: [N] in any range; only the order counts. None where there are no intensities.
        camera: whose view it is; its calibration may be off by some degrees.

    Returns:
        The edges; a point may be several.
    """
    seen = _around_view(points_lidar_m, camera)
    points_m = np.asarray(points_lidar_m, np.float64)[seen]
    if len(points_m) < 2:
        nothing = np.zeros(0, np.float32)
        return CloudEdges(np.zeros((0, 3), np.float32), nothing, nothing.astype(np.uint8))
    sides, beams, spacing_deg = _neighbours(points_m)
    found = [
        *_depth_edges(points_m, sides, _LOG_JUMP, upright=False),
        *_depth_edges(points_m, beams, _LOG_JUMP_UPRIGHT, upright=True),
    ]
    if intensity is not None:
        found.append(_intensity_edges(points_m, intensity[seen], sides))
    points, weights, kinds = zip(*found, strict=True)
    of_kind = [np.full(len(each), kind, np.uint8) for each, kind in zip(weights, kinds, strict=True)]
    return CloudEdges(
        np.concatenate(points).astype(np.float32),
        np.concatenate(weights).astype(np.float32),
        np.concatenate(of_kind),
        spacing_deg,
    )


def image_edges(camera: Camera) -> ImageEdges:
    """The edges of a camera's image.

    Steps are measured on the square root of the grey value, which counts shadows like light, and against those around:
    a lawn is no edge.

    Raises:
        UserError: the image cannot be read.
    """
    pixels = camera.image()
    image = Image.fromarray(pixels).convert("L")
    share = min(1.0, WORKING_FOCAL_PX / float(camera.intrinsics[0, 0]))
    if share < 1:
        size = max(1, round(image.width * share)), max(1, round(image.height * share))
        image = image.resize(size, Image.Resampling.BOX)
    grey = np.asarray(image, np.float32)
    root = np.sqrt(grey + 8)
    across = ndimage.gaussian_filter(root, 1.0, order=(0, 1))
    upright = ndimage.gaussian_filter(root, 1.0, order=(1, 0))
    maps = np.stack([_spread(step) for step in (np.abs(across), np.abs(upright), np.hypot(across, upright))])
    scale = np.array([image.width / camera.size[0], image.height / camera.size[1]])
    intrinsics = np.array(camera.intrinsics, np.float64)
    intrinsics[:2] *= scale[:, None]
    intrinsics[:2, 2] += 0.5 * scale - 0.5  # pixel centres sit at integers before and after
    return ImageEdges(maps, intrinsics, float(grey.std()))


def _around_view(points_lidar_m: NDArray[np.floating], camera: Camera) -> NDArray[np.int64]:
    finite = np.flatnonzero(np.isfinite(points_lidar_m).all(axis=1))
    points_camera_m = transform_points(camera.camera_from_lidar, points_lidar_m[finite])
    uv, depth_m = project(points_camera_m, camera.intrinsics)
    margin = _MARGIN * camera.intrinsics[0, 0]
    with np.errstate(invalid="ignore"):
        u, v = uv.T
        inside = (depth_m > 1) & (u > -margin) & (v > -margin)
        inside &= (u < camera.size[0] + margin) & (v < camera.size[1] + margin)
        inside &= (np.abs(points_lidar_m[finite]) > 0).any(axis=1)
    return np.asarray(finite[inside])


def _neighbours(points_m: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """Each point's neighbours to the left and right in its beam, and in the beams above and below: [2, N], −1 none.

    And how far it is from beam to beam, degrees.
    """
    azimuth = np.arctan2(points_m[:, 1], points_m[:, 0])
    middle = np.angle(np.exp(1j * azimuth).mean())
    azimuth = np.degrees(np.angle(np.exp(1j * (azimuth - middle))))
    elevation = np.degrees(np.arcsin(points_m[:, 2] / np.linalg.norm(points_m, axis=1)))

    near, turn, rise = _near(azimuth, elevation, (1, 4), 1.2)
    beside = (near >= 0) & (np.abs(rise) < 0.08 + 0.15 * np.abs(turn))
    cost = np.abs(turn) + 3 * np.abs(rise)
    sides = np.stack([_cheapest(near, beside & (side * turn > 0.02), cost) for side in (1, -1)])

    near, turn, rise = _near(azimuth, elevation, (3, 1), 2.5)
    stacked = (near >= 0) & (np.abs(turn) < 0.35)
    cost = np.abs(turn) + np.abs(rise)
    beams = np.stack([_cheapest(near, stacked & (side * rise > 0.15), cost) for side in (1, -1)])
    rises = np.abs(elevation[beams] - elevation)[beams >= 0]
    return sides, beams, float(np.median(rises)) if len(rises) else 0.0


def _near(
    azimuth: NDArray[np.float64], elevation: NDArray[np.float64], scales: tuple[float, float], reach: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """[N, K] the nearest points by direction within `reach`, −1 where there are fewer; how far to turn and rise, °."""
    places = np.column_stack((azimuth * scales[0], elevation * scales[1]))
    _, near = cKDTree(places).query(places, k=_NEIGHBOURS + 1, distance_upper_bound=reach)
    near = np.where(near[:, 1:] < len(places), near[:, 1:], -1)
    return near, azimuth[near] - azimuth[:, None], elevation[near] - elevation[:, None]


def _cheapest(near: NDArray[np.int64], allowed: NDArray[np.bool_], cost: NDArray[np.float64]) -> NDArray[np.int64]:
    cost = np.where(allowed, cost, np.inf)
    best = cost.argmin(axis=1)[:, None]
    chosen = np.take_along_axis(near, best, axis=1)
    return np.where(np.isfinite(np.take_along_axis(cost, best, axis=1)), chosen, -1)[:, 0]


_Found = tuple[NDArray[np.float64], NDArray[np.float64], int]


def _depth_edges(
    points_m: NDArray[np.float64], neighbours: NDArray[np.int64], least: float, *, upright: bool
) -> list[_Found]:
    """Points whose neighbour on a side is much farther: there the nearer object ends."""
    range_m = np.linalg.norm(points_m, axis=1)
    found = []
    for other in neighbours:
        jump = np.where(other >= 0, np.log(range_m[other] / range_m), 0)
        at = np.flatnonzero(jump > least)
        place = points_m[at]
        if upright:  # the edge lies somewhere between the two beams: in the middle on average
            way = place / range_m[at, None] + points_m[other[at]] / range_m[other[at], None]
            place = way * (range_m[at] / np.linalg.norm(way, axis=1))[:, None]
        weight = np.minimum(np.sqrt(jump[at]), 1)
        found.append((place, weight * _UPRIGHT_WEIGHT, UPRIGHT) if upright else (place, weight, ACROSS))
    return found


def _intensity_edges(
    points_m: NDArray[np.float64], intensity: NDArray[np.floating], sides: NDArray[np.int64]
) -> _Found:
    """Points on one surface with their neighbours on both sides, which differ in intensity."""
    range_m = np.log(np.linalg.norm(points_m, axis=1))
    # Equal intensities have equal ranks, or steps would be made of nothing.
    _, rank, count = np.unique(intensity, return_inverse=True, return_counts=True)
    share = ((np.cumsum(count) - count / 2) / len(intensity))[rank]
    left, right = sides
    surface = (left >= 0) & (right >= 0)
    surface &= (np.abs(range_m[left] - range_m) < _FLAT) & (np.abs(range_m[right] - range_m) < _FLAT)
    step = np.where(surface, np.abs(share[left] - share[right]), 0)
    at = np.flatnonzero(step > _INTENSITY_JUMP)
    return points_m[at], step[at], ANY


def edge_map(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """How near the edges of a picture [H, W] of grey values 0…255 are, [H, W]; 0 on average, 1 its deviation."""
    root = np.sqrt(grey + 8)
    return _spread(np.hypot(*(ndimage.gaussian_filter(root, 1.0, order=way) for way in ((0, 1), (1, 0)))))


def _spread(step: NDArray[np.float32]) -> NDArray[np.float32]:
    """A map of steps measured against those around it, spread to both sides, with mean 0 and deviation 1."""
    root = np.sqrt(step)
    mean = ndimage.uniform_filter(root, _LOCAL_PX)
    deviation = np.sqrt(np.maximum(ndimage.uniform_filter(root * root, _LOCAL_PX) - mean * mean, 0))
    sharp = (root - mean) / (deviation + 0.05)
    wide = sum(ndimage.gaussian_filter(sharp, blur) * np.sqrt(blur) for blur in _BLURS_PX)
    return np.asarray((wide - wide.mean()) / max(float(wide.std()), 1e-6), np.float32)
