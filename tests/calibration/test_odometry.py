"""Poses from scans alone: they follow a simulated drive, and the same scans give the same bits."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from olivine.calibration import estimate_trajectory, undistort
from olivine.errors import MissingExtraError, UserError
from olivine.geometry import invert, rigid_transform
from olivine.scans import Scan

SWEEP_S = 0.1
START_NS = 1_700_000_000_000_000_000


def pose_at(seconds):
    """A curve at 8 m/s; the first second stands still."""
    moved = max(seconds - 0.3, 0.0)
    half = 0.05 * moved
    return rigid_transform([np.cos(half), 0, 0, np.sin(half)], (8 * moved, 0.4 * moved**2, 0))


@pytest.fixture(scope="module")
def world():
    """Points on the ground and on the walls of houses."""
    rng = np.random.default_rng(0)
    ground = rng.uniform([-20, -30, -1.8], [60, 30, -1.8], (6000, 3))
    walls = []
    for _ in range(40):
        middle, size = rng.uniform([-20, -30], [60, 30]), rng.uniform(2, 8, 2)
        if abs(middle[1]) > 6:
            along, side = rng.uniform(-0.5, 0.5, 300), rng.integers(0, 4, 300)
            x = np.where(side < 2, along, np.where(side == 2, -0.5, 0.5)) * size[0] + middle[0]
            y = np.where(side < 2, np.where(side == 0, -0.5, 0.5), along) * size[1] + middle[1]
            walls.append(np.column_stack((x, y, rng.uniform(-1.8, 4, 300))))
    return np.concatenate([ground, *walls])


def sweep(world, start_s, *, timed=True):
    """What a LiDAR takes of the world within a sweep, each point from where it is just then."""
    rng = np.random.default_rng(round(start_s * 1000))
    points = world[rng.permutation(len(world))[:5000]]
    offsets = np.sort(rng.uniform(0, SWEEP_S, len(points)))
    bins = np.linspace(0, SWEEP_S, 41)
    seen = np.empty_like(points)
    for low, high in itertools.pairwise(bins):
        rows = (offsets >= low) & (offsets < high)
        back = invert(pose_at(start_s + (low + high) / 2))
        seen[rows] = points[rows] @ back[:3, :3].T + back[:3, 3]
    seen[0] = np.nan  # no return
    stamp = START_NS + round(start_s * 1e9)
    return Scan(seen.astype(np.float32), offsets_s=offsets if timed else None, source="lidar", stamp_ns=stamp)


@pytest.fixture(scope="module")
def sweeps(world):
    return [sweep(world, step * SWEEP_S) for step in range(16)]


@pytest.fixture(scope="module")
def path(sweeps):
    return estimate_trajectory(sweeps)


def test_a_drive_is_followed_and_repeated_to_the_bit(sweeps, path):
    assert path.origin == "kiss-icp"
    seconds = (path.times_ns - START_NS) / 1e9
    true = np.array([pose_at(second) for second in seconds])
    away = np.linalg.norm(path.poses[:, :3, 3] - true[:, :3, 3], axis=1)
    assert away[:3].max() < 0.05
    assert away[8:].max() < 0.1  # of 10 m; right after the jerk from 0 to 8 m/s it is further off
    turned = np.arccos(np.clip((np.trace(path.poses[-1, :3, :3].T @ true[-1, :3, :3]) - 1) / 2, -1, 1))
    assert np.degrees(turned) < 0.5
    again = estimate_trajectory(iter(sweeps))
    assert again.poses.tobytes() == path.poses.tobytes()
    np.testing.assert_array_equal(again.times_ns, path.times_ns)


def test_the_poses_set_the_sweeps_straight_that_they_come_from(world, sweeps, path):
    scan = sweeps[12].without_gaps()
    times = scan.stamp_ns + np.round(scan.offsets_s * 1e9).astype(np.int64)
    moment = scan.stamp_ns
    back = invert(pose_at(1.2))
    ground = scan.points_m[:, 2] < -1.79
    straight = undistort(scan.points_m, times, moment, path)
    true = world @ back[:3, :3].T + back[:3, 3]

    def miss(points):
        nearest = [np.linalg.norm(true - point, axis=1).min() for point in points[~ground][::60]]
        return np.median(nearest)

    assert miss(straight) < 0.5 * miss(scan.points_m)


def test_scans_without_times_have_the_pose_of_their_stamp(world):
    path = estimate_trajectory([sweep(world, step * SWEEP_S, timed=False) for step in range(3)])
    np.testing.assert_array_equal(path.times_ns - START_NS, [0, 100_000_000, 200_000_000])


def test_settings_are_ours_and_not_of_the_environment(sweeps, path, monkeypatch):
    monkeypatch.setenv("kiss_icp_data", '{"max_range": 5, "deskew": false}')
    assert estimate_trajectory(sweeps[:6]).poses.tobytes() == path.poses[:6].tobytes()


def test_scans_that_give_no_poses_are_refused(sweeps, monkeypatch):
    with pytest.raises(UserError, match="must rise"):
        estimate_trajectory([sweeps[1], sweeps[0]])
    with pytest.raises(UserError, match="without a return"):
        estimate_trajectory([Scan(np.zeros((5, 3), np.float32), source="lidar", stamp_ns=1)])
    with pytest.raises(UserError, match="without a stamp"):
        estimate_trajectory([Scan(np.ones((5, 3), np.float32), source="lidar")])
    with pytest.raises(UserError, match="0 poses"):
        estimate_trajectory([])
    monkeypatch.setitem(sys.modules, "kiss_icp.kiss_icp", None)
    with pytest.raises(MissingExtraError, match=r"olivine\[logs\]"):
        estimate_trajectory(sweeps)
