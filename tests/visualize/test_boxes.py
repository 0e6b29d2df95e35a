"""Boxes on images and from above: where their lines run."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from builders.frames import make_frame
from builders.kitti_object import build_kitti_object
from builders.nuscenes import build_nuscenes
from olivine.data.datasets import KittiObjectConfig, NuScenesConfig, SplitConfig
from olivine.data.frame import Boxes
from olivine.data.labels import load_class_set
from olivine.geometry import corners, project, transform_points
from olivine.visualize.boxes import box_colors, draw_above, draw_boxes, draw_on_image, extent_of
from olivine.visualize.folder import draw_folder
from olivine.visualize.gallery import box_pictures

COLORS = {"Car": (255, 0, 0), "Van": (0, 0, 255)}


@pytest.fixture
def frame(tmp_path):
    return make_frame(tmp_path, points=300, sizes=((192, 128),))


def test_a_box_is_drawn_where_its_corners_fall(frame):
    camera = frame.cameras[0]
    boxes = Boxes(np.array([[12.0, 1, 0, 4, 2, 2, 0.4]]), ("Car",))
    drawn = draw_on_image(camera, boxes, COLORS, 192)
    red = (drawn == COLORS["Car"]).all(axis=2)
    uv, _ = project(transform_points(camera.camera_from_lidar, corners(boxes.boxes)[0]), camera.intrinsics)
    for column, row in uv.round().astype(int):
        assert red[row - 1 : row + 2, column - 1 : column + 2].any()
    rows, columns = np.nonzero(red)
    assert (abs(columns.min() - uv[:, 0].min()), abs(columns.max() - uv[:, 0].max())) < (2, 2)
    assert (abs(rows.min() - uv[:, 1].min()), abs(rows.max() - uv[:, 1].max())) < (2, 2)
    # The front, which points away from the camera here, bears the cross: its middle is drawn on, the rear's is not.
    front, rear = uv[[0, 1, 4, 5]].mean(axis=0).round().astype(int), uv[[2, 3, 6, 7]].mean(axis=0).round().astype(int)
    assert red[front[1] - 1 : front[1] + 2, front[0] - 1 : front[0] + 2].any()
    assert not red[rear[1], rear[0]]


def test_what_lies_behind_the_camera_is_not_drawn_and_what_lies_beside_is_in_part(frame):
    camera = frame.cameras[0]
    plain = draw_on_image(camera, Boxes(np.zeros((0, 7)), ()), COLORS, 192)
    behind = Boxes(np.array([[-12.0, 1, 0, 4, 2, 2, 0]]), ("Car",))
    np.testing.assert_array_equal(draw_on_image(camera, behind, COLORS, 192), plain)
    beside = Boxes(np.array([[0.0, 2, -0.5, 30, 2, 2, 0]]), ("Car",))
    red = (draw_on_image(camera, beside, COLORS, 192) == COLORS["Car"]).all(axis=2)
    assert red[:, :96].any()
    assert not red[:, 100:].any()


def test_labelled_image_boxes_are_thin_rectangles_of_their_own_camera(frame):
    image_box = np.array([[20.0, 30, 60, 90]])
    boxes = Boxes(np.array([[-12.0, 1, 0, 4, 2, 2, 0]]), ("Car",), image_boxes=image_box)
    drawn = draw_on_image(frame.cameras[0], boxes, COLORS, 96)  # half the size
    assert (drawn[15:45, 10] == 255).all()
    assert (drawn[15, 10:30] == 255).all()
    other = draw_on_image(frame.cameras[0], boxes, COLORS, 96, labelled=False)
    assert not (other[15:45, 10] == 255).all()


def test_seen_from_above_x_is_to_the_right_and_a_line_runs_to_the_front():
    boxes = Boxes(np.array([[10.0, 5, 0, 6, 2, 1, 0], [30, -5, 0, 6, 2, 1, np.pi / 2]]), ("Car", "Van"))
    drawn = draw_above(np.array([[20.0, 0, 3]]), boxes, COLORS, (0, 40, -10, 10))
    scale = drawn.shape[1] / 40
    assert drawn.shape[0] == drawn.shape[1] / 2
    for name, (left, right, low, high), front in (("Car", (7, 13, 4, 6), (12, 5)), ("Van", (29, 31, -8, -2), (30, -3))):
        rows, columns = np.nonzero((drawn == COLORS[name]).all(axis=2))
        np.testing.assert_allclose([columns.min(), columns.max()], [left * scale, right * scale], atol=2)
        np.testing.assert_allclose([rows.min(), rows.max()], [(10 - high) * scale, (10 - low) * scale], atol=2)
        near = np.hypot(columns - front[0] * scale, rows - (10 - front[1]) * scale)
        assert near.min() < 2
        opposite = 2 * np.array([(left + right) / 2, (low + high) / 2]) - front
        assert np.hypot(columns - opposite[0] * scale, rows - (10 - opposite[1]) * scale).min() > 5
    assert (drawn[drawn.shape[0] // 2, drawn.shape[1] // 2] > 100).all()


def test_what_is_shown_from_above_holds_the_boxes_in_whole_tens():
    points = np.random.default_rng(0).uniform([0, -20, -2], [30, 20, 2], (500, 3))
    boxes = Boxes(np.array([[45.0, 0, 0, 4, 2, 2, 0]]), ("Car",))
    assert extent_of(points, boxes) == (0, 50, -20, 20)
    assert extent_of(points[:0], Boxes(np.zeros((0, 7)), ())) == (0, 10, 0, 10)
    far = Boxes(np.array([[300.0, 0, 0, 4, 2, 2, 0]]), ("Car",))
    assert extent_of(points, far)[1] == 80


def test_each_category_has_a_colour_of_its_own():
    classes = load_class_set("nuscenes")
    colors = box_colors(["Van", "Car", "Car", "Tram"], classes)
    assert list(colors) == ["Car", "Tram", "Van"]
    assert len(set(colors.values())) == 3
    assert colors["Car"] == tuple(classes.colors[classes.names.index("car") + 1].tolist())


def test_boxes_of_datasets_are_drawn_where_there_are_some(tmp_path):
    root = build_kitti_object(tmp_path / "kitti", points=500)
    names = [path.name for path in draw_folder(root, tmp_path / "pictures")]
    assert names == ["projection_depth.png", "boxes_images.png", "boxes_above.png"]
    for name in names:
        with Image.open(tmp_path / "pictures" / name) as picture:
            assert np.asarray(picture).any()
    cameras = NuScenesConfig(root=build_nuscenes(tmp_path / "nuscenes", boxes=2), version="v1.0-mini")
    written = draw_boxes(cameras.open(SplitConfig(split="all")), tmp_path / "more", frames=1)
    assert [path.name for path in written] == ["boxes_images.png", "boxes_above.png"]
    (root / "training" / "label_2").rename(tmp_path / "elsewhere")
    bare = KittiObjectConfig(root=root).open(SplitConfig(split="all"))
    assert draw_boxes(bare, tmp_path / "none") == []


def test_labelled_and_detected_boxes_stand_side_by_side(tmp_path):
    frame = make_frame(tmp_path, points=300, sizes=((96, 64),) * 2)
    sets = {"labelled": Boxes(np.array([[12.0, 1, 0, 4, 2, 2, 0.4]]), ("Car",)), "SECOND": Boxes(np.zeros((0, 7)), ())}
    pictures = box_pictures(frame, sets, COLORS)
    captions = [picture.caption for picture in pictures]
    assert captions == [
        "Frame frame-0: boxes, labelled.", "Frame frame-0: boxes, SECOND.", "Frame frame-0 from above."
    ]  # fmt: skip
    for picture in pictures:
        Image.open(io.BytesIO(picture.data)).verify()
