import numpy as np

from olivine.data.occlusion import visible

SIZE = (1600, 900)  # cells of 10 pixels


def seen(*points, tolerance_m=0.0):
    u, v, depth_m = np.array(points, np.float64).T
    return visible(np.stack((u, v), axis=1), depth_m, SIZE, tolerance_m).tolist()


def test_a_point_behind_another_is_hidden_beyond_the_tolerance_and_five_percent_of_depth():
    assert seen((805, 455, 20.0), (806, 456, 20.9)) == [True, True]
    assert seen((805, 455, 20.0), (806, 456, 21.1)) == [True, False]
    assert seen((805, 455, 20.0), (806, 456, 21.1), tolerance_m=0.2) == [True, True]


def test_points_hide_others_in_the_next_cell_but_not_beyond():
    for du, dv in ((10, 0), (-10, 0), (0, 10), (0, -10), (10, 10), (-10, -10)):
        assert seen((805, 455, 5.0), (805 + du, 455 + dv, 50.0)) == [True, False]
        assert seen((805, 455, 5.0), (805 + 2 * du, 455 + 2 * dv, 50.0)) == [True, True]


def test_the_edges_of_the_image_are_cells_like_others():
    corners = [(u, v, 5.0) for u in (-0.4, 1599.4) for v in (-0.4, 899.4)]
    assert seen(*corners) == [True] * 4
    assert seen(*corners, (1599.4, 899.4, 9.0))[-1] is False


def test_no_points_are_no_trouble():
    assert visible(np.zeros((0, 2)), np.zeros(0), SIZE, 0.5).shape == (0,)
