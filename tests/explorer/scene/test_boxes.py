"""What is drawn of boxes, superpixels and cameras over images and points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from builders.kitti_detection import FRAMES, tiny_detection
from builders.kitti_object import SIZE, build_kitti_object
from olivine.config import dump, validate
from olivine.data.needs import Inputs
from olivine.detection.config import DetectConfig
from olivine.detection.saved import describe_detector
from olivine.explorer.scene.pictures import LINES, Eye, scene_picture
from olivine.explorer.scene.planes import frustum
from olivine.explorer.stage import FOUND, Stage
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import open_subject
from olivine.explorer.view import View
from olivine.geometry import invert, project, transform_points
from olivine.geometry.edges import camera_edges
from olivine.weights.file import save_weights


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A detector that was never trained, and is sure of everything."""
    root = tmp_path_factory.mktemp("detected")
    recipe = tiny_detection(build_kitti_object(root / "kitti", FRAMES, sizes=(SIZE,), points=2000, superpixels=True))
    recipe["detector"]["selection"] = {"score_threshold": 0.0, "keep": 5}
    config = validate(DetectConfig, recipe, "recipe")
    torch.manual_seed(3)
    detector = config.detector.build(config.backbone, Inputs(config.voxels)).eval()
    bias = next(value for name, value in detector.named_parameters() if name.endswith("conv_cls.bias"))
    torch.nn.init.constant_(bias, 2.0)
    folder = root / "runs" / "detected"
    about = describe_detector(config.detector, config.backbone, Inputs(config.voxels), 1.0)
    save_weights(folder, detector.backbone, about, detector.heads)
    (folder / "config.yaml").write_text(dump(config))
    return Stage(Moments(open_subject([folder])))


def test_labelled_and_found_boxes_are_in_the_scene_and_on_the_images(stage):
    shown = stage.show(View(dots=0.0))
    labelled, found = shown.moment.frame.boxes, shown.moment.answer(stage.moments.networks["detected"]).objects
    assert len(labelled.boxes)
    assert len(found.boxes)
    count = len(labelled.boxes)
    sure = int((found.scores >= 0.3).sum())
    said = f"{sure} objects found (white boxes, score from 0.3 on), {count} labelled (in their classes' colours)"
    assert shown.notes == (said,)
    np.testing.assert_array_equal(shown.boxes.boxes[:count], labelled.boxes)
    np.testing.assert_allclose(shown.boxes.boxes[count:], found.boxes, atol=1e-6)
    assert (shown.box_colors[count:] == FOUND).all()
    assert not (shown.box_colors[:count] == FOUND).all(axis=1).any()
    camera = shown.moment.frame.cameras[0]
    drawn = stage.camera(shown, 0, 2000)
    without = stage.camera(replace(shown, boxes=None, box_colors=None), 0, 2000)
    changed = (drawn != without).any(axis=2)
    edges = camera_edges(shown.boxes.boxes, camera.camera_from_lidar, camera.intrinsics)
    middles = edges.mean(axis=2).reshape(-1, 2)
    inside = np.isfinite(middles).all(axis=1) & (middles > 2).all(axis=1) & (middles < np.array(camera.size) - 3).all(1)
    assert inside.sum() > 5
    for column, row in np.rint(middles[inside]).astype(int):
        assert changed[row - 1 : row + 2, column - 1 : column + 2].any()


def test_superpixels_have_borders_where_they_meet(stage):
    shown = stage.show(View(dots=0.0, superpixels=1.0))
    assert len(shown.notes) == 1  # of the boxes
    bare = replace(shown, boxes=None, box_colors=None)
    plain = stage.camera(replace(bare, view=replace(shown.view, superpixels=0.0)), 0, 2000)
    changed = (stage.camera(bare, 0, 2000) != plain).any(axis=2)
    segments = shown.moment.frame.cameras[0].segments()
    expected = np.zeros(segments.shape, bool)
    for row in range(segments.shape[0]):
        for column in (88, 89, 90, 500, 1241):
            below, right = min(row + 1, segments.shape[0] - 1), min(column + 1, segments.shape[1] - 1)
            own = segments[row, column]
            expected[row, column] = own != segments[below, column] or own != segments[row, right]
            assert changed[row, column] == expected[row, column]
    assert expected.any()
    half = stage.camera(replace(bare, view=replace(shown.view, superpixels=0.5)), 0, 300)
    assert half.shape[1] == 300


def test_a_frustum_ends_at_the_corners_of_its_image(stage):
    camera = stage.moments[0].frame.cameras[0]
    lines = frustum(camera, 6.0)
    place = invert(camera.camera_from_lidar)[:3, 3]
    np.testing.assert_allclose(lines[:4, 0], np.tile(place, (4, 1)), atol=1e-9)
    ends = lines[:4, 1]
    uv, depth_m = project(transform_points(camera.camera_from_lidar, ends), camera.intrinsics)
    left, top, right, bottom = -0.5, -0.5, camera.size[0] - 0.5, camera.size[1] - 0.5
    np.testing.assert_allclose(uv, [(left, top), (right, top), (right, bottom), (left, bottom)], atol=1e-6)
    np.testing.assert_allclose(depth_m, 6.0)
    assert {tuple(end) for end in lines[4:].reshape(-1, 3).round(6)} == {tuple(end) for end in ends.round(6)}


def test_lines_are_drawn_as_far_as_they_are_before_the_eye():
    nowhere = np.zeros((0, 3)), np.zeros((0, 3), np.uint8)
    eye = Eye((-10, 0, 0), (0, 0, 0))
    lines = np.array([[[-20.0, 1, 0], [5, 1, 0]], [[-30, -1, 0], [-20, -1, 0]]])
    rows, columns = np.nonzero((scene_picture(*nowhere, eye, (200, 100), lines_m=lines) == LINES).all(axis=2))
    assert len(rows) > 30
    assert columns.max() < 100  # the one to the left; the other lies behind
