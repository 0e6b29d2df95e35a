import numpy as np
import pytest

from olivine.data.occlusion import visible

AROUND = [(-6, -5), (7, -4), (-5, 6), (6, 7)]
"""Offsets of four pixels, one in each quarter about another."""


def seen(*points, tolerance_m=0.0):
    u, v, depth_m = np.array(points, np.float64).T
    return visible(np.stack((u, v), axis=1), depth_m, tolerance_m).tolist()


def surrounded(depth_m, offsets=AROUND, others_m=20.0):
    return [(800, 450, depth_m), *((800 + du, 450 + dv, others_m) for du, dv in offsets)]


def plane(normal, offset_m, columns=60, rows=20):
    """Pixels on a raster, and their depth on the plane `normal · x = offset_m` seen by a camera of focal length 700."""
    u, v = (axis.reshape(-1) for axis in np.meshgrid(np.arange(columns) * 8.0 + 3, np.arange(rows) * 8.0 + 10))
    depth_m = offset_m / (normal[0] * u / 700 + normal[1] * v / 700 + normal[2])
    return np.stack((u, v), axis=1), depth_m


def test_a_point_among_nearer_ones_is_hidden_beyond_the_tolerance_and_five_percent_of_depth():
    assert seen(*surrounded(20.9)) == [True] * 5
    assert seen(*surrounded(21.1)) == [False] + [True] * 4
    assert seen(*surrounded(21.1), tolerance_m=0.2) == [True] * 5


@pytest.mark.parametrize("side", [(0, 1), (2, 3), (0, 2), (1, 3)])
def test_a_point_beside_nearer_ones_is_seen(side):
    assert seen(*surrounded(50, [AROUND[i] for i in side]))[0]


@pytest.mark.parametrize("corners", [(0, 3), (1, 2)])
def test_nearer_points_on_opposite_sides_hide_a_point(corners):
    assert not seen(*surrounded(50, [AROUND[i] for i in corners]))[0]


def test_a_nearer_point_on_the_very_pixel_hides_a_point():
    assert seen((800, 450, 20), (800, 450, 50), (900, 450, 20)) == [True, False, True]


@pytest.mark.parametrize("normal", [(0, 1, 0), (0.7, 0, 0.05), (0.1, 1, 0.02)])
def test_nothing_of_a_plane_is_hidden_however_steeply_it_is_seen(normal):
    uv, depth_m = plane(normal, 1.6)
    assert depth_m.max() / depth_m.min() > 5
    assert visible(uv, depth_m, 0.0).all()


def test_a_wall_is_hidden_behind_a_near_board_and_seen_around_it():
    wall, wall_m = plane((0, 0, 1), 40.0)
    board = wall[(np.abs(wall - (240, 90)) < 40).all(axis=1)] + (3.1, 2.9)
    uv, depth_m = np.concatenate((wall, board)), np.concatenate((wall_m, np.full(len(board), 10.0)))
    hidden = ~visible(uv, depth_m, 0.5)
    assert not hidden[len(wall) :].any()
    inside = (np.abs(wall - (243, 93)) < 33).all(axis=1)
    outside = (np.abs(wall - (243, 93)) > 45).any(axis=1)
    assert hidden[: len(wall)][inside].all()
    assert not hidden[: len(wall)][outside].any()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_points_are_no_trouble(count):
    assert (
        visible(9.0 * np.arange(2 * count).reshape(count, 2), np.arange(count) * 9.0 + 1, 0.5).tolist()
        == [True] * count
    )
