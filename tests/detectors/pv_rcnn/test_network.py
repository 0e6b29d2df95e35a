"""The whole of PV-RCNN: the published network's entries, its outputs, and what training and odd frames make of it."""

import numpy as np
import pytest
import torch

from builders.detection import GOLDEN, real_kitti
from builders.detection import golden as golden_of
from builders.pv_rcnn import narrow_config, points_of, small_config, small_network
from builders.second import (
    KITTI_BOUNDS_M,
    KITTI_VOXELS,
    batch_of,
    boxes_of,
    close,
    frame_golden,
    large_golden,
    published_centres,
    random_frame,
)
from olivine.backbones import VoxelNetConfig
from olivine.data.batch import Cloud
from olivine.data.needs import Inputs
from olivine.detectors.parts.selection import SelectionConfig
from olivine.detectors.pv_rcnn import PvRcnnConfig
from olivine.detectors.pv_rcnn.network import raw_points
from olivine.detectors.pv_rcnn.roi_frame import decode_rois
from olivine.detectors.pv_rcnn.roi_targets import RoiTargetConfig
from olivine.testing import DetectorContract

PARTS = {
    "backbone_3d.": "backbone.encoder.",
    "backbone_2d.": "birds_eye.",
    "dense_head.": "anchor_head.",
    "pfe.": "set_abstraction.",
    "point_head.": "keypoint_head.",
    "roi_head.": "roi_head.",
}


def ours(name):
    (theirs,) = (part for part in PARTS if name.startswith(part))
    return PARTS[theirs] + name.removeprefix(theirs)


def test_the_published_network_has_these_entries():
    first, *lines = (GOLDEN / "state_keys_pv_rcnn.txt").read_text().splitlines()
    network = PvRcnnConfig().build(VoxelNetConfig(), Inputs(KITTI_VOXELS))
    assert (
        first == f"# {len(network.state_dict()) + 1} entries, {sum(p.numel() for p in network.parameters())} parameters"
    )
    published = {ours(line.split()[0]): line.partition(" ")[2] for line in lines if not line.startswith("global_step")}
    found = {
        name: f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')}"
        for name, value in network.state_dict().items()
    }
    assert found == published
    assert set(network.heads) == {part.removesuffix(".") for part in PARTS.values()} - {"backbone.encoder"}


def narrow_network(dtype):
    network = narrow_config().build(VoxelNetConfig(), Inputs(KITTI_VOXELS))
    published_centres(network.anchors)
    state = large_golden("pv_rcnn_narrow_state.npz")
    state.pop("global_step")
    network.load_state_dict({ours(key): torch.from_numpy(value) for key, value in state.items()})
    return network.to(dtype).eval()


def check_evaluation(prep, points, golden, dtype, tolerance):
    network = narrow_network(dtype)
    batch = batch_of([(prep["voxel_mean"], prep["voxel_coords_zyx"])], dtype, [points])
    with torch.no_grad():
        first = network.first_stage(batch)
        proposals = network.propose(first.anchors)
        outputs = network.second_stage(first, proposals.boxes)
        boxes = decode_rois(outputs.codes, proposals.boxes)
        (found,) = network.detections_of(proposals, outputs)
    index = torch.from_numpy(golden["anchor_index"]).long()
    close(first.anchors.class_logits[0, index], golden["cls_preds"], tolerance)
    close(network.decoded(first.anchors, 0, index), golden["batch_box_preds"], tolerance)
    keypoints, stable = first.keypoints, torch.from_numpy(golden["keypoint_stable"])
    assert torch.equal(keypoints.xyz_m.double(), torch.from_numpy(points[golden["keypoint_index"], :3]).double())
    close(keypoints.features[stable], golden["point_features_before_fusion"][stable], tolerance)
    close(keypoints.fused[stable], golden["point_features"][stable], tolerance)
    close(first.keypoint_logits.sigmoid()[stable], golden["point_cls_scores"][stable], tolerance)
    assert proposals.labels[0].tolist() == golden["roi_labels"].tolist()
    close(proposals.boxes[0], golden["rois"], tolerance)
    close(proposals.scores[0], golden["roi_scores"], tolerance)
    stable = torch.from_numpy(golden["roi_stable"])
    close(outputs.logits[0, stable], golden["rcnn_cls"][stable, 0], tolerance)
    close(boxes[0, stable], golden["rcnn_boxes"][stable], tolerance)
    assert found.labels.tolist() == golden["pred_labels"].tolist()
    close(found.boxes, golden["pred_boxes"], tolerance)
    close(found.scores, golden["pred_scores"], tolerance)


DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-3)])


@DTYPES
def test_evaluation_of_a_simulated_frame_is_the_published_one(dtype, tolerance):
    prep = golden_of("kitti_prep_sim.npz")
    points = prep["sim_points"][prep["in_range_index"]]
    check_evaluation(prep, points, large_golden("pv_rcnn_narrow_sim.npz"), dtype, tolerance)


@pytest.mark.real
@DTYPES
def test_evaluation_of_a_real_frame_is_the_published_one(dtype, tolerance):
    prep, golden = frame_golden("kitti_prep_000010.npz"), frame_golden("pv_rcnn_narrow_000010.npz")
    file = real_kitti() / "training" / "velodyne" / "000010.bin"
    points = np.fromfile(file, np.float32).reshape(-1, 4)[prep["in_range_index"]]
    check_evaluation(prep, points, golden, dtype, tolerance)


