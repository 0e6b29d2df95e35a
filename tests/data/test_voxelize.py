import math
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from builders.frames import make_frame
from olivine.data.frame import Frame
from olivine.data.voxelize import CartesianVoxels, CylindricalVoxels, normalized_intensity, voxel_features, voxelize
from olivine.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden"


def test_cylindrical_voxels_reproduce_the_reference_quantisation_row_for_row():
    golden = np.load(GOLDEN / "sweep_voxels_small.npz")
    voxels = voxelize(golden["points"], CylindricalVoxels())
    np.testing.assert_array_equal(voxels.coordinates, golden["coordinates"])
    np.testing.assert_array_equal(voxels.first_point, golden["unique_map"])
    np.testing.assert_array_equal(voxels.point_voxel, golden["inverse_map"])


def test_cartesian_voxels_agree_with_a_dictionary_of_cells():
    points = np.random.default_rng(0).normal(0, 3, (500, 3)).astype(np.float32)
    config = CartesianVoxels(size_m=(0.5, 1.0, 0.25))
    first: dict[tuple[int, ...], int] = {}
    expected = []
    for row, point in enumerate(points):
        cell = tuple(int(np.floor(np.float32(v) / np.float32(s))) for v, s in zip(point, config.size_m, strict=True))
        first.setdefault(cell, row)
        expected.append(cell)
    voxels = voxelize(points, config)
    assert [tuple(c) for c in voxels.coordinates.tolist()] == list(first)
    assert voxels.first_point.tolist() == list(first.values())
    assert [tuple(c) for c in voxels.coordinates[voxels.point_voxel].tolist()] == expected


def test_points_outside_the_bounds_belong_to_no_voxel():
    points = np.array([[0, 0, 0], [1.0, 0, 0], [-0.1, 0, 0], [0.99, 0.5, 0.5]], np.float32)
    voxels = voxelize(points, CartesianVoxels(size_m=(1, 1, 1), bounds_m=(0, 0, 0, 1, 1, 1)))
    assert voxels.point_voxel.tolist() == [0, -1, -1, 0]
    assert voxels.first_point.tolist() == [0]


@pytest.mark.parametrize("config", [CylindricalVoxels(), CartesianVoxels(bounds_m=(5, 5, 5, 6, 6, 6))])
def test_a_cloud_without_points_in_the_grid_has_no_voxels(config):
    for points in (np.zeros((0, 3), np.float32), -np.ones((2, 3), np.float32)):
        if len(points) and isinstance(config, CylindricalVoxels):
            continue
        voxels = voxelize(points, config)
        assert voxels.coordinates.shape == (0, 3)
        assert (voxels.point_voxel == -1).all()


def test_points_whose_voxels_cannot_be_told_apart_are_refused():
    # 2^21 cells along y once made the same key as one cell along x.
    points = np.array([[0, 0, 0], [0.05, 0, 0], [0, 2**21 * 0.05, 0]], np.float32)
    assert len(voxelize(points[:2], CartesianVoxels(size_m=(0.05, 0.05, 0.05))).coordinates) == 2
    with pytest.raises(UserError, match="1 of 3 points lie 1048576 voxels or more from the LiDAR"):
        voxelize(points, CartesianVoxels(size_m=(0.05, 0.05, 0.05)))


def test_the_outermost_voxels_are_still_told_apart():
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32) * (2**20 - 1)
    points = np.concatenate([corners, corners + np.float32([0, 0, 0.5])])
    voxels = voxelize(points, CartesianVoxels(size_m=(1, 1, 1)))
    np.testing.assert_array_equal(voxels.coordinates, corners)
    np.testing.assert_array_equal(voxels.point_voxel, [*range(8), *range(8)])


@pytest.mark.parametrize("wrong", [{"size_m": (0.1, 0, 0.1)}, {"bounds_m": (0, 0, 0, 1, -1, 1)}])
def test_a_grid_without_room_is_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        CartesianVoxels(**wrong)


def test_features_are_those_of_the_first_point_in_the_order_asked_for(tmp_path):
    frame = make_frame(tmp_path, sizes=())
    config = CartesianVoxels(size_m=(2, 2, 2), features=("z", "intensity", "range"))
    voxels = voxelize(frame.points_lidar_m, config)
    features = voxel_features(frame, frame.points_lidar_m, voxels, config)
    for row in (0, 7, len(features) - 1):
        x, y, z = frame.points_lidar_m[voxels.first_point[row]]
        intensity = frame.intensity[voxels.first_point[row]] / 255
        np.testing.assert_allclose(features[row], [z, intensity, np.sqrt(x * x + y * y)], rtol=1e-6)
    raw = voxel_features(frame, frame.points_lidar_m, voxels, CartesianVoxels(size_m=(2, 2, 2), intensity="raw"))
    np.testing.assert_array_equal(raw[:, 0], frame.intensity[voxels.first_point])


