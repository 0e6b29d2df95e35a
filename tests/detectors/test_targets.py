import time

import numpy as np
import pytest
import torch

from builders.detection import golden as golden_of
from builders.second import KITTI_BOUNDS_M, KITTI_MAP, boxes_of, frame_golden, published_centres, tensor
from olivine.data.batch import Boxes
from olivine.detectors.parts.anchors import KITTI_ANCHORS, AnchorConfig, Anchors
from olivine.detectors.parts.targets import match_anchors
from oracles.anchor_matching import match_one_by_one


@pytest.fixture(scope="module")
def kitti():
    return published_centres(Anchors(KITTI_ANCHORS, KITTI_BOUNDS_M, KITTI_MAP))


def check_frame(golden, anchors, dtype, tolerance):
    targets = match_anchors(anchors.to(dtype), boxes_of(golden["gt_boxes"][None], dtype), 1)
    anchors.float()
    expected = torch.zeros(len(anchors), dtype=torch.int64)
    expected[golden["positive_index"].astype(np.int64)] = torch.from_numpy(golden["positive_class"]).long()
    expected[golden["ignored_index"].astype(np.int64)] = -1
    assert torch.equal(targets.labels[0], expected)
    assert targets.anchor.tolist() == golden["positive_index"].tolist()
    assert (targets.codes - tensor(golden["reg_targets"])).abs().max() < tolerance
    assert targets.directions.tolist() == golden["dir_target"].tolist()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 3e-6)])
def test_a_simulated_frame_has_the_published_targets(kitti, dtype, tolerance):
    check_frame(golden_of("targets_sim.npz"), kitti, dtype, tolerance)


def test_our_own_centres_give_the_same_targets():
    anchors = Anchors(KITTI_ANCHORS, KITTI_BOUNDS_M, KITTI_MAP)
    check_frame(golden_of("targets_sim.npz"), anchors, torch.float64, 3e-6)


@pytest.mark.real
@pytest.mark.parametrize("frame", ["000000", "000008", "000010"])
def test_real_frames_have_the_published_targets(kitti, frame):
    check_frame(frame_golden(f"targets_{frame}.npz"), kitti, torch.float64, 1e-9)


def test_a_batch_with_a_full_frame_one_object_and_none_has_the_published_targets():
    golden = golden_of("targets_batch.npz")
    anchors = published_centres(Anchors(KITTI_ANCHORS, golden["point_cloud_range"].tolist(), (64, 88)), "narrow_")
    targets = match_anchors(anchors, boxes_of(golden["gt_boxes"]), 3)
    expected = torch.zeros(3, len(anchors), dtype=torch.int64)
    for kind, label in (("positive", golden["positive_class"]), ("ignored", -1)):
        index = golden[f"{kind}_batch"].astype(np.int64), golden[f"{kind}_index"].astype(np.int64)
        expected[index] = torch.from_numpy(np.asarray(label)).long()
    assert torch.equal(targets.labels, expected)
    assert targets.frame.tolist() == golden["positive_batch"].tolist()
    assert targets.anchor.tolist() == golden["positive_index"].tolist()
    assert np.abs(targets.codes.numpy() - golden["reg_targets"]).max() < 3e-6


SMALL = (
    AnchorConfig(category="long", size_m=(3, 1.5, 1), bottom_m=0, positive_iou=0.6, negative_iou=0.45),
    AnchorConfig(category="short", size_m=(1, 0.8, 1), bottom_m=0, positive_iou=0.5, negative_iou=0.35),
)


@pytest.mark.parametrize("seed", range(8))
def test_matching_agrees_with_a_search_of_all_pairs(seed):
    """Objects of all sizes, some beyond the border, many on top of each other, some frames empty."""
    generator = torch.Generator().manual_seed(seed)
    anchors = Anchors(SMALL, (0, -4, 0, 8, 4, 1), (9, 11)).double()
    count = 12
    uniform = torch.rand(count, 7, generator=generator, dtype=torch.float64)
    low, span = torch.tensor([-1, -5, 0, 0.05, 0.05, 1, -4]), torch.tensor([10, 10, 1, 4, 4, 1, 8])
    boxes = Boxes(
        values=uniform * span + low,
        label=torch.randint(1, 3, (count,), generator=generator),
        difficulty=torch.zeros(count, dtype=torch.int64),
        frame=torch.randint(0, 4, (count,), generator=generator).sort().values,
    )
    targets = match_anchors(anchors, boxes, 5)
    for frame in range(5):
        mine = boxes.frame == frame
        labels, own = match_one_by_one(anchors.boxes, SMALL, boxes.values[mine], boxes.label[mine])
        assert targets.labels[frame].tolist() == labels
        rows = mine.nonzero()[:, 0].tolist()
        learned = zip(targets.frame.tolist(), targets.anchor.tolist(), targets.box.tolist(), strict=True)
        found = {anchor: box for of, anchor, box in learned if of == frame}
        assert found == {anchor: rows[own[anchor]] for anchor, label in enumerate(labels) if label > 0}


def test_a_batch_without_objects_learns_background():
    anchors = Anchors(SMALL, (0, -4, 0, 8, 4, 1), (9, 11))
    empty = torch.zeros(0, dtype=torch.int64)
    targets = match_anchors(anchors, Boxes(torch.zeros(0, 7), empty, empty, empty), 2)
    assert targets.labels.shape == (2, len(anchors))
    assert not targets.labels.any()
    assert len(targets.anchor) == 0
    assert targets.codes.shape == (0, 7)


def test_a_full_batch_takes_milliseconds(kitti):
    """211 200 anchors, four frames of thirty objects; a table of all pairs takes seconds."""
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(120, 7, generator=generator) * torch.tensor([70, 80, 1, 3.5, 1, 1, 6]) + torch.tensor(
        [0, -40, -2, 0.8, 0.6, 1, -3]
    )
    label = torch.randint(1, 4, (120,), generator=generator)
    boxes = Boxes(values, label, torch.zeros(120, dtype=torch.int64), torch.arange(4).repeat_interleave(30))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        match_anchors(kitti, boxes, 4)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.2
