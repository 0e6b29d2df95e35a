"""The tree of transforms: paths, times, and what is wrong with a tree that is none."""

from __future__ import annotations

import numpy as np
import pytest

from olivine.calibration import TransformTree
from olivine.errors import UserError
from olivine.geometry import invert, rigid_transform


def pose(seed):
    values = np.random.default_rng(seed).normal(size=7)
    return rigid_transform(values[:4], values[4:])


def vehicle():
    tree = TransformTree("drive.bag")
    tree.add("base_link", "lidar", pose(1))
    tree.add("base_link", "/camera_link", pose(2))
    tree.add("camera_link", "camera_optical", pose(3))
    return tree


def test_a_path_goes_up_and_down_the_tree():
    tree = vehicle()
    expected = invert(pose(3)) @ invert(pose(2)) @ pose(1)
    np.testing.assert_allclose(tree.transform("camera_optical", "lidar"), expected, atol=1e-12)
    np.testing.assert_allclose(tree.transform("lidar", "camera_optical"), invert(expected), atol=1e-12)
    np.testing.assert_array_equal(tree.transform("lidar", "lidar"), np.eye(4))
    assert tree.is_static("camera_optical", "/lidar")
    assert tree.path("camera_optical", "lidar") == ["camera_optical", "camera_link", "base_link", "lidar"]


def test_a_moving_edge_is_read_between_its_times():
    tree = vehicle()
    for second in range(4):
        tree.add("odom", "base_link", rigid_transform(np.eye(3), (10.0 * second, 0, 0)), second * 400_000_000)
    at = tree.transform("odom", "lidar", 600_000_000)
    np.testing.assert_allclose(at, rigid_transform(np.eye(3), (15, 0, 0)) @ pose(1))
    track = tree.trajectory("odom", "lidar")
    assert len(track.times_ns) == 4
    assert track.origin == "tf"
    np.testing.assert_allclose(track.at(600_000_000), at, atol=1e-9)
    with pytest.raises(UserError, match=r"drive\.bag \(odom to base_link\).*0\.000 to 1\.200 s"):
        tree.transform("odom", "lidar", 2_000_000_000)
    with pytest.raises(UserError, match="changes over time"):
        tree.transform("odom", "lidar")
    with pytest.raises(UserError, match="never moves"):
        tree.trajectory("base_link", "lidar")


def test_transforms_may_come_in_any_order_and_the_first_of_one_time_counts():
    tree, times = TransformTree(), np.array([300, 100, 200, 100]) * 1_000_000
    tree.extend("odom", "base", times, np.array([rigid_transform(np.eye(3), (x, 0, 0)) for x in (3, 1, 2, 9)]))
    assert tree.transform("odom", "base", 150_000_000)[0, 3] == 1.5
    tree.add("odom", "base", rigid_transform(np.eye(3), (7, 0, 0)), 400_000_000)
    np.testing.assert_allclose(tree.trajectory("base", "odom").poses[:, 0, 3], [-1, -2, -3, -7])


def test_two_moving_edges_make_poses_at_the_times_that_both_know():
    tree = TransformTree()
    for step in range(5):
        tree.add("map", "odom", np.eye(4), step * 100_000_000)
        tree.add("odom", "base", rigid_transform(np.eye(3), (step, 0, 0)), 250_000_000 + step * 100_000_000)
    times = tree.trajectory("map", "base").times_ns
    np.testing.assert_array_equal(times, [200_000_000, 250_000_000, 300_000_000, 350_000_000, 400_000_000, 450_000_000])


def test_frames_without_a_path_are_named_with_what_each_is_connected_to():
    tree = vehicle()
    tree.add("gps_mount", "gps", pose(4))
    with pytest.raises(UserError) as error:
        tree.transform("gps", "lidar")
    said = str(error.value)
    assert "no path from 'lidar' to 'gps'" in said
    assert "'gps' is connected to gps_mount" in said
    assert "'lidar' to base_link, camera_link, camera_optical" in said
    with pytest.raises(UserError, match="no frame 'radar'; there are base_link, camera_link"):
        tree.transform("radar", "lidar")


def test_a_loop_is_refused_only_where_it_leaves_two_ways():
    tree = vehicle()
    tree.add("odom", "base_link", np.eye(4), 0)
    tree.add("map", "base_link", np.eye(4), 0)  # two parents, which is no loop yet
    np.testing.assert_allclose(tree.transform("map", "odom", 0), np.eye(4))
    tree.add("map", "odom", pose(5))
    tree.transform("camera_optical", "lidar")
    with pytest.raises(UserError, match="two ways from 'odom' to 'map'"):  # of which there was one before
        tree.transform("map", "odom", 0)
    with pytest.raises(
        UserError, match="two ways from 'lidar' to 'map', map - base_link - lidar and map - odom - base_"
    ):
        tree.transform("map", "lidar", 0)


def test_what_is_no_tree_is_refused_when_it_is_added():
    tree = vehicle()
    tree.add("base_link", "lidar", pose(1) + 1e-9)  # said again, as static transforms are
    for arguments, said in (
        (("base_link", "lidar", pose(9)), "two static transforms from 'base_link' to 'lidar' that differ"),
        (("lidar", "base_link", pose(1)), "the other way round"),
        (("lidar", "/lidar", pose(1)), "two different frames"),
        (("base_link", "lidar", pose(1), 5), "with times and as a static one"),
    ):
        with pytest.raises(UserError, match=said):
            tree.add(*arguments)
