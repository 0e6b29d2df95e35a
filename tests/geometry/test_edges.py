"""Edges of boxes before a camera: where they are cut off, and what they span."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from olivine.geometry import corners, rigid_transform, transform_points
from olivine.geometry.edges import EDGES, camera_edges, image_boxes, visible_edges

CAMERA = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
CAMERA_FROM_LIDAR = rigid_transform(CAMERA, (0.0, 0.0, 0.0))
INTRINSICS = np.array([[500.0, 0, 300], [0, 500, 200], [0, 0, 1]])


def test_every_edge_of_a_box_is_there_once():
    box = np.array([[0.0, 0, 0, 4, 2, 1, 0.3]])
    lengths = np.linalg.norm(np.diff(corners(box)[0][EDGES], axis=1)[:, 0], axis=1)
    np.testing.assert_allclose(np.sort(lengths), [1] * 4 + [2] * 4 + [4] * 4)
    assert len({frozenset(edge) for edge in EDGES.tolist()}) == 12


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), near=st.floats(0.05, 3))
def test_what_is_left_of_an_edge_is_the_part_before_the_camera(seed, near):
    boxes = np.random.default_rng(seed).uniform([-6, -6, -2, 0.2, 0.2, 0.2, -9], [9, 6, 2, 9, 3, 3, 9], (5, 7))
    seen = transform_points(CAMERA_FROM_LIDAR, corners(boxes).reshape(-1, 3)).reshape(5, 8, 3)
    for ends, cut in zip(seen[:, EDGES].reshape(-1, 2, 3), visible_edges(seen, near).reshape(-1, 2, 3), strict=True):
        share = np.linspace(0, 1, 2001)[:, None]
        line = (1 - share) * ends[0] + share * ends[1]
        before = line[line[:, 2] >= near]
        if not len(before):
            assert np.isnan(cut).all() or np.linalg.norm(cut[1] - cut[0]) < 0.02
            continue
        np.testing.assert_allclose(cut, before[[0, -1]], atol=0.02)
        assert (cut[:, 2] >= near - 1e-9).all()


def test_an_edge_that_ends_in_the_plane_of_the_lens_has_no_infinite_pixel():
    box = np.array([[2.0, 0, 0, 4, 2, 1, 0]])  # its rear lies at the lens
    pixels = camera_edges(box, CAMERA_FROM_LIDAR, INTRINSICS)
    rear = np.isnan(pixels).all(axis=(2, 3))[0]
    assert rear.sum() == 4
    assert np.isfinite(pixels[0, ~rear]).all()
    np.testing.assert_array_equal(image_boxes(pixels, (600, 400)), [[0, 0, 599, 399]])


def test_a_box_spans_its_corners_and_nothing_where_it_is_behind():
    boxes = np.array([[20.0, 1, 0.5, 2, 2, 2, 0], [-20.0, 0, 0, 2, 2, 2, 0], [20.0, 60, 0, 2, 2, 2, 0]])
    spans = image_boxes(camera_edges(boxes, CAMERA_FROM_LIDAR, INTRINSICS), (600, 400))
    np.testing.assert_allclose(spans[0], [300 - 500 * 2 / 19, 200 - 500 * 1.5 / 19, 300, 200 + 500 * 0.5 / 19])
    np.testing.assert_array_equal(spans[1], 0)
    assert spans[2, 0] == spans[2, 2] == 0  # beside the image: no width
    assert image_boxes(camera_edges(boxes[:0], CAMERA_FROM_LIDAR, INTRINSICS), (600, 400)).shape == (0, 4)