def test_normalised_intensity_lies_between_zero_and_one(tmp_path):
    frame = make_frame(tmp_path, sizes=())
    assert 0 <= normalized_intensity(frame).min() < 0.01
    assert 0.99 < normalized_intensity(frame).max() <= 1


@pytest.mark.parametrize("wrong", [1.5, -0.1, np.nan, np.inf])
def test_intensities_outside_the_format_are_refused(wrong):
    points = np.zeros((3, 3), np.float32)
    frame = Frame("t", "s", points, np.array([0, 1, wrong], np.float32), 1.0, 0)
    grid = CartesianVoxels(size_m=(1.0, 1.0, 1.0))
    with pytest.raises(UserError, match=r"t: 1 of 3 intensities lie outside 0…1"):
        voxel_features(frame, points, voxelize(points, grid), grid)


def test_means_and_limits_are_those_of_a_loop_over_points():
    rng = np.random.default_rng(3)
    points = rng.uniform(-4, 4, (600, 3)).astype(np.float32)
    frame = Frame("t", "s", points, rng.random(600).astype(np.float32), 1.0, 0)
    grid = CartesianVoxels(size_m=(1, 1, 2), bounds_m=(-4, -4, -2, 4, 4, 2), features=("x", "z", "intensity", "range"))
    config = grid.model_copy(update={"reduce": "mean", "max_points": 3, "max_voxels": 40})
    voxels = voxelize(points, config)
    cells: dict[tuple[int, ...], list[int]] = {}
    kept = np.full(600, -1)
    for row, point in enumerate(points):
        if (point >= (-4, -4, -2)).all() and (point < (4, 4, 2)).all():
            cell = tuple(np.floor((point - np.float32([-4, -4, -2])) / np.float32([1, 1, 2])).astype(int))
            if cell in cells or len(cells) < 40:
                cells.setdefault(cell, []).append(row)
                kept[row] = list(cells).index(cell)
    np.testing.assert_array_equal(voxels.coordinates, list(cells))
    np.testing.assert_array_equal(voxels.point_voxel, kept)
    rows = voxel_features(frame, points, voxels, config)
    for row, members in zip(rows, cells.values(), strict=True):
        few = points[members[:3]].astype(float)
        expected = [few[:, 0].mean(), few[:, 2].mean(), frame.intensity[members[:3]].mean(),
                    np.hypot(few[:, 0], few[:, 1]).mean()]  # fmt: skip
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-6)


def test_a_point_that_float32_rounds_onto_an_upper_bound_is_outside():
    grid = CartesianVoxels(size_m=(0.1, 0.1, 0.2), bounds_m=(-51.2, -51.2, -5, 51.2, 51.2, 3))
    below = np.nextafter(np.float32(3), np.float32(0))
    points = np.array([[0, 0, below], [-51.2, 0, 0], [51.1, 0, -5], [51.2, 0, 0], [0, 0, 3]], np.float32)
    voxels = voxelize(points, grid)
    assert voxels.point_voxel.tolist() == [-1, 0, 1, -1, -1]
    assert voxels.coordinates.tolist() == [[0, 512, 25], [1023, 512, 0]]


def test_a_radius_holds_the_same_points_however_the_cloud_is_turned():
    grid = CartesianVoxels(size_m=(1, 1, 1), bounds_m=(-8, -8, -2, 8, 8, 2), radius_m=8)
    points = np.random.default_rng(0).uniform(-9, 9, (800, 3)).astype(np.float32)
    kept = np.array([math.sqrt(x * x + y * y) <= 8 and -2 <= z < 2 for x, y, z in points.astype(float)])
    assert 0 < kept.sum() < (voxelize(points, grid.model_copy(update={"radius_m": None})).point_voxel >= 0).sum()
    for angle in (0.0, 0.7, 3.0):
        turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
        turned = (points @ turn.T).astype(np.float32)
        np.testing.assert_array_equal(voxelize(turned, grid).point_voxel >= 0, kept)
        np.testing.assert_array_equal(grid.reaches(turned), kept)


def test_a_grid_knows_its_cells():
    assert CartesianVoxels(size_m=(0.1, 0.1, 0.2), bounds_m=(-51.2, -51.2, -5, 51.2, 51.2, 3)).cells == (1024, 1024, 40)
    with pytest.raises(UserError, match=r"voxels\.bounds_m is not set"):
        CartesianVoxels().cells  # noqa: B018
