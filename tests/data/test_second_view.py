from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from builders.frames import Frames, make_frame
from olivine.data.augment import CloudAugment
from olivine.data.collate import collate
from olivine.data.needs import Needs
from olivine.data.prepare import Augmentation, Prepare
from olivine.data.second_view import (
    ViewConfig,
    cut_view,
    neighbour,
    same_places,
    same_rows,
    voxel_matches,
    warn_if_alone,
)
from olivine.data.voxelize import CartesianVoxels
from olivine.errors import OlivineWarning, UserError
from olivine.geometry import invert, rigid_transform, transform_points

VOXELS = CartesianVoxels(size_m=(0.5, 0.5, 0.5))


def cloud(count, seed=0):
    return np.random.default_rng(seed).uniform(-20, 20, (count, 3)).astype(np.float32)


def turned(yaw_rad, offset_m):
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    return rigid_transform([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], offset_m)


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_view_is_the_neighbourhood_of_a_point(seed):
    points = cloud(1000)
    kept = cut_view(points, np.random.default_rng(seed), ViewConfig(keep=(0.2, 0.4)))
    assert 200 <= kept.sum() <= 400
    centers = points[:, None, :2] - points[None, kept, :2]
    farthest_inside = np.square(centers).sum(axis=2).max(axis=1)
    nearest_outside = np.square(points[:, None, :2] - points[None, ~kept, :2]).sum(axis=2).min(axis=1)
    assert (farthest_inside <= nearest_outside).any()


def test_a_cuboid_is_missing_from_a_view():
    points = cloud(5000)
    kept = cut_view(points, np.random.default_rng(0), ViewConfig(drop_cuboid=0.5))
    low, high = points[~kept].min(axis=0), points[~kept].max(axis=0)
    inside = ((points >= low) & (points <= high)).all(axis=1)
    assert 0 < (~kept).sum() < 2500
    np.testing.assert_array_equal(inside, ~kept)


def test_by_default_a_view_keeps_everything_and_a_tiny_cloud_never_becomes_empty():
    assert cut_view(cloud(50), np.random.default_rng(0), ViewConfig()).all()
    harsh = ViewConfig(keep=(0.01, 0.01), drop_cuboid=0.9)
    assert all(cut_view(cloud(2), np.random.default_rng(seed), harsh).any() for seed in range(20))
    assert len(cut_view(cloud(0), np.random.default_rng(0), harsh)) == 0


@pytest.mark.parametrize("keep", [(0.5, 1.5), (0.8, 0.4), (0.0, 0.5)])
def test_shares_beyond_a_cloud_are_refused(keep):
    with pytest.raises(ValidationError):
        ViewConfig(keep=keep)


def test_a_neighbour_is_near_and_of_the_same_scene(tmp_path):
    scenes = ["a", "a", "a", "b", "b", "c"]
    frames = Frames([replace(make_frame(tmp_path, points=5), scene=scene) for scene in scenes])
    drawn = {index: {neighbour(frames, index, 2, np.random.default_rng(s)) for s in range(30)} for index in range(6)}
    assert drawn == {0: {1, 2}, 1: {0, 2}, 2: {0, 1}, 3: {4}, 4: {3}, 5: {5}}
    assert {neighbour(frames, 0, 1, np.random.default_rng(s)) for s in range(30)} == {1}


def test_frames_that_are_all_alone_are_pointed_out(tmp_path):
    frames = [replace(make_frame(tmp_path, points=5), scene=scene) for scene in ("a", "b", "a")]
    with pytest.warns(OlivineWarning, match=r"memory: no frame has another one of its scene within views\.max_gap=1"):
        warn_if_alone(Frames(frames), 1)
    warn_if_alone(Frames(frames), 2)


def test_rows_that_both_views_hold_are_found():
    rng = np.random.default_rng(0)
    first, second = np.sort(rng.choice(50, 30, replace=False)), np.sort(rng.choice(50, 20, replace=False))
    expected = [(i, j) for i, a in enumerate(first) for j, b in enumerate(second) if a == b]
    assert same_rows(first, second).tolist() == [list(pair) for pair in expected]
    assert same_rows(first[:0], second).shape == (0, 2)
    assert same_rows(first, second[:0]).shape == (0, 2)


def test_points_in_one_cube_match_and_each_cube_gives_one_pair():
    first, second = cloud(4000, 1).astype(np.float64), cloud(3000, 2).astype(np.float64)
    found = same_places(first, second, 2.0)
    cell = [{tuple(c): i for i, c in reversed(list(enumerate(np.floor(p / 2).astype(int))))} for p in (first, second)]
    expected = {(cell[0][key], cell[1][key]) for key in cell[0].keys() & cell[1].keys()}
    assert set(map(tuple, found.tolist())) == expected
    assert len(found) == len(expected) > 900
    assert same_places(first[:0], second, 2.0).shape == (0, 2)


