import math

import numpy as np
import pytest
import torch

from builders.detection import golden as golden_of
from builders.second import tensor
from olivine.detectors.pv_rcnn.proposals import Proposals
from olivine.detectors.pv_rcnn.roi_frame import decode_rois, encode_in_rois, in_roi_frame
from olivine.detectors.pv_rcnn.roi_head import RoiOutputs
from olivine.detectors.pv_rcnn.roi_losses import RoiLossConfig, corner_losses, corners_of, roi_losses
from olivine.detectors.pv_rcnn.roi_targets import RoiTargets
from olivine.geometry import corners, limit_period
from oracles.roi_losses import (
    box_one_by_one,
    code_one_by_one,
    corner_loss_one_by_one,
    in_frame_of,
    roi_losses_one_by_one,
)

DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
NAMES = ("loss_roi_scores", "loss_roi_boxes", "loss_roi_corners")


@pytest.fixture(scope="module")
def golden():
    return golden_of("roi_head.npz")


def close(found, expected, tolerance):
    """To the tolerance, of the number or of 1, whichever is more."""
    expected = tensor(expected)
    error = float(((found.detach().double() - expected).abs() / expected.abs().clamp(min=1)).max())
    assert error < tolerance, error


def close_headings(found, expected, tolerance):
    """Boxes whose yaw may be on either side of the cut."""
    close(found[..., :6], expected[..., :6], tolerance)
    assert limit_period(found[..., 6].double() - tensor(expected[..., 6]), 0.5, math.pi).abs().max() < tolerance


@DTYPES
def test_objects_in_the_frame_of_proposals_are_the_published_ones(golden, dtype, tolerance):
    found = in_roi_frame(tensor(golden["canonical/gt"], dtype)[:, :7], tensor(golden["canonical/rois"], dtype))
    close_headings(found, golden["canonical/gt_of_rois"][:, :7], tolerance)
    assert found[:, 6].abs().max() <= math.pi / 2 + tolerance
    if dtype is torch.float64:
        close(found, golden["canonical/gt_of_rois"][:, :7], tolerance)
    drawn = in_roi_frame(
        tensor(golden["targets/gt_of_rois_src"], dtype)[..., :7], tensor(golden["targets/rois"], dtype)
    )
    close_headings(drawn, golden["targets/gt_of_rois"][..., :7], tolerance)


def batch_of(golden, dtype):
    """The reference's outputs, as leaves, and what they are to learn."""
    rois = tensor(golden["targets/rois"], dtype)
    targets = RoiTargets(
        proposals=Proposals(rois, rois[..., 0], torch.from_numpy(golden["targets/roi_labels"])),
        iou=tensor(golden["targets/gt_iou_of_rois"], dtype),
        objects=tensor(golden["targets/gt_of_rois_src"], dtype)[..., :7],
        scores=tensor(golden["targets/rcnn_cls_labels"], dtype),
        learns_box=torch.from_numpy(golden["targets/reg_valid_mask"]).bool(),
    )
    logits = tensor(golden["loss/rcnn_cls"], dtype).view(2, -1).requires_grad_()
    return RoiOutputs(logits, tensor(golden["loss/rcnn_reg"], dtype).view(2, -1, 7).requires_grad_()), targets


@DTYPES
def test_losses_and_their_gradients_are_the_published_ones(golden, dtype, tolerance):
    outputs, targets = batch_of(golden, dtype)
    losses = roi_losses(outputs, targets, RoiLossConfig())
    losses["loss"].backward()
    for ours, theirs in zip(("loss", *NAMES), ("", "_cls", "_reg", "_corner"), strict=True):
        close(losses[ours], golden[f"loss/rcnn_loss{theirs}"], tolerance)
    close(outputs.logits.grad.view(-1, 1), golden["loss/grad_rcnn_cls"], tolerance)
    close(outputs.codes.grad.view(-1, 7), golden["loss/grad_rcnn_reg"], tolerance)


@DTYPES
def test_losses_of_corners_are_the_published_ones(golden, dtype, tolerance):
    boxes, objects = tensor(golden["corner/pred"], dtype), tensor(golden["corner/gt"], dtype)
    close(corner_losses(boxes, objects, 1.0), golden["corner/loss"], tolerance)
    close(corners_of(boxes), golden["corner/pred_corners"], tolerance)


def test_corners_stand_in_the_order_of_the_house(golden):
    boxes = tensor(golden["corner/pred"])
    np.testing.assert_allclose(corners_of(boxes).numpy(), corners(boxes.numpy()), rtol=0, atol=1e-12)


