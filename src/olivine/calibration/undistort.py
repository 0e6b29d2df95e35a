"""A sweep as if all its points had been taken at one moment, from their times and the vehicle's poses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from olivine.calibration.poses import Trajectory, rotation_vectors
from olivine.geometry import Float, invert


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
    world_from_lidar.require(times_ns)
    result = np.array(points_m, np.float32)
    knots = world_from_lidar.times_ns
    if len(knots) == 1 or len(result) == 0:
        return result  # one pose holds for all of its short reach
    segment = np.clip(np.searchsorted(knots, times_ns, side="right") - 1, 0, len(knots) - 2)
    order = np.argsort(segment, kind="stable") if (np.diff(segment) < 0).any() else slice(None)
    segment = segment[order]
    bounds = np.flatnonzero(np.diff(segment)) + 1
    moved = np.empty_like(result)
    points, times = result[order], times_ns[order]
    for start, stop in zip([0, *bounds], [*bounds, len(points)], strict=True):
        first = int(segment[start])
        share = (times[start:stop] - knots[first]) / float(knots[first + 1] - knots[first])
        ends = moment_from_world @ world_from_lidar.poses[first : first + 2]
        moved[start:stop] = _moved(points[start:stop], share, ends)
    result[order] = moved
    return result


def _moved(points: NDArray[np.float32], share: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float32]:
    """Points carried by the pose a share of the way between two, [2, 4, 4]: Rodrigues' formula, a row each.

    p' = R₀ (p + sin φ A p + (1 − cos φ) A² p) + t₀ + share · (t₁ − t₀), with φ the share of the angle between the ends
    and A the cross product with its axis.
    """
    turn = rotation_vectors((ends[0, :3, :3].T @ ends[1, :3, :3])[None])[0]
    angle = float(np.linalg.norm(turn))
    x, y, z = turn / angle if angle > 0 else turn
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    start = ends[0, :3, :3]
    phase = (share * angle).astype(np.float32)
    sine, versine = np.sin(phase), 2 * np.sin(phase / 2) ** 2
    moved = points @ start.T.astype(np.float32)
    moved += sine[:, None] * (points @ (start @ cross).T.astype(np.float32))
    moved += versine[:, None] * (points @ (start @ cross @ cross).T.astype(np.float32))
    moved += share.astype(np.float32)[:, None] * (ends[1, :3, 3] - ends[0, :3, 3]).astype(np.float32)
    return np.asarray(moved + ends[0, :3, 3].astype(np.float32), np.float32)