def test_voxels_match_once_and_points_outside_the_grid_do_not():
    points = np.array([[0, 0], [1, 1], [2, 2], [3, 0]])
    matches = voxel_matches(points, np.array([5, 5, -1, 7]), np.array([2, 2, 3]))
    assert matches.tolist() == [[5, 2], [7, 2]]
    assert voxel_matches(points[:0], np.array([5]), np.array([2])).shape == (0, 2)


def prepared(tmp_path, other=None, **settings):
    augment = Augmentation(CloudAugment(scale=0.1), views=ViewConfig(keep=(0.5, 0.8), drop_cuboid=0.2))
    prepare = Prepare(VOXELS, replace(augment, **settings), Needs(second="scan", match=True))
    frames = [make_frame(tmp_path, seed=seed) for seed in (0, 1)]
    return [prepare(frame, np.random.default_rng(7), other and other(frame)) for frame in frames], frames


def test_matching_voxels_of_two_views_of_a_scan_hold_the_same_point(tmp_path):
    samples, _ = prepared(tmp_path)
    batch = collate(samples, seed=0, places=[4, 9])
    first, second = batch.cloud, batch.second
    assert batch.samples.tolist() == [4, 9]
    assert len(second.match) > 500
    assert (first.coordinates[second.match[:, 0], 0] == second.cloud.coordinates[second.match[:, 1], 0]).all()
    assert set(second.match[:, 0].tolist()) <= set(range(len(first.coordinates)))
    np.testing.assert_array_equal(second.second_from_first, np.tile(np.eye(4), (2, 1, 1)))
    for sample in samples:
        view, other = sample.cloud, sample.second.cloud
        voxels = zip(view.voxels.point_voxel.tolist(), (_voxel_of(other, row) for row in view.row), strict=True)
        assert set(map(tuple, sample.second.match.tolist())) == {(i, j) for i, j in voxels if j >= 0}


def _voxel_of(view, row):
    place = np.searchsorted(view.row, row)
    return int(view.voxels.point_voxel[place]) if place < len(view.row) and view.row[place] == row else -1


def test_each_view_is_cut_and_augmented_on_its_own(tmp_path):
    (sample, _), (frame, _) = prepared(tmp_path)
    assert not np.allclose(sample.cloud.augmented_from_lidar, sample.second.cloud.augmented_from_lidar)
    assert set(sample.cloud.row) != set(sample.second.cloud.row)
    for view in (sample.cloud, sample.second.cloud):
        expected = frame.points_lidar_m[view.row] @ view.augmented_from_lidar.T
        np.testing.assert_allclose(view.points_m, expected, atol=1e-4)


def test_points_of_two_frames_match_through_their_poses(tmp_path):
    pose_first, pose_second = turned(0.3, [5, 2, 0]), turned(-0.8, [9, -3, 0.5])
    frame = replace(make_frame(tmp_path), global_from_lidar=pose_first)
    second_from_first = invert(pose_second) @ pose_first
    moved = transform_points(second_from_first, frame.points_lidar_m).astype(np.float32)
    other = replace(frame, token="next", points_lidar_m=moved, global_from_lidar=pose_second)
    prepare = Prepare(
        VOXELS, Augmentation(CloudAugment(), views=ViewConfig(match_m=0.05)), Needs(second="frame", match=True)
    )
    sample = prepare(frame, np.random.default_rng(0), other)
    np.testing.assert_allclose(sample.second.second_from_first, second_from_first)
    pairs = set(zip(sample.cloud.voxels.point_voxel, sample.second.cloud.voxels.point_voxel, strict=True))
    found = set(map(tuple, sample.second.match.tolist()))
    # Rounding moves a few points over the border of a cube; none of them finds a stranger.
    assert found <= pairs
    assert len(found) > 0.95 * len(pairs)


def test_frames_without_poses_give_views_but_no_matches(tmp_path):
    frame, other = make_frame(tmp_path), make_frame(tmp_path, seed=1)
    sample = Prepare(VOXELS, needs=Needs(second="frame"))(frame, np.random.default_rng(0), other)
    assert np.isnan(sample.second.second_from_first).all()
    assert sample.second.match is None
    np.testing.assert_array_equal(sample.second.cloud.points_m, other.points_lidar_m)
    with pytest.raises(UserError, match=r"frame 'frame-1' or its neighbour has no pose"):
        Prepare(VOXELS, needs=Needs(second="frame", match=True))(frame, np.random.default_rng(0), other)


def test_points_and_poses_far_beyond_any_grid_match_nothing():
    near = np.array([[1.0, 2.0, 3.0]])
    for far in (2e6, 1e20, np.inf, np.nan):
        wild = np.array([[1.02, 2.02, 3.02], [far, 0, 0]])
        assert same_places(np.concatenate((near, [[far, 0, 0]])), wild, 0.1).tolist() == [[0, 0]]
