"""Voxel clouds of real size for timing: ray-cast here from a seed, so that no data is needed, or read from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from olivine.data.voxelize import CartesianVoxels, CylindricalVoxels, voxelize

Points = NDArray[np.float32]
"""[N, 4] x, y, z in metres in the LiDAR frame (x forward, z up), and intensity."""

KITTI_CELLS = (41, 1600, 1408)
"""(z, y, x) cells of the grid that detectors use on KITTI, whose height gets one to spare."""
_KITTI_VOXELS = CartesianVoxels(size_m=(0.05, 0.05, 0.1), bounds_m=(0.0, -40.0, -3.0, 70.4, 40.0, 1.0))
_RANGE_M = 100.0


@dataclass(frozen=True)
class Scanner:
    """A LiDAR: which way its rays go, and how high it stands.

    Attributes:
        elevations_deg: (lowest, highest) beam.
        beams: number of beams.
        azimuths_deg: (first, last) direction of a turn; 0 is forward, positive to the left.
        columns: directions per turn.
        height_m: height above the ground.
    """

    elevations_deg: tuple[float, float]
    beams: int
    azimuths_deg: tuple[float, float]
    columns: int
    height_m: float

    def directions(self) -> NDArray[np.float64]:
        """[beams·columns, 3] unit vectors, column after column as the scanner turns."""
        azimuth = np.radians(np.linspace(*self.azimuths_deg, self.columns, endpoint=False))[:, None]
        elevation = np.radians(np.linspace(*self.elevations_deg, self.beams))[None]
        flat = np.cos(elevation)
        parts = (flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation) + 0 * azimuth)
        return np.stack(parts, axis=-1).reshape(-1, 3)


NUSCENES = Scanner((-30.67, 10.67), 32, (-180.0, 180.0), 980, 1.84)
"""The 32-beam scanner of nuScenes, with as many columns as give the voxels of a real sweep."""
KITTI = Scanner((-24.8, 2.0), 64, (-45.0, 45.0), 265, 1.73)
"""The 64-beam scanner of KITTI towards its camera, with as many columns as give the voxels of a real sweep."""

# Number of each kind of box, sizes (x, y, z) in metres, height of the lower face, distance from the middle of the road
# (least and most), and how deep rays enter: leaves let them through.
_KINDS = (
    (24, (4.4, 1.8, 1.5), 0.1, (3.0, 12.0), 0.0),  # cars
    (14, (22.0, 8.0, 9.0), 0.0, (18.0, 45.0), 0.02),  # houses
    (30, (0.3, 0.3, 6.0), 0.0, (6.0, 30.0), 0.0),  # poles
    (60, (5.0, 5.0, 6.0), 1.5, (8.0, 60.0), 1.5),  # trees
    (50, (3.0, 2.0, 1.2), 0.0, (6.0, 50.0), 0.8),  # bushes
)


def scan(scanner: Scanner, seed: int) -> Points:
    """One turn of a scanner in a street of boxes, leaves and uneven ground.

    Args:
        scanner: the LiDAR.
        seed: the scene.

    Returns:
        The points; rays that hit nothing within 100 m have none.
    """
    rng = np.random.default_rng((seed, 20))
    rays = scanner.directions()
    with np.errstate(divide="ignore"):
        ground = np.where(rays[:, 2] < 0, -scanner.height_m / rays[:, 2], np.inf)
    ground = np.minimum(ground, 10 * _RANGE_M)
    east, north = rays[:, 0] * ground, rays[:, 1] * ground
    ground *= 1 + 0.03 * np.sin(east / 4) * np.sin(north / 3)  # bumps move the point along the ray
    nearest, depth = _boxes(rays, scanner.height_m, rng)
    distance = np.where(nearest < ground, nearest + rng.exponential(1.0, len(rays)) * depth, ground)
    distance += rng.normal(0, 0.015, len(rays))
    intensity = rng.uniform(0, 255, len(rays)).round()
    points = np.c_[rays * distance[:, None], intensity]
    return np.asarray(points[(distance > 1) & (distance < _RANGE_M)], np.float32)


def _boxes(
    rays: NDArray[np.float64], height_m: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance along each ray to the first box, infinite where there is none, and how deep rays enter that box."""
    nearest, depth = np.full(len(rays), np.inf), np.zeros(len(rays))
    for count, size, lower, aside, leaves in _KINDS:
        for _ in range(count):
            half = np.array(size) / 2 * rng.uniform(0.6, 1.4, 3)
            along, across = rng.uniform(-_RANGE_M, _RANGE_M), rng.choice((-1, 1)) * (rng.uniform(*aside) + half[1])
            centre = np.array((along, across, lower + half[2] - height_m))
            with np.errstate(divide="ignore", invalid="ignore"):
                near, far = (centre - half) / rays, (centre + half) / rays
            entry, leave = np.minimum(near, far).max(axis=1), np.maximum(near, far).min(axis=1)
            hits = (entry <= leave) & (entry > 0) & (entry < nearest)
            nearest[hits], depth[hits] = entry[hits], leaves
    return nearest, depth


def read_points(file: Path, columns: int) -> Points:
    """The points of a raw scan: float32 rows of which the first four are x, y, z and intensity."""
    return np.asarray(np.fromfile(file, np.float32).reshape(-1, columns)[:, :4])


def turned(points: Points, degrees: float) -> Points:
    """Points turned about the vertical axis, to make a second sweep of one."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.array(((cos, -sin), (sin, cos)), np.float32)
    return np.concatenate((points[:, :2] @ matrix.T, points[:, 2:]), axis=1)


@dataclass(frozen=True)
class Cloud:
    """Voxels as a network takes them.

    Attributes:
        features: [N, C] float32.
        coordinates: int32 [N, 4] batch index and three cells.
    """

    features: Tensor
    coordinates: Tensor


def cylindrical(sweeps: Sequence[Points]) -> Cloud:
    """A batch of sweeps on the grid that MinkUNet is pretrained with: (batch, ρ, φ, z); intensity / 255 per voxel."""
    features, coordinates = [], []
    for index, points in enumerate(sweeps):
        voxels = voxelize(points[:, :3], CylindricalVoxels())
        features.append(points[voxels.first_point, 3:] / 255)
        coordinates.append(np.insert(voxels.coordinates, 0, index, axis=1))
    return Cloud(torch.from_numpy(np.concatenate(features)), torch.from_numpy(np.concatenate(coordinates)))


def kitti_grid(points: Points) -> Cloud:
    """One sweep on the grid of `KITTI_CELLS`: (batch, z, y, x); x, y, z and intensity of one point per voxel."""
    voxels = voxelize(points[:, :3], _KITTI_VOXELS)
    rows = np.insert(voxels.coordinates[:, ::-1], 0, 0, axis=1)
    return Cloud(torch.from_numpy(points[voxels.first_point]), torch.from_numpy(rows))
