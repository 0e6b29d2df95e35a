"""The keypoint head against the published implementation, and its labels at the borders of objects."""

import numpy as np
import pytest
import torch

from builders.detection import GOLDEN, golden
from olivine.data.batch import Boxes
from olivine.detectors.pv_rcnn.keypoint_head import KeypointHead, KeypointHeadConfig
from olivine.detectors.pv_rcnn.set_abstraction import Keypoints


@pytest.fixture(scope="module")
def reference():
    return golden("point_head.npz")


def head_of(reference, dtype=torch.float64):
    state = {key.removeprefix("state/"): torch.from_numpy(v) for key, v in reference.items() if key[:6] == "state/"}
    channels = tuple(len(state[f"cls_layers.{layer}.weight"]) for layer in (0, 3))
    head = KeypointHead(reference["features"].shape[1], KeypointHeadConfig(channels=channels))
    head.load_state_dict(state)
    return head.to(dtype)


def keypoints_of(reference, dtype=torch.float64):
    coords, features = (torch.from_numpy(reference[key]).to(dtype) for key in ("coords", "features"))
    offsets = torch.tensor([0, int((coords[:, 0] == 0).sum()), len(coords)])
    return Keypoints(coords[:, 1:].contiguous(), offsets, features.requires_grad_(), features)


def boxes_of(values, frame):
    """Boxes of one class."""
    frame = torch.as_tensor(frame, dtype=torch.int64)
    values = torch.as_tensor(values, dtype=torch.float32).reshape(-1, 7)
    return Boxes(values, torch.ones_like(frame), torch.zeros_like(frame), frame)


def golden_boxes(reference):
    rows = torch.from_numpy(reference["gt_boxes"])
    real = rows[..., 7] > 0
    return boxes_of(rows[real][:, :7], real.nonzero()[:, 0])


def test_scores_and_labels_are_the_published_ones(reference):
    head, keypoints = head_of(reference).eval(), keypoints_of(reference)
    scores = head(keypoints).sigmoid()
    np.testing.assert_allclose(scores.detach(), reference["eval_scores"], rtol=0, atol=1e-9)
    single = head_of(reference, torch.float32).eval()(keypoints_of(reference, torch.float32)).sigmoid()
    np.testing.assert_allclose(single.detach(), reference["eval_scores"], rtol=0, atol=1e-5)
    labels = head.labels(keypoints, golden_boxes(reference))
    np.testing.assert_array_equal(labels, reference["labels"])
    assert set(reference["labels"]) == {-1, 0, 1}


def test_a_training_step_is_the_published_one(reference):
    head, keypoints = head_of(reference).train(), keypoints_of(reference)
    logits = head(keypoints)
    np.testing.assert_allclose(logits.detach(), reference["train_preds"][:, 0], rtol=0, atol=1e-9)
    logits.retain_grad()
    labels = head.labels(keypoints, golden_boxes(reference))
    assert int((labels == 1).sum()) == int(reference["num_positive"])
    loss = head.loss(logits, labels)
    np.testing.assert_allclose(loss.item(), reference["loss"], rtol=1e-9)
    loss.backward()
    np.testing.assert_allclose(logits.grad, reference["grad_preds"][:, 0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(keypoints.features.grad, reference["grad_features"], rtol=0, atol=1e-9)
    for name, parameter in head.named_parameters():
        np.testing.assert_allclose(parameter.grad, reference[f"grad/{name}"], rtol=0, atol=1e-9, err_msg=name)


def at(points, frame_sizes=None):
    """Keypoints at places [P, 3], of one frame or of several."""
    xyz = torch.tensor(points, dtype=torch.float64).reshape(-1, 3)
    offsets = torch.tensor((0, *(frame_sizes or (len(xyz),)))).cumsum(0)
    features = torch.zeros(len(xyz), 4, dtype=torch.float64, requires_grad=True)
    return Keypoints(xyz, offsets, features, features)


@pytest.fixture
def small():
    torch.manual_seed(0)
    return KeypointHead(4, KeypointHeadConfig(channels=(3,))).double()


def test_labels_at_the_faces_of_a_box(small):
    box = boxes_of([10, 0, 0, 4, 2, 1, 0], [0])
    places = {
        (12.000009, 0, 0): 1,  # the margin of 1e-5 m along x and y
        (12.00002, 0, 0): -1,
        (10, -1.000009, 0): 1,
        (10, 0, 0.5): 1,  # z with its border, without a margin
        (10, 0, 0.500001): -1,
        (12.1, 0, 0): -1,  # half of the rim's 0.2 m at either end
        (12.10002, 0, 0): 0,
        (10, 1.1, 0.6): -1,
        (10, 0, 0.61): 0,
        (8.7, 0.9, -0.4): 1,
    }
    assert small.labels(at(list(places)), box).tolist() == list(places.values())


def test_labels_follow_the_heading_and_an_object_beside_another_wins_over_its_rim(small):
    across = boxes_of([[0, 0, 0, 4, 1, 1, np.pi / 2], [0.9, 0, 0, 1, 1, 1, 0]], [0, 0])
    assert small.labels(at([[0, 1.9, 0], [1.9, 0, 0], [0.55, 0, 0], [0.55, 0.9, 0]]), across).tolist() == [1, 0, 1, -1]


def test_objects_of_other_frames_are_not_seen(small):
    middle = [[0, 0, 0]] * 5
    boxes = boxes_of([[0, 0, 0, 1, 1, 1, 0], [5, 0, 0, 1, 1, 1, 0]], [1, 3])
    assert small.labels(at(middle, (1, 2, 0, 2)), boxes).tolist() == [0, 1, 1, 0, 0]


@pytest.mark.parametrize("points", [0, 1, 3])
def test_without_objects_every_keypoint_is_background(small, points):
    keypoints = at([[1, 2, 3]] * points)
    labels = small.labels(keypoints, boxes_of([], []))
    assert labels.tolist() == [0] * points
    loss = small.loss(small(keypoints), labels)
    loss.backward()
    assert bool(loss.isfinite())
    assert (loss.item() > 0) == (points > 0)


def test_the_loss_is_divided_by_the_keypoints_in_objects_of_the_whole_batch(small):
    logits = torch.tensor([0.3, -1.2, 2, 0.7], dtype=torch.float64)
    labels = torch.tensor([1, 1, 0, -1])
    p = logits.sigmoid()
    wanted = -0.25 * ((1 - p[:2]) ** 2 * p[:2].log()).sum() - 0.75 * p[2] ** 2 * (1 - p[2]).log()
    torch.testing.assert_close(small.loss(logits, labels), wanted / 2)
    empty = -0.75 * p[2] ** 2 * (1 - p[2]).log()
    three = KeypointHead(4, KeypointHeadConfig(weight=3))
    torch.testing.assert_close(three.loss(logits[2:], labels[2:]), 3 * empty)


def test_names_and_sizes_are_the_published_ones():
    lines = (GOLDEN / "state_keys_pv_rcnn.txt").read_text().splitlines()
    wanted = [line.removeprefix("point_head.").rsplit(" ", 1)[0] for line in lines if line.startswith("point_head.")]
    state = KeypointHead(640, KeypointHeadConfig()).state_dict()
    assert [f"{name} {list(value.shape)}" for name, value in state.items()] == wanted
