"""Poses over time and sweeps set straight, against motion that is known in closed form and a point-by-point oracle."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from olivine.calibration import trajectory, undistort
from olivine.errors import UserError
from olivine.geometry import invert, rigid_transform

MS = 1_000_000


def screw(seconds):
    """A vehicle on a curve that also rolls: a pose at any time, at constant rates."""
    rotation = Rotation.from_rotvec(np.outer(np.atleast_1d(seconds), [0.1, -0.05, 0.8])).as_matrix()
    poses = np.tile(np.eye(4), (len(rotation), 1, 1))
    poses[:, :3, :3] = rotation
    poses[:, :3, 3] = np.outer(np.atleast_1d(seconds), [12.0, 1.0, -0.2])
    return poses


def drive(step_ms=50, steps=41, **limits):
    times = np.arange(steps) * step_ms * MS
    return trajectory(times, screw(times / 1e9), "odometry", **limits)


def test_poses_in_between_are_those_of_a_constant_motion():
    times = np.random.default_rng(0).integers(0, 2000 * MS, 50)
    np.testing.assert_allclose(drive().at(times), screw(times / 1e9), atol=1e-9)
    np.testing.assert_allclose(drive().at(75 * MS), screw(0.075)[0], atol=1e-9)
    np.testing.assert_allclose(drive().at(-40 * MS), screw(-0.04)[0], atol=1e-9)  # within reach of the first
    np.testing.assert_allclose(drive().at(2030 * MS), screw(2.03)[0], atol=1e-9)


def test_gaps_and_times_out_of_reach_have_no_pose():
    whole = drive()
    kept = np.r_[0:10, 30:41]  # from 450 ms to 1500 ms there is nothing
    broken = trajectory(whole.times_ns[kept], whole.poses[kept], "odometry")
    times = np.array([-101, -100, 0, 449, 450, 451, 1499, 1500, 2000, 2100, 2101]) * MS
    np.testing.assert_array_equal(broken.covers(times), [0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0])
    with pytest.raises(UserError, match=r"gap of 1\.050 s between poses, and at most 0\.5 s are bridged"):
        broken.at(1000 * MS)
    with pytest.raises(
        UserError, match=r"no pose from odometry at 5\.000 s.*from 0\.000 to 2\.000 s, and 0\.1 s beyond"
    ):
        broken.at([0, 5000 * MS])
    wide = trajectory(broken.times_ns, broken.poses, "odometry", max_gap_ns=2000 * MS)
    assert wide.covers(1000 * MS)


def test_a_last_pose_after_a_gap_is_not_extrapolated_by_the_motion_across_it():
    alone = trajectory([0, 100 * MS, 5000 * MS], screw([0, 0.1, 5]), "odometry")
    np.testing.assert_array_equal(alone.covers([100 * MS, 5000 * MS, 5050 * MS]), [True, True, False])


def test_one_pose_holds_for_its_reach():
    still = trajectory([7 * MS], screw(1), "odometry")
    np.testing.assert_allclose(still.at([0, 50 * MS]), np.repeat(screw(1), 2, axis=0))
    assert not still.covers(200 * MS)


def test_another_frame_of_the_body_moves_with_it():
    mount = rigid_transform([0.9, 0.1, 0.2, 0.3], (1.0, -2, 0.5))
    np.testing.assert_allclose(drive().of(mount).at(333 * MS), screw(0.333)[0] @ mount, atol=1e-3)
    np.testing.assert_allclose(drive().of(mount).at(350 * MS), screw(0.35)[0] @ mount, atol=1e-9)


@pytest.mark.parametrize(
    ("times", "poses", "said"),
    [
        ([], np.empty((0, 4, 4)), "0 poses for 0 times"),
        ([0, 5, 3], screw([0, 1, 2]), "run backwards"),
        ([0, 5, 5], screw([0, 1, 2]), "two different poses of one time"),
        ([0], np.full((1, 4, 4), np.nan), "not finite"),
    ],
)
def test_what_is_no_trajectory_is_refused(times, poses, said):
    with pytest.raises(UserError, match=said):
        trajectory(times, poses, "tf")


def test_a_pose_said_twice_counts_once():
    assert len(trajectory([0, 5, 5, 9], screw([0, 1, 1, 2]), "tf").times_ns) == 3


def slow_undistort(points, times, moment, knots, poses):
    """One point at a time, the rotation by SciPy's slerp, the place by a straight line."""
    turn = Slerp(knots, Rotation.from_matrix(poses[:, :3, :3]))
    result = []
    for point, time in zip(points.astype(np.float64), times, strict=True):
        place = [np.interp(time, knots, poses[:, axis, 3]) for axis in range(3)]
        result.append(invert(moment) @ np.r_[turn(time).as_matrix() @ point + place, 1])
    return np.array(result)[:, :3]


@pytest.mark.parametrize("ordered", [True, False])
def test_each_point_is_carried_by_the_pose_of_its_own_time(ordered):
    rng = np.random.default_rng(0)
    knots = np.sort(rng.integers(0, 400, 12)) * MS + 1_700_000_000_000_000_000
    poses = screw(rng.normal(size=12))
    poses[:, :3, 3] += (4e5, 5e6, 100)  # as of a map in UTM
    path = trajectory(knots, poses, "odometry")
    points = rng.uniform(-80, 80, (400, 3)).astype(np.float32)
    times = rng.integers(knots[0], knots[-1], 400)
    times = np.sort(times) if ordered else times
    moment = int(knots[4] + 3 * MS)
    expected = slow_undistort(points, times - knots[0], path.at(moment), knots - knots[0], poses)
    np.testing.assert_allclose(undistort(points, times, moment, path), expected, atol=2e-4)


def test_a_wall_seen_from_a_turning_vehicle_comes_out_straight():
    times = np.linspace(500, 600, 2000).astype(np.int64) * MS
    wall = np.column_stack((np.full(2000, 30.0), np.linspace(-10, 10, 2000), np.zeros(2000)))
    seen = np.array(
        [(invert(pose) @ np.r_[point, 1])[:3] for pose, point in zip(screw(times / 1e9), wall, strict=True)]
    )
    straight = undistort(seen, times, 550 * MS, drive())
    expected = (invert(screw(0.55)[0]) @ np.column_stack((wall, np.ones(2000))).T).T[:, :3]
    assert np.abs(seen - expected).max() > 0.5
    np.testing.assert_allclose(straight, expected, atol=1e-4)


def test_sweeps_beyond_the_poses_are_refused_and_empty_ones_are_empty():
    with pytest.raises(UserError, match="no pose from odometry"):
        undistort(np.ones((2, 3)), np.array([0, 9000 * MS]), 0, drive())
    assert undistort(np.empty((0, 3)), np.empty(0, np.int64), 0, drive()).shape == (0, 3)
    single = trajectory([0], screw(0), "odometry")
    np.testing.assert_array_equal(undistort(np.ones((2, 3)), np.array([0, MS]), 0, single), np.ones((2, 3)))
