"""From points to voxels: the grids, and which point speaks for a voxel.

Coordinates are floored in float32 and cast to int32; of several points in a voxel the first (lowest row) speaks for it,
or their mean. Voxels stand in the order of their first point. Both follow the quantisation that published checkpoints
were trained with (MinkowskiEngine's `sparse_quantize`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from olivine.config import Config
from olivine.data.frame import Frame
from olivine.data.intensity import check_intensity
from olivine.errors import UserError

Feature = Literal["intensity", "x", "y", "z", "range"]

_REACH = 2**20  # voxels to each side of the origin that a key of 3 × 21 bits can hold


class _Features(Config):
    """What a voxel shows the network of its points."""

    features: tuple[Feature, ...] = Field(default=("intensity",), min_length=1)
    """Input features in order: intensity, x, y, z (metres) and range √(x² + y²) (metres), after augmentation. The
    published MinkUNet sees intensity alone, VoxelNet x, y, z and intensity."""

    intensity: Literal["unit", "raw"] = "unit"
    """`unit` divides by the format's range, so that data sets agree; `raw` is the files' own number, as published
    checkpoints expect."""

    reduce: Literal["first", "mean"] = "first"
    """Which value of a feature a voxel has: that of its `first` point, as MinkUNet's published voxels, or the `mean` of
    its points, as VoxelNet's."""

    max_points: PositiveInt | None = None
    """With `reduce: mean`, the mean is over at most so many points of a voxel, the first ones; null takes all. For
    VoxelNet 10 are published."""

    max_voxels: PositiveInt | None = None
    """Points beyond the first so many voxels belong to none; null keeps all. For VoxelNet 60 000 are published."""

    @property
    def channels(self) -> int:
        """Number of input features."""
        return len(self.features)


class CylindricalVoxels(_Features):
    """Cylindrical grid (ρ, φ, z) about the LiDAR, as MinkUNet is pretrained with."""

    name: Literal["cylindrical"] = "cylindrical"

    rho_m: float = Field(default=0.1, gt=0)
    """Radial size, metres."""

    phi_deg: float = Field(default=1.0, gt=0)
    """Angular size, degrees. Angles run from -180 to 180 and do not wrap, as in the published code."""

    z_m: float = Field(default=0.1, gt=0)
    """Vertical size, metres."""

    def grid(self, points_m: NDArray[np.float32]) -> NDArray[np.float32]:
        """[N, 3] float32 continuous grid coordinates (ρ, φ, z) of points [N, 3] in the LiDAR frame."""
        x, y, z = points_m.T
        rho = np.sqrt(x * x + y * y) / np.float32(self.rho_m)
        phi = np.arctan2(y, x) * np.float32(180 / np.pi) / np.float32(self.phi_deg)
        return np.stack((rho, phi, z / np.float32(self.z_m)), axis=1)

    def inside(self, points_m: NDArray[np.float32]) -> NDArray[np.bool_]:
        """[N] bool, all true: this grid has no bounds."""
        return np.ones(len(points_m), np.bool_)

    def reaches(self, points_m: NDArray[np.float32]) -> NDArray[np.bool_]:
        """[N] bool, all true likewise."""
        return np.ones(len(points_m), np.bool_)


