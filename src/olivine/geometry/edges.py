"""The edges of boxes before a camera: what is drawn on an image, and the image box that they span.

Edges are cut off where they pass behind the camera, so that of a box that the camera stands in or beside the part that
can be seen is left.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from olivine.geometry.boxes import corners
from olivine.geometry.transforms import Float, project, transform_points

NEAR_M = 0.1
"""Edges are cut off this far before the camera."""

EDGES = np.array([(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7)])
"""[12, 2] the corners, in the order of `olivine.geometry.boxes.corners`, that each edge joins."""


def visible_edges(corners_m: Float, near_m: float = NEAR_M) -> NDArray[np.float64]:
    """The edges of boxes as far as they lie before a camera.

    Args:
        corners_m: [M, 8, 3] corners in a camera frame (z forward), metres.
        near_m: depth at which edges are cut off, metres.

    Returns:
        [M, 12, 2, 3] float64 both ends of each edge; NaN where all of it lies behind.
    """
    return visible_lines(np.asarray(corners_m, np.float64)[:, EDGES], near_m)


def visible_lines(ends_m: Float, near_m: float = NEAR_M) -> NDArray[np.float64]:
    """Lines as far as they lie before a camera.

    Args:
        ends_m: [..., 2, 3] both ends of each in a camera frame (z forward), metres.
        near_m: depth at which they are cut off, metres.

    Returns:
        [..., 2, 3] float64; NaN where all of a line lies behind.
    """
    whole_m: NDArray[np.float64] = np.asarray(ends_m, np.float64)
    depth_m: NDArray[np.float64] = whole_m[..., 2]
    behind: NDArray[np.bool_] = np.asarray(depth_m < near_m)
    other_m, other_depth_m = whole_m[..., ::-1, :], depth_m[..., ::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (near_m - depth_m) / (other_depth_m - depth_m)
        cut_m = whole_m + share[..., None] * (other_m - whole_m)
    cut_m[..., 2] = near_m
    shown_m = np.where(behind[..., None], cut_m, whole_m)
    return np.where(np.all(behind, axis=-1, keepdims=True)[..., None], np.nan, shown_m)


def camera_edges(boxes: Float, camera_from_lidar: Float, intrinsics: Float) -> NDArray[np.float64]:
    """The edges of boxes on a camera's image.

    Args:
        boxes: [M, 7] boxes in the LiDAR frame, metres and radians.
        camera_from_lidar: [4, 4] transform.
        intrinsics: [3, 3] camera matrix, pixels.

    Returns:
        [M, 12, 2, 2] float64 pixels (column, row) of both ends of each edge, also far outside the image; NaN where
        the edge lies behind the camera.
    """
    corners_m = corners(boxes)
    seen_m = transform_points(camera_from_lidar, corners_m.reshape(-1, 3)).reshape(corners_m.shape)
    uv, _ = project(visible_edges(seen_m).reshape(-1, 3), intrinsics)
    return uv.reshape(-1, len(EDGES), 2, 2)


def image_boxes(edges_px: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """What boxes span in an image.

    Args:
        edges_px: [M, 12, 2, 2] pixels of their edges, NaN where these cannot be seen.
        size: (width, height) of the image, pixels.

    Returns:
        [M, 4] float64 left, top, right, bottom, cut to 0…width − 1 and 0…height − 1; zeros where nothing lies before
        the camera.
    """
    ends_px = edges_px.reshape(len(edges_px), 2 * len(EDGES), 2)
    shown = np.isfinite(ends_px).all(axis=-1, keepdims=True)
    low, high = np.where(shown, ends_px, np.inf).min(axis=1), np.where(shown, ends_px, -np.inf).max(axis=1)
    found = np.clip(np.concatenate((low, high), axis=1), 0, [size[0] - 1, size[1] - 1] * 2)
    return np.asarray(np.where(np.any(shown, axis=1), found, 0.0))