def random_boxes(rng, count):
    centre, size = rng.uniform((-30, -30, -2), (30, 30, 2), (count, 3)), rng.uniform(0.4, 5, (count, 3))
    return np.concatenate([centre, size, rng.uniform(-9, 9, (count, 1))], axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_losses_agree_with_a_sum_of_one_proposal_after_another(seed):
    rng = np.random.default_rng(seed)
    rois, objects = random_boxes(rng, 12), random_boxes(rng, 12)
    objects[:, :3] = rois[:, :3] + rng.normal(0, 0.5, (12, 3))
    logits, codes, scores = rng.normal(0, 2, 12), rng.normal(0, 0.3, (12, 7)), rng.uniform(0, 1, 12)
    learns = rng.uniform(0, 1, 12) < 0.5
    expected = roi_losses_one_by_one(*(v.tolist() for v in (logits, codes, rois, objects, scores, learns)))
    by_frame = [torch.from_numpy(v).unflatten(0, (3, 4)) for v in (logits, codes, rois, objects, scores, learns)]
    logits, codes, rois, objects, scores, learns = by_frame
    proposals = Proposals(rois, rois[..., 0], torch.ones(3, 4, dtype=torch.int64))
    targets = RoiTargets(proposals, scores, objects, scores, learns)
    config = RoiLossConfig(scores=0.5, boxes=2.0, corners=3.0)
    found = roi_losses(RoiOutputs(logits, codes), targets, config)
    weighted = [weight * value for weight, value in zip((0.5, 2, 3), expected, strict=True)]
    assert [float(found[name]) for name in NAMES] == pytest.approx(weighted, rel=1e-10)
    assert float(found["loss"]) == pytest.approx(sum(weighted), rel=1e-10)


def test_frames_and_codes_agree_with_plain_trigonometry():
    rng = np.random.default_rng(0)
    rois, objects, codes = random_boxes(rng, 60), random_boxes(rng, 60), rng.normal(0, 0.4, (60, 7))
    rows = list(zip(rois.tolist(), objects.tolist(), codes.tolist(), strict=True))
    seen = in_roi_frame(torch.from_numpy(objects), torch.from_numpy(rois))
    close_headings(seen, np.array([in_frame_of(roi, truth) for roi, truth, _ in rows]), 1e-12)
    encoded = encode_in_rois(torch.from_numpy(objects), torch.from_numpy(rois))
    close_headings(encoded, np.array([code_one_by_one(roi, truth) for roi, truth, _ in rows]), 1e-12)
    decoded = decode_rois(torch.from_numpy(codes), torch.from_numpy(rois))
    close(decoded, np.array([box_one_by_one(roi, code) for roi, _, code in rows]), 1e-12)
    loss = corner_losses(decoded, torch.from_numpy(objects), 1.0)
    both = zip(decoded.tolist(), objects.tolist(), strict=True)
    close(loss, np.array([corner_loss_one_by_one(box, truth) for box, truth in both]), 1e-12)


def test_decoding_undoes_encoding_up_to_half_a_turn():
    rng = np.random.default_rng(1)
    rois, objects = torch.from_numpy(random_boxes(rng, 200)), torch.from_numpy(random_boxes(rng, 200))
    found = decode_rois(encode_in_rois(objects, rois), rois)
    close_headings(found, objects.numpy(), 1e-10)
    assert corner_losses(found, objects, 1.0).max() < 1e-18


def test_what_a_proposal_sees_does_not_depend_on_where_it_stands():
    """Turning and moving the scene about changes no code, and turns and moves what is decoded."""
    rng = np.random.default_rng(2)
    rois, objects = random_boxes(rng, 30), random_boxes(rng, 30)

    def moved(boxes, turn=1.1, shift=(4, -2, 0.5)):
        x, y = boxes[:, 0], boxes[:, 1]
        centre = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn), boxes[:, 2]], 1)
        return np.concatenate([centre + shift, boxes[:, 3:6], boxes[:, 6:] + turn], axis=1)

    here = encode_in_rois(torch.from_numpy(objects), torch.from_numpy(rois))
    there = encode_in_rois(torch.from_numpy(moved(objects)), torch.from_numpy(moved(rois)))
    torch.testing.assert_close(here, there, rtol=0, atol=1e-10)
    decoded = decode_rois(here, torch.from_numpy(rois)).numpy()
    close(decode_rois(here, torch.from_numpy(moved(rois))), moved(decoded), 1e-10)


def test_a_batch_without_foreground_teaches_scores_alone(golden):
    outputs, targets = batch_of(golden, torch.float64)
    nothing = RoiTargets(
        targets.proposals, targets.iou, targets.objects * 0, targets.scores * 0, torch.zeros_like(targets.learns_box)
    )
    losses = roi_losses(outputs, nothing, RoiLossConfig())
    losses["loss"].backward()
    assert float(losses["loss_roi_boxes"].detach()) == float(losses["loss_roi_corners"].detach()) == 0
    assert not outputs.codes.grad.any()  # they are there, since every loss hangs on every output
    assert outputs.logits.grad.all()


def test_gradients_are_finite_where_box_and_object_coincide():
    boxes = torch.tensor([[10.0, 2, -1, 4, 2, 1.5, 0.3], [0, 0, 0, 0, 0, 0, 0]])
    proposals = Proposals(boxes[None], boxes[None, :, 0], torch.ones(1, 2, dtype=torch.int64))
    learns, logits = torch.tensor([[True, True]]), torch.full((1, 2), 300.0, requires_grad=True)
    codes = torch.zeros(1, 2, 7, requires_grad=True)
    targets = RoiTargets(proposals, learns.float(), boxes[None], torch.zeros(1, 2), learns)
    roi_losses(RoiOutputs(logits, codes), targets, RoiLossConfig())["loss"].backward()
    assert codes.grad.isfinite().all()
    assert logits.grad.isfinite().all()
