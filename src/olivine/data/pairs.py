"""Pairs that join points to pixels: which pixel each point of a frame falls on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat

from olivine.config import Config
from olivine.data.frame import Camera, Frame
from olivine.data.masks import UNKNOWN
from olivine.data.occlusion import visible
from olivine.errors import UserError
from olivine.geometry import project, transform_points


class PairConfig(Config):
    """Which points count as seen by a camera."""

    min_depth_m: float = Field(default=1.0, gt=0)
    """Pairs must be deeper than this, metres."""

    border_px: NonNegativeFloat | tuple[NonNegativeFloat, NonNegativeFloat] = 1.0
    """Pairs must lie strictly inside the image by this, pixels: 1 < u < width − 1, the rule of the nuScenes devkit. Two
    numbers are for the left and upper border and for the right and lower one; [0, 1] is the published rule,
    0 < u < width − 1."""

    occlusion_m: float | None = Field(default=None, ge=0)
    """Drop points that others surround in the image which are nearer by this much, metres; null keeps all, as
    published."""

    drop_unseen: bool = False
    """Remove the points that no camera sees from the cloud. Off in the published recipe; where one camera looks ahead
    (SemanticKITTI) it leaves a fifth of the cloud, and pretraining is that much faster."""


@dataclass(frozen=True)
class Pairs:
    """Which pixel each point falls on, over all cameras of a frame. P pairs, ordered by camera, then by point.

    Attributes:
        point: [P] int64 row of the point in the cloud.
        camera: [P] int64 index of the camera in `Frame.cameras`.
        uv: [P, 2] float32 pixel (column, row), pixel centres at integers.
        label: [P] uint8 weak label at the nearest pixel, 255 unknown (all 255 where there are no masks).
    """

    point: NDArray[np.int64]
    camera: NDArray[np.int64]
    uv: NDArray[np.float32]
    label: NDArray[np.uint8] = field(repr=False)

    def __len__(self) -> int:
        return len(self.point)

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Pairs:
        """The pairs that a boolean mask [P] or an index array keeps, in order."""
        return Pairs(self.point[keep], self.camera[keep], self.uv[keep], self.label[keep])

    def per_camera(self, cameras: int) -> NDArray[np.int64]:
        """[cameras] number of pairs in each camera."""
        return np.bincount(self.camera, minlength=cameras)

    @staticmethod
    def concatenate(parts: Sequence[Pairs]) -> Pairs:
        """All pairs of `parts`, in order; an empty sequence gives no pairs."""
        if not parts:
            empty = np.zeros(0, np.int64)
            return Pairs(empty, empty, np.zeros((0, 2), np.float32), np.zeros(0, np.uint8))
        return Pairs(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("point", "camera", "uv", "label"))
        )


def find_pairs(
    frame: Frame,
    *,
    labels: bool = True,
    min_depth_m: float = 1.0,
    border_px: float | tuple[float, float] = 1.0,
    occlusion_m: float | None = None,
) -> Pairs:
    """Project the cloud into every camera and keep the points that land inside.

    Args:
        frame: the frame.
        labels: read the masks and look up each pair's weak label; otherwise every label is 255.
        min_depth_m: pairs must be deeper than this.
        border_px: pairs must lie strictly inside the image by this much on every side: `border < u < width - border`;
            two numbers are for the left and upper border and for the right and lower one.
        occlusion_m: where given, drop points that nearer ones surround in the image, nearer by this much (see
            `olivine.data.occlusion`); None keeps all, as in the published recipe.

    Returns:
        The pairs of all cameras.

    Raises:
        UserError: a mask is missing, unreadable or of the wrong size, or holds a value that its manifest does not name
            where a point falls.
    """
    near_px, far_px = border_px if isinstance(border_px, tuple) else (border_px, border_px)
    parts = []
    for index, camera in enumerate(frame.cameras):
        points_camera_m = transform_points(camera.camera_from_lidar, frame.points_lidar_m)
        uv, depth_m = project(points_camera_m, camera.intrinsics)
        width, height = camera.size
        with np.errstate(invalid="ignore"):
            # Column by column: reducing along so short an axis costs ten times as much.
            u, v = uv.T
            inside = (depth_m > min_depth_m) & (u > near_px) & (v > near_px)
            inside &= (u < width - far_px) & (v < height - far_px)
        point = np.flatnonzero(inside)
        if occlusion_m is not None:
            point = point[visible(uv[point], depth_m[point], occlusion_m)]
        label = _labels_at(camera, uv[point]) if labels else np.full(len(point), UNKNOWN, np.uint8)
        parts.append(Pairs(point, np.full(len(point), index, np.int64), uv[point].astype(np.float32), label))
    return Pairs.concatenate(parts)


def _labels_at(camera: Camera, uv: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Weak label of the pixel nearest to each [P, 2] position, unknown where there are no masks."""
    mask = camera.mask()
    if mask is None:
        return np.full(len(uv), UNKNOWN, np.uint8)
    column, row = np.rint(uv).astype(np.int64).T
    found: NDArray[np.uint8] = mask[np.minimum(row, mask.shape[0] - 1), np.minimum(column, mask.shape[1] - 1)]
    strange = found[(found >= camera.mask_classes) & (found != UNKNOWN)]
    if len(strange):
        raise UserError(
            f"{camera.mask_path}: holds the value {strange[0]}, but its manifest names {camera.mask_classes} classes "
            f"(0…{camera.mask_classes - 1}; {UNKNOWN} is unknown)"
        )
    return found
