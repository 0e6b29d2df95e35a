"""Boxes of objects: (x, y, z, dx, dy, dz, yaw), the centre and sides in metres, dx along the heading.

The yaw turns counter-clockwise from +x, seen from above, in radians. `olivine.geometry.overlap` has how much of boxes
overlaps.

            4───────5
           ╱│      ╱│        z up  x along the heading
          7───────6 │          │ ╱
          │ 0 ─ ─ ┼─1          │╱
          │╱      │╱           o
          3───────2        y ─╱   to the left
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from olivine.geometry.transforms import Float

if TYPE_CHECKING:
    from torch import Tensor

    Angles = TypeVar("Angles", Float, Tensor)

UNIT_CORNERS = np.array(
    [(1, 1, -1), (1, -1, -1), (-1, -1, -1), (-1, 1, -1), (1, 1, 1), (1, -1, 1), (-1, -1, 1), (-1, 1, 1)]
)
"""[8, 3] corners of a box, in half sides: front left, front right, rear right, rear left below, then the same above."""

_MARGIN = 1e-9  # of sizes and distances: far more than they are rounded by


def corners(boxes: Float) -> NDArray[np.float64]:
    """The corners of boxes.

    Args:
        boxes: [M, 7].

    Returns:
        [M, 8, 3] float64, metres, in the order of `UNIT_CORNERS`, which is drawn above and is OpenPCDet's.
    """
    centres_m, sides_m, yaw_rad = _parts(boxes)
    along, across, up = np.moveaxis(UNIT_CORNERS / 2 * sides_m[:, None], -1, 0)
    cos, sin = np.cos(yaw_rad)[:, None], np.sin(yaw_rad)[:, None]
    shifted = np.stack((cos * along - sin * across, sin * along + cos * across, up), axis=-1)
    return np.asarray(shifted + centres_m[:, None])


def turned_boxes(matrix: Float, boxes: Float) -> NDArray[np.float64]:
    """Boxes in a frame that a cloud's augmentation made: rotated about z, mirrored at x or y, scaled alike on all axes.

    Args:
        matrix: [3, 3] linear map of the points, of that kind.
        boxes: [M, 7].

    Returns:
        [M, 7] float64; yaw in -π…π.
    """
    linear, (centres_m, sides_m, before_rad) = np.asarray(matrix, np.float64), _parts(boxes)
    scale = abs(np.linalg.det(linear)) ** (1 / 3)
    heading = np.stack([np.cos(before_rad), np.sin(before_rad), np.zeros(len(before_rad))], axis=1) @ linear.T
    yaw_rad = np.arctan2(heading[:, 1], heading[:, 0])
    return np.concatenate([centres_m @ linear.T, sides_m * scale, yaw_rad[:, None]], axis=1)


def enlarged(boxes: Float, extra_m: ArrayLike) -> NDArray[np.float64]:
    """Boxes with longer sides about the same centres.

    Args:
        boxes: [M, 7].
        extra_m: what each side gains in all, half of it at either end: one number or [3] for dx, dy, dz; metres.

    Returns:
        [M, 7] float64.
    """
    centres_m, sides_m, yaw_rad = _parts(boxes)
    return np.concatenate([centres_m, sides_m + np.asarray(extra_m, np.float64), yaw_rad[:, None]], axis=1)


def limit_period(values: Angles, offset: float, period: float) -> Angles:
    """Values moved by whole periods into [-offset · period, (1 − offset) · period).

    Args:
        values: an array or a tensor of any shape, radians for angles.
        offset: 0.5 for a range about 0, 0 for one that begins there.
        period: of the values, such as 2π for headings and π for axes.

    Returns:
        As the values. v − ⌊v / period + offset⌋ · period, as OpenPCDet rounds it.
    """
    return values - (values / period + offset) // 1 * period


def points_in_boxes(points_m: Float, boxes: Float) -> NDArray[np.bool_]:
    """Which points lie in which boxes.

    Args:
        points_m: [N, 3] points, metres.
        boxes: [M, 7] in the same frame.

    Returns:
        [M, N] bool; points on a face lie inside.
    """
    points, (centres_m, sides_m, yaw_rad) = np.asarray(points_m, np.float64), _parts(boxes)
    inside = np.zeros((len(yaw_rad), len(points)), np.bool_)
    cos, sin, reach_m = np.cos(yaw_rad), np.sin(yaw_rad), _reach(centres_m, sides_m)
    for row, near in enumerate(_near(points[:, :2], centres_m[:, :2], reach_m)):
        shifted = points[near] - centres_m[row]
        along = shifted[:, 0] * cos[row] + shifted[:, 1] * sin[row]
        across = shifted[:, 1] * cos[row] - shifted[:, 0] * sin[row]
        own_axes_m = np.abs(np.stack([along, across, shifted[:, 2]], axis=1))
        inside[row, near] = (own_axes_m <= sides_m[row] / 2).all(axis=1)
    return inside


def _reach(centres_m: Float, sides_m: Float) -> NDArray[np.float64]:
    """[M] how far from its centre a box may have points on the ground plane, and a little more for rounding."""
    radius_m = np.hypot(sides_m[:, 0], sides_m[:, 1]) / 2
    return np.asarray(radius_m + _MARGIN * (radius_m + np.abs(centres_m[:, :2]).max(axis=1)))


def _near(points_xy: Float, centres_xy: Float, reach_m: Float) -> Iterator[NDArray[np.intp]]:
    """Per centre, the rows of the points that are no farther than its reach along x and along y.

    A scan has many points, few of them near a box: those in its range of x are neighbours in sorted order.
    """
    order = np.argsort(points_xy[:, 0])
    x, y = points_xy[order].T.copy()
    starts = np.searchsorted(x, centres_xy[:, 0] - reach_m)
    ends = np.searchsorted(x, centres_xy[:, 0] + reach_m)
    for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
        yield order[start:end][np.abs(y[start:end] - centres_xy[row, 1]) <= reach_m[row]]


def _parts(boxes: Float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Centres [M, 3], sides [M, 3] and yaws [M] of boxes."""
    rows = np.asarray(boxes, np.float64).reshape(-1, 7)
    return rows[:, :3], rows[:, 3:6], rows[:, 6]
