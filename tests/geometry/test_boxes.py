"""Boxes against what the published code makes of them, and against their own corners."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from olivine.geometry import corners, enlarged, limit_period, points_in_boxes, turned_boxes

GOLDEN = Path(__file__).parents[1] / "golden"
IN_ORDER = [("front", "left"), ("front", "right"), ("rear", "right"), ("rear", "left")]


def some_boxes(count, seed=0):
    rng = np.random.default_rng(seed)
    parts = [rng.uniform(-40, 40, (count, 2)), rng.uniform(-2, 1, (count, 1)), rng.uniform(0.3, 9, (count, 3))]
    return np.concatenate([*parts, rng.uniform(-9, 9, (count, 1))], axis=1)


def one_by_one(points, boxes):
    """Which points lie in which boxes, in the axes of each box."""
    inside = []
    for box in boxes:
        own = Rotation.from_euler("z", box[6]).inv().apply(points - box[:3])
        inside.append((np.abs(own) <= box[3:6] / 2).all(axis=1))
    return np.array(inside)


def test_corners_come_in_the_order_that_is_drawn():
    found = corners(np.array([[10.0, 20, 3, 4, 2, 1, 0]]))[0]
    expected = [(12 if end == "front" else 8, 21 if side == "left" else 19) for end, side in IN_ORDER]
    np.testing.assert_array_equal(found[:, :2], expected * 2)
    np.testing.assert_array_equal(found[:, 2], [2.5] * 4 + [3.5] * 4)


def test_corners_turn_with_the_box_counter_clockwise():
    front_left = corners(np.array([[0.0, 0, 0, 4, 2, 1, np.pi / 2]]))[0, 0]
    np.testing.assert_allclose(front_left, [-1, 2, -0.5], atol=1e-12)
    boxes = some_boxes(20)
    for box, found in zip(boxes, corners(boxes), strict=True):
        lying = corners(np.array([[0, 0, 0, *box[3:6], 0]]))[0]
        np.testing.assert_allclose(found, Rotation.from_euler("z", box[6]).apply(lying) + box[:3], atol=1e-12)


def test_turned_boxes_and_their_corners_agree():
    boxes, linear = some_boxes(20), 1.3 * Rotation.from_euler("z", 2.2).as_matrix() @ np.diag([1, -1, 1])
    there = corners(turned_boxes(linear, boxes))
    mirrored = [1, 0, 3, 2, 5, 4, 7, 6]  # left is right in a mirror
    np.testing.assert_allclose(there[:, mirrored], corners(boxes) @ linear.T, atol=1e-9)


def test_flipped_turned_and_scaled_boxes_are_those_of_the_published_augmentation():
    golden = np.load(GOLDEN / "augment.npz")
    for name, linear in {
        "flip": np.diag([1.0, -1, 1]),
        "rotation": Rotation.from_euler("z", float(golden["rotation"])).as_matrix(),
        "scale": np.eye(3) * float(golden["scale"]),
    }.items():
        turned, expected = turned_boxes(linear, golden["boxes"]), golden[f"{name}_boxes"]
        np.testing.assert_allclose(turned[:, :6], expected[:, :6], atol=1e-6)
        np.testing.assert_allclose(limit_period(turned[:, 6] - expected[:, 6], 0.5, 2 * np.pi), 0, atol=1e-6)


def test_a_side_gains_what_is_asked_for_in_all():
    golden = np.load(GOLDEN / "augment.npz")
    np.testing.assert_allclose(enlarged(golden["boxes"], 0.2), golden["enlarged_0.2"], atol=1e-12)
    box = np.array([[1.0, 2, 3, 4, 5, 6, 0.7]])
    np.testing.assert_allclose(enlarged(box, [0.1, 0.2, 0.3]), [[1, 2, 3, 4.1, 5.2, 6.3, 0.7]])


@pytest.mark.parametrize("of", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
@pytest.mark.parametrize(("name", "offset"), [("half", 0.5), ("zero", 0.0)])
@pytest.mark.parametrize(("unit", "period"), [("pi", np.pi), ("2pi", 2 * np.pi)])
def test_periods_are_limited_as_published(of, name, offset, unit, period):
    golden = np.load(GOLDEN / "box_coder.npz")
    limited = limit_period(of(golden["angles"].astype(np.float64)), offset, period)
    assert type(limited) is type(of(golden["angles"]))
    np.testing.assert_allclose(np.asarray(limited), golden[f"limit_period_{name}_{unit}"], atol=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e4, 1e4), st.sampled_from([0.0, 0.5]), st.sampled_from([np.pi, 2 * np.pi]))
def test_a_limited_value_is_in_range_and_whole_periods_away(value, offset, period):
    limited = float(limit_period(np.array([value]), offset, period)[0])
    assert -offset * period - 1e-9 <= limited <= (1 - offset) * period + 1e-9
    assert (value - limited) / period == pytest.approx(round((value - limited) / period), abs=1e-9)


def test_headings_are_limited_as_the_published_augmentation_limits_them():
    golden = np.load(GOLDEN / "augment.npz")
    limited = limit_period(golden["boxes"][:, 6], 0.5, 2 * np.pi)
    np.testing.assert_allclose(limited, golden["heading_limited"], atol=1e-6)


def test_points_are_found_in_boxes_of_every_heading():
    rng, boxes = np.random.default_rng(1), some_boxes(60)
    points = np.concatenate([rng.uniform(-50, 50, (20000, 3)) * (1, 1, 0.1), corners(boxes).reshape(-1, 3) * 0.999])
    inside = points_in_boxes(points, boxes)
    assert inside.sum() > 1000
    np.testing.assert_array_equal(inside, one_by_one(points, boxes))


def test_corners_pulled_in_lie_inside_and_pushed_out_lie_outside():
    boxes = some_boxes(200, seed=2)
    middle = boxes[:, None, :3]
    for factor, expected in ((1 - 1e-9, True), (1 + 1e-9, False)):
        moved = middle + factor * (corners(boxes) - middle)
        inside = points_in_boxes(moved.reshape(-1, 3), boxes)
        own = inside.reshape(200, 200, 8)[range(200), range(200)]
        assert (own == expected).all()


@pytest.mark.parametrize("away", [0.0, 1e4])
def test_what_rounding_decides_of_a_corner_is_not_changed_by_looking_near_boxes_only(away):
    """Boxes whose diagonal lies along x or y, and the ends of that diagonal, which are in or out by a rounding."""
    boxes = some_boxes(800, seed=3)
    boxes[:, 0] += away
    boxes[:, 6] = -np.arctan2(boxes[:, 4], boxes[:, 3]) + np.pi / 2 * (np.arange(800) % 4)
    points = corners(boxes)[:, 4:] - [0, 0, 0.1]
    shifted = points - boxes[:, None, :3]
    cos, sin = np.cos(boxes[:, 6:]), np.sin(boxes[:, 6:])
    along, across = shifted[..., 0] * cos + shifted[..., 1] * sin, shifted[..., 1] * cos - shifted[..., 0] * sin
    expected = (np.abs(along) <= boxes[:, 3:4] / 2) & (np.abs(across) <= boxes[:, 4:5] / 2)
    inside = points_in_boxes(points.reshape(-1, 3), boxes).reshape(800, 800, 4)[range(800), range(800)]
    assert 100 < expected.sum() < 3100
    np.testing.assert_array_equal(inside, expected)


def test_points_on_faces_and_far_away_are_told_apart():
    boxes = np.array([[1e6, -1e6, 0, 4, 2, 2, 0], [0.0, 0, 0, 4, 2, 2, 0]])
    points = np.array(
        [[1e6 + 2, -1e6, 0], [2, 1, 1], [2.0000001, 0, 0], [np.nan, 0, 0], [0, np.nan, 0], [np.inf, 0, 0]]
    )
    assert points_in_boxes(points, boxes).tolist() == [[True] + [False] * 5, [False, True] + [False] * 4]


def test_the_points_in_simulated_objects_are_counted_as_published():
    golden = np.load(GOLDEN / "kitti_prep_sim.npz")
    points = golden["sim_points"][np.unpackbits(golden["fov_mask_packed"])[: golden["num_points"]] == 1, :3]
    found = points_in_boxes(points, golden["gt_boxes_lidar"]).sum(axis=1)
    np.testing.assert_array_equal(found, golden["num_points_in_gt_exact"])
    assert found.max() > 100


def test_no_points_and_no_boxes_are_no_trouble():
    assert points_in_boxes(np.zeros((0, 3)), some_boxes(3)).shape == (3, 0)
    assert points_in_boxes(np.zeros((5, 3)), np.zeros((0, 7))).shape == (0, 5)
    assert corners(np.zeros((0, 7))).shape == (0, 8, 3)
    assert turned_boxes(np.eye(3), np.zeros((0, 7))).shape == (0, 7)
    assert enlarged(np.zeros((0, 7)), 0.2).shape == (0, 7)
