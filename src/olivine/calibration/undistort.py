"""A sweep as if all its points had been taken at one moment, from their times and the vehicle's poses."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from olivine.calibration.poses import Trajectory, rotation_vectors
from olivine.geometry import Float, invert

_CHUNK = 8192
"""Rows at a time: what is in between stays in the cache."""


def undistort(
    points_m: Float,
    times_ns: NDArray[np.int64],
    moment_ns: int,
    world_from_lidar: Trajectory,
) -> NDArray[np.float32]:
    """Carry every point from where the LiDAR stood when it was taken to where it stood at one moment.

    Between two poses the LiDAR is taken to move straight and to turn about one axis at a constant rate; each point has
    its own time on that way, none are binned.

    Args:
        points_m: [N, 3] points, each in the LiDAR's frame of its own time, metres.
        times_ns: [N] int64 time of each point, on the clock of the poses.
        moment_ns: the moment wanted, usually the stamp of the scan.
        world_from_lidar: the poses of the LiDAR itself (`Trajectory.of` makes them of the vehicle's).

    Returns:
        [N, 3] float32 in the LiDAR's frame at `moment_ns`, in the same order.

    Raises:
        UserError: a time or the moment has no pose: a gap, or the poses begin too late or end too early.
    """
    moment_from_world = invert(world_from_lidar.at(moment_ns))
    knots = world_from_lidar.times_ns
    if len(times_ns) == 0:
        return np.array(points_m, np.float32).reshape(-1, 3)
    order = np.argsort(times_ns, kind="stable") if (times_ns[1:] < times_ns[:-1]).any() else slice(None)
    times, points = times_ns[order], np.asarray(points_m, np.float32)[order]
    # Where the points of one segment between two poses end; those before the first and after the last share its motion.
    bounds = [0, *np.searchsorted(times, knots[1:-1]).tolist(), len(times)]
    moved = np.empty_like(points)
    used = [(first, start, stop) for first, (start, stop) in enumerate(itertools.pairwise(bounds)) if start < stop]
    world_from_lidar.require(np.array([times[[start, stop - 1]] for _, start, stop in used]).ravel())
    if len(knots) == 1:
        return np.array(points_m, np.float32)  # one pose holds for all of its short reach
    starts, stops = (world_from_lidar.poses[[first + late for first, _, _ in used]] for late in (0, 1))
    turns = rotation_vectors(np.swapaxes(starts[:, :3, :3], 1, 2) @ stops[:, :3, :3])
    for (first, start, stop), turn in zip(used, turns, strict=True):
        rows, ends = slice(start, stop), moment_from_world @ world_from_lidar.poses[first : first + 2]
        share = ((times[rows] - knots[first]) / float(knots[first + 1] - knots[first])).astype(np.float32)
        _move(points[rows], share, ends, turn, moved[rows])
    result = np.empty_like(moved)
    result[order] = moved
    return result


def _move(
    points: NDArray[np.float32],
    share: NDArray[np.float32],
    ends: NDArray[np.float64],
    turn: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    """Carry points by the poses on the way between two, [2, 4, 4], which differ by a turn [3]: Rodrigues, row by row.

    p' = R₀ (p + sin φ A p + (1 − cos φ) A² p) + t₀ + share · (t₁ − t₀), with φ the share of the angle of the turn and A
    the cross product with its axis.
    """
    angle = float(np.linalg.norm(turn))
    x, y, z = turn / angle if angle > 0 else turn
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    start = ends[0, :3, :3]
    still, sideways, back = (matrix.T.astype(np.float32) for matrix in (start, start @ cross, start @ cross @ cross))
    place, way = ends[0, :3, 3].astype(np.float32), (ends[1, :3, 3] - ends[0, :3, 3]).astype(np.float32)
    for first in range(0, len(points), _CHUNK):
        rows = slice(first, first + _CHUNK)
        part = share[rows, None]
        phase = part * np.float32(angle)
        moved = points[rows] @ still
        moved += np.sin(phase) * (points[rows] @ sideways)
        moved += 2 * np.sin(phase / 2) ** 2 * (points[rows] @ back)
        moved += part * way
        np.add(moved, place, out=out[rows])
