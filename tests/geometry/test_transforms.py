from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from olivine.geometry import (
    invert,
    project,
    quaternion_from_rotation,
    rigid_transform,
    rotation_from_quaternion,
    transform_points,
)

angles = st.floats(-np.pi, np.pi)
translations = st.tuples(*[st.floats(-1e6, 1e6)] * 3)


def rotations(count: int) -> list[Rotation]:
    return list(Rotation.random(count, rng=np.random.default_rng(0)))


def test_rotation_from_quaternion_agrees_with_scipy():
    for rotation in rotations(50):
        x, y, z, w = rotation.as_quat()
        np.testing.assert_allclose(rotation_from_quaternion([w, x, y, z]), rotation.as_matrix(), atol=1e-14)
        np.testing.assert_allclose(rotation_from_quaternion([-3 * w, -3 * x, -3 * y, -3 * z]), rotation.as_matrix())


@settings(max_examples=100, deadline=None)
@given(angles, angles, angles)
def test_quaternion_round_trip_has_a_non_negative_scalar(a, b, c):
    rotation = Rotation.from_euler("zyx", [a, b, c]).as_matrix()
    quaternion = quaternion_from_rotation(rotation)
    assert np.linalg.norm(quaternion) == pytest.approx(1)
    assert quaternion[0] >= 0
    np.testing.assert_allclose(rotation_from_quaternion(quaternion), rotation, atol=1e-12)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
@pytest.mark.parametrize("degrees", [0, 1e-7, 90, 179.9999999, 180, -90])
def test_quaternion_is_stable_at_special_angles(axis, degrees):
    rotation = Rotation.from_euler(axis, degrees, degrees=True)
    quaternion = quaternion_from_rotation(rotation.as_matrix())
    x, y, z, w = rotation.as_quat()
    assert abs(np.dot(quaternion, [w, x, y, z])) == pytest.approx(1, abs=1e-12)


def test_rigid_transform_takes_a_matrix_or_a_quaternion():
    rotation = rotations(1)[0]
    x, y, z, w = rotation.as_quat()
    by_matrix = rigid_transform(rotation.as_matrix(), [1, 2, 3])
    np.testing.assert_allclose(rigid_transform([w, x, y, z], [1, 2, 3]), by_matrix, atol=1e-14)
    np.testing.assert_array_equal(by_matrix[3], [0, 0, 0, 1])
    assert by_matrix.dtype == np.float64


@settings(max_examples=50, deadline=None)
@given(angles, angles, angles, translations)
def test_invert_undoes_a_transform(a, b, c, translation):
    transform = rigid_transform(Rotation.from_euler("zyx", [a, b, c]).as_matrix(), translation)
    size = 1 + np.abs(translation).max()
    np.testing.assert_allclose(invert(transform), np.linalg.inv(transform), atol=1e-14 * size)
    np.testing.assert_allclose(invert(transform) @ transform, np.eye(4), atol=1e-14 * size)


def test_transforms_read_right_to_left():
    ego_from_lidar = rigid_transform(Rotation.from_euler("z", 90, degrees=True).as_matrix(), [1, 0, 2])
    global_from_ego = rigid_transform(np.eye(3), [100, 0, 0])
    np.testing.assert_allclose(transform_points(ego_from_lidar, np.array([[3.0, 0, 0]])), [[1, 3, 2]], atol=1e-12)
    chained = transform_points(global_from_ego @ ego_from_lidar, np.array([[3.0, 0, 0]]))
    np.testing.assert_allclose(chained, [[101, 3, 2]], atol=1e-12)


def test_single_precision_points_are_carried_in_double_precision():
    far = rigid_transform(np.eye(3), [4e6, 0, 0])
    there = transform_points(far, np.array([[0.125, 0, 0]], np.float32))
    assert there.dtype == np.float64
    assert there[0, 0] == 4e6 + 0.125


def test_known_corners_project_to_the_pixels_the_convention_says():
    """A 640×480 image: the optical axis meets pixel (319.5, 239.5), the middle between pixel centres 319 and 320."""
    intrinsics = np.array([[500.0, 0, 319.5], [0, 500, 239.5], [0, 0, 1]])
    corners = np.array(
        [
            [0, 0, 2],
            [-1.278, -0.958, 2],  # the centre of the top left pixel, (0, 0)
            [1.278, 0.958, 2],  # the centre of the bottom right pixel, (639, 479)
            [-1.28, -0.96, 2],  # the outer corner of the image, (-0.5, -0.5)
            [1, 0, 2],  # right of the axis is a larger column
            [0, 1, 2],  # below the axis is a larger row
        ]
    )
    expected = [[319.5, 239.5], [0, 0], [639, 479], [-0.5, -0.5], [569.5, 239.5], [319.5, 489.5]]
    uv, depth_m = project(corners, intrinsics)
    np.testing.assert_allclose(uv, expected, atol=1e-9)
    np.testing.assert_array_equal(depth_m, np.full(6, 2.0))


def test_skew_takes_part_in_the_projection():
    uv, _ = project(np.array([[1.0, 2, 4]]), np.array([[100.0, 8, 10], [0, 200, 20], [0, 0, 1]]))
    np.testing.assert_allclose(uv, [[100 / 4 + 8 * 2 / 4 + 10, 200 * 2 / 4 + 20]])


def test_points_at_or_behind_the_camera_have_no_pixel():
    uv, depth_m = project(np.array([[1.0, 1, -5], [1, 1, 0], [0, 0, 5]], np.float32), np.eye(3))
    assert np.isnan(uv[:2]).all()
    np.testing.assert_array_equal(uv[2], [0, 0])
    np.testing.assert_array_equal(depth_m, [-5, 0, 5])
    assert depth_m.dtype == np.float64


def test_no_points_project_to_no_pixels():
    uv, depth_m = project(np.zeros((0, 3)), np.eye(3))
    assert uv.shape == (0, 2)
    assert depth_m.shape == (0,)