class CartesianVoxels(_Features):
    """Cartesian grid, as VoxelNet and most segmentation networks use."""

    name: Literal["cartesian"] = "cartesian"

    size_m: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.1, 0.1, 0.1)
    """Voxel size along x, y, z, metres."""

    bounds_m: tuple[float, float, float, float, float, float] | None = None
    """x_min, y_min, z_min, x_max, y_max, z_max, metres; points outside belong to no voxel. Spans are rounded to whole
    cells. None: unbounded."""

    radius_m: PositiveFloat | None = None
    """Points farther than this from the z axis belong to no voxel, and are no part of a cloud that images teach, like
    those above and below the bounds. Unlike the corners of a square, a circle holds the same points however a cloud is
    turned. For VoxelNet 51.2 m are published; null sets no radius."""

    @field_validator("bounds_m")
    @classmethod
    def _ascending(cls, bounds: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if bounds is not None and not all(low < high for low, high in zip(bounds[:3], bounds[3:], strict=True)):
            raise ValueError("x_min, y_min, z_min must each be below x_max, y_max, z_max")
        return bounds

    def grid(self, points_m: NDArray[np.float32]) -> NDArray[np.float32]:
        """[N, 3] float32 continuous grid coordinates of points [N, 3], from the lower bounds where there are any."""
        origin = np.array(self.bounds_m[:3] if self.bounds_m else (0, 0, 0), np.float32)
        return np.asarray((points_m - origin) / np.array(self.size_m, np.float32), np.float32)

    @property
    def cells(self) -> tuple[int, int, int]:
        """Number of cells along x, y, z.

        Raises:
            UserError: the grid has no bounds.
        """
        if self.bounds_m is None:
            raise UserError("voxels.bounds_m is not set, and a network on a grid needs its size")
        spans = (high - low for low, high in zip(self.bounds_m[:3], self.bounds_m[3:], strict=True))
        x, y, z = (max(1, round(span / size)) for span, size in zip(spans, self.size_m, strict=True))
        return x, y, z

    def inside(self, points_m: NDArray[np.float32]) -> NDArray[np.bool_]:
        """[N] bool: which points lie in a cell of the grid, lower bounds included, upper ones not, and in the radius.

        The cell decides, as in the published code: just below an upper bound rounding may give the first cell beyond.
        """
        near = self._near(points_m)
        if self.bounds_m is None:
            return near
        with np.errstate(over="ignore", invalid="ignore"):
            x, y, z = self.grid(points_m).T
        wide, long, high = self.cells
        return np.asarray(near & (x >= 0) & (x < wide) & (y >= 0) & (y < long) & (z >= 0) & (z < high))

    def reaches(self, points_m: NDArray[np.float32]) -> NDArray[np.bool_]:
        """[N] bool: with a radius, which points lie within it and between the lower and the upper bound; else all."""
        if self.radius_m is None or self.bounds_m is None:
            return self._near(points_m)
        z = points_m[:, 2]
        return np.asarray(self._near(points_m) & (z >= self.bounds_m[2]) & (z <= self.bounds_m[5]))

    def _near(self, points_m: NDArray[np.float32]) -> NDArray[np.bool_]:
        if self.radius_m is None:
            return np.ones(len(points_m), np.bool_)
        return np.asarray(np.hypot(points_m[:, 0], points_m[:, 1]) <= np.float32(self.radius_m))


VoxelConfig = Annotated[CylindricalVoxels | CartesianVoxels, Field(discriminator="name")]


@dataclass(frozen=True)
class Voxels:
    """A voxelised cloud of N points and V voxels.

    Attributes:
        coordinates: [V, 3] int32 distinct grid cells, in the order of their first point.
        first_point: [V] int64 the point that speaks for each voxel.
        point_voxel: [N] int64 the voxel of each point, -1 outside the grid's bounds.
    """

    coordinates: NDArray[np.int32]
    first_point: NDArray[np.int64]
    point_voxel: NDArray[np.int64]


def voxelize(points_m: NDArray[np.float32], config: CylindricalVoxels | CartesianVoxels) -> Voxels:
    """Put points into voxels.

    Args:
        points_m: [N, 3] float32 points in the LiDAR frame, metres, finite.
        config: the grid.

    Returns:
        The voxels; none for an empty cloud.

    Raises:
        UserError: a point lies a million voxels or more from the origin.
    """
    inside = np.flatnonzero(config.inside(points_m))
    with np.errstate(over="ignore"):  # what overflows is refused below
        grid = np.floor(config.grid(points_m[inside]))
    far = ~(np.abs(grid) < _REACH).all(axis=1)
    if far.any():
        raise UserError(
            f"{int(far.sum())} of {len(points_m)} points lie {_REACH} voxels or more from the LiDAR; "
            "remove them from the scan, or use larger voxels"
        )
    cells = grid.astype(np.int32)
    point_voxel = np.full(len(points_m), -1, np.int64)
    if len(inside) == 0:
        return Voxels(cells, inside, point_voxel)
    _, first, inverse = np.unique(_pack(cells), return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    first = first[order][: config.max_voxels]
    point_voxel[inside] = np.where(rank < len(first), rank, -1)[inverse]
    return Voxels(cells[first], inside[first], point_voxel)


def _pack(cells: NDArray[np.int32]) -> NDArray[np.int64]:
    """One int64 key per cell, distinct within `_REACH` of the origin."""
    offset = cells.astype(np.int64) - cells.min(axis=0)
    return np.asarray((offset[:, 0] << 42) | (offset[:, 1] << 21) | offset[:, 2])


def voxel_features(
    frame: Frame, points_m: NDArray[np.float32], voxels: Voxels, config: CylindricalVoxels | CartesianVoxels
) -> NDArray[np.float32]:
    """Input features of each voxel.

    Args:
        frame: the frame, for its intensities.
        points_m: [N, 3] float32 the cloud as augmented, metres.
        voxels: its voxels.
        config: names the features and how intensity is scaled.

    Returns:
        [V, channels] float32.

    Raises:
        UserError: where intensities are a feature, there are none, or one lies outside the range of the data.
    """
    columns = {"x": points_m[:, 0], "y": points_m[:, 1], "z": points_m[:, 2]}
    if "range" in config.features:
        columns["range"] = np.hypot(points_m[:, 0], points_m[:, 1])
    if "intensity" in config.features:
        columns["intensity"] = input_intensity(frame, config)
    shown = voxels.first_point if config.reduce == "first" else slice(None)
    rows = np.stack([columns[name][shown] for name in config.features], axis=1).astype(np.float32)
    return rows if config.reduce == "first" else _means(rows, voxels, config.max_points)


def _means(rows: NDArray[np.float32], voxels: Voxels, max_points: int | None) -> NDArray[np.float32]:
    """[V, C] means over the points of each voxel, of [N, C] features; over the first `max_points` where given."""
    order = np.argsort(voxels.point_voxel, kind="stable")
    order = order[np.searchsorted(voxels.point_voxel[order], 0) :]
    voxel = voxels.point_voxel[order]
    place = np.arange(len(order)) - np.searchsorted(voxel, voxel)  # of each point among those of its voxel
    taken = np.ones(len(order), np.bool_) if max_points is None else place < max_points
    order, voxel = order[taken], voxel[taken]
    count = np.bincount(voxel, minlength=len(voxels.coordinates))
    sums = [np.bincount(voxel, column, len(count)) for column in rows[order].T.astype(np.float64)]
    return (np.stack(sums, axis=1) / count[:, None]).astype(np.float32)


def input_intensity(frame: Frame, config: CylindricalVoxels | CartesianVoxels) -> NDArray[np.float32]:
    """[N] float32 intensities as networks see them.

    Args:
        frame: the frame.
        config: says how they are scaled.

    Raises:
        UserError: there are none, or one lies outside the range of the data.
    """
    return check_intensity(frame) if config.intensity == "raw" else normalized_intensity(frame)


def normalized_intensity(frame: Frame) -> NDArray[np.float32]:
    """[N] float32 intensity in 0…1, whatever the data's own range; the one place where it is scaled.

    Raises:
        UserError: there are none, or one lies outside the range of the data.
    """
    return np.asarray(check_intensity(frame) / np.float32(frame.intensity_max))
