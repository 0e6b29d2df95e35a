import numpy as np
import pytest
import torch
from pydantic import ValidationError

from builders.detection import golden as golden_of
from builders.second import KITTI_BOUNDS_M, KITTI_MAP
from olivine.detectors.parts.anchors import KITTI_ANCHORS, AnchorConfig, Anchors


@pytest.fixture(scope="module")
def golden():
    return golden_of("anchors.npz")


def test_the_anchors_of_kitti_are_the_published_ones(golden):
    anchors = Anchors(KITTI_ANCHORS, KITTI_BOUNDS_M, KITTI_MAP)
    boxes = anchors.boxes.numpy()
    assert boxes.dtype == np.float32
    assert len(boxes) == len(anchors) == 211_200
    np.testing.assert_allclose(anchors.x_m, golden["x_centres"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(anchors.y_m, golden["y_centres"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(boxes[golden["sample_index"]], golden["sample"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(boxes[:12], golden["first"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(boxes[-12:], golden["last"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(boxes.astype(np.float64).sum(0), golden["column_sum_f64"], rtol=1e-6, atol=0.5)
    squares = (boxes.astype(np.float64) ** 2).sum(0)
    np.testing.assert_allclose(squares, golden["column_sumsq_f64"], rtol=1e-6, atol=0.5)


def test_the_anchors_of_another_range_are_the_published_ones(golden):
    low, high = golden["narrow_range"][:3], golden["narrow_range"][3:]
    anchors = Anchors(KITTI_ANCHORS, [*low.tolist(), *high.tolist()], tuple(golden["narrow_shape"][1:3].tolist()))
    np.testing.assert_allclose(anchors.x_m, golden["narrow_x_centres"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(anchors.y_m, golden["narrow_y_centres"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(anchors.boxes[:12], golden["narrow_first"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(anchors.boxes[-12:], golden["narrow_last"], rtol=0, atol=1e-5)


def test_anchors_are_no_part_of_a_state_and_move_with_it():
    anchors = Anchors(KITTI_ANCHORS, KITTI_BOUNDS_M, (2, 3))
    assert anchors.state_dict() == {}
    assert anchors.double().boxes.dtype == torch.float64
    assert anchors.per_pixel == 6


def test_a_map_of_one_pixel_has_its_anchors_at_the_lower_border():
    assert Anchors(KITTI_ANCHORS[:1], KITTI_BOUNDS_M, (1, 1)).boxes[:, :2].tolist() == [[0, -40]] * 2


def test_thresholds_in_the_wrong_order_are_refused():
    with pytest.raises(ValidationError, match=r"negative_iou=0.7 is above positive_iou=0.6"):
        AnchorConfig(category="Car", size_m=(4, 2, 2), bottom_m=-1, positive_iou=0.6, negative_iou=0.7)