def test_raw_points_are_those_within_the_borders_whatever_their_height():
    low_x, low_y, _, high_x, high_y, _ = KITTI_BOUNDS_M
    inside = [[low_x, low_y, -20], [high_x, high_y, 90], [high_x, 0, 0], [3, high_y, 0], [3, 3, 0]]
    outside = [[-1e-6, 0, 0], [np.nextafter(np.float32(high_x), np.float32(99)), 0, 0], [3, -40.001, 0], [90, 90, 0]]
    points = torch.tensor([*inside[:3], *outside, *inside[3:]], dtype=torch.float32)
    offsets = torch.tensor([0, 4, 4, 7, 9])
    nothing = torch.zeros(0, dtype=torch.int64)
    cloud = Cloud(nothing, nothing, points, nothing, offsets, nothing, intensity=torch.arange(9.0))
    found, intensity, own = raw_points(cloud, KITTI_BOUNDS_M)
    assert intensity[:, 0].tolist() == [0, 1, 2, 7, 8]
    assert torch.equal(found, points[[0, 1, 2, 7, 8]])
    assert own.tolist() == [0, 3, 3, 3, 5]


class TestContract(DetectorContract):
    """What every detector promises."""

    def config(self):
        return small_config(selection=SelectionConfig(score_threshold=None, iou_threshold=0.1))


OBJECTS = np.array([[[4, 2, -1, 3.9, 1.6, 1.56, 0.3, 1], [8, -3, 0, 0.8, 0.6, 1.73, 1.7, 2]]], np.float32)
LOSSES = {"loss_classes", "loss_boxes", "loss_directions", "loss_keypoints", "loss_roi_scores", "loss_roi_boxes"}


def small_batch(*frames, dtype=torch.float32):
    return batch_of(frames, dtype, [points_of(frame) for frame in frames])


def losses_of(network, batch, objects, seed=0):
    """The losses of a batch, drawn by this seed; dropout always drops the same."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(seed)
    return network.train().losses_of_stage(network.first_stage(batch), boxes_of(objects), generator)


def test_the_loss_is_the_sum_of_its_parts_and_reaches_everything():
    generous = RoiTargetConfig(samples=32, hard_iou=0.001, foreground_iou=0.01)
    network, batch = small_network(roi_targets=generous), small_batch(random_frame(0), random_frame(1))
    losses = losses_of(network, batch, np.concatenate((OBJECTS, OBJECTS)))
    assert losses.keys() == {"loss", *LOSSES, "loss_roi_corners"}
    total = sum(value for name, value in losses.items() if name != "loss")
    torch.testing.assert_close(losses["loss"], total)
    losses["loss"].backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_what_is_drawn_follows_from_the_generator_alone():
    network, batch = small_network(), small_batch(random_frame(0))
    one, same, other = (losses_of(network, batch, OBJECTS, seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert torch.equal(one["loss_keypoints"], other["loss_keypoints"])
    assert not torch.equal(one["loss_roi_scores"], other["loss_roi_scores"])


def test_a_batch_of_background_alone_teaches_scores_and_no_boxes():
    network, batch = small_network(), small_batch(random_frame(0), random_frame(1))
    losses = losses_of(network, batch, np.zeros((2, 3, 8), np.float32))
    for name in ("loss_boxes", "loss_directions", "loss_roi_boxes", "loss_roi_corners"):
        assert not losses[name].any()
    losses["loss"].backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    assert not network.roi_head.reg_layers[-1].weight.grad.any()
    assert network.roi_head.cls_layers[-1].weight.grad.any()
    assert network.keypoint_head.cls_layers[-1].weight.grad.any()


@pytest.mark.parametrize("counts", [(1, 300), (0, 300), (0, 0)])
def test_frames_with_fewer_points_than_keypoints_learn_and_are_searched(counts):
    network = small_network()
    batch = small_batch(*(random_frame(seed, count) for seed, count in enumerate(counts)))
    losses = losses_of(network, batch, np.concatenate((OBJECTS, 0 * OBJECTS)))
    losses["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    assert len(network.eval().detections(batch)) == 2


def test_proposals_that_make_up_the_number_are_no_objects():
    network = small_network(selection=SelectionConfig(score_threshold=None, iou_threshold=0.1)).eval()
    batch = small_batch(random_frame(0), random_frame(1))
    with torch.no_grad():
        first = network.first_stage(batch)
        proposals = network.propose(first.anchors)
        assert proposals.boxes[..., 3].min() > 0
        proposals.boxes[1, 3:] = 0
        found = network.detections_of(proposals, network.second_stage(first, proposals.boxes))
    assert 3 < len(found[0]) <= 20
    assert len(found[1]) <= 3
    assert (found[1].boxes[:, 3:6] > 0).all()


def test_a_lower_precision_ends_before_boxes_and_losses():
    network, batch = small_network().eval(), small_batch(random_frame(0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        first = network.first_stage(batch)
        outputs = network.second_stage(first, network.propose(first.anchors).boxes)
    assert {first.keypoint_logits.dtype, outputs.logits.dtype, outputs.codes.dtype} == {torch.float32}


def test_a_network_finds_the_objects_of_the_one_frame_it_has_learned():
    network, batch = small_network(), small_batch(random_frame(0))
    # Fewer steps, or a rate that does not fall, end where the rounding of the weights decides.
    steps, optimizer = 80, torch.optim.Adam(network.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for step in range(steps):
        loss = losses_of(network, batch, OBJECTS, step)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10)
        optimizer.step()
        schedule.step()
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            norm.momentum = 1.0
    with torch.no_grad():
        losses_of(network, batch, OBJECTS)
        (found,) = network.eval().detections(batch)
    assert found.labels[:2].sort().values.tolist() == [1, 2]
    truth = torch.from_numpy(OBJECTS[0, found.labels[:2] - 1, :7])
    assert (found.boxes[:2, :6] - truth[:, :6]).abs().max() < 0.4
    assert found.scores[:2].min() > 0.3  # after a few steps of the thousands
