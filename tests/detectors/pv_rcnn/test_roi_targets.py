import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from builders.detection import golden as golden_of
from builders.second import boxes_of, tensor
from olivine.detectors.pv_rcnn.proposals import Proposals
from olivine.detectors.pv_rcnn.roi_targets import (
    RoiTargetConfig,
    draw,
    match_objects,
    sample_targets,
    target_scores,
)
from oracles.overlap import shared_area_oracle
from oracles.roi_sampling import counts_by_the_rule, objects_one_by_one, pools_one_by_one

CONFIG = RoiTargetConfig()
DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])


@pytest.fixture(scope="module")
def golden():
    return golden_of("roi_head.npz")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def objects_in(golden, frame, dtype):
    """The objects of a frame of the reference, [M, 7] and their classes [M]."""
    rows = golden["gt_boxes"][frame]
    rows = tensor(rows[rows[:, 7] > 0], dtype)
    return rows[:, :7], rows[:, 7].long()


def padded(rows, width):
    """Boxes [M, 8] of frames as one array, each frame padded with zeros."""
    return np.stack([np.pad(np.asarray(r).reshape(-1, 8), ((0, width - len(r)), (0, 0))) for r in rows])


@DTYPES
@pytest.mark.parametrize("frame", [0, 1])
def test_every_proposal_has_the_published_object(golden, frame, dtype, tolerance):
    rois, labels = tensor(golden["train/rois"][frame], dtype), torch.from_numpy(golden["train/roi_labels"][frame])
    iou, box = match_objects(rois, labels, *objects_in(golden, frame, dtype))
    expected = tensor(golden[f"sampling/max_iou_{frame}"])
    torch.testing.assert_close(iou.double(), expected, rtol=0, atol=tolerance)
    assert box.tolist() == golden[f"sampling/gt_index_{frame}"].tolist()
    pools = golden[f"sampling/pools_{frame}"].tolist()
    assert [len(pool) for pool in pools_one_by_one(iou.tolist())] == pools


@DTYPES
def test_what_drawn_proposals_learn_is_as_published(golden, dtype, tolerance):
    """From the published draw: a drawing without chance, of every one of those proposals."""
    rois, labels = tensor(golden["targets/rois"], dtype), torch.from_numpy(golden["targets/roi_labels"])
    for frame in range(2):
        objects, classes = objects_in(golden, frame, dtype)
        iou, box = match_objects(rois[frame], labels[frame], objects, classes)
        expected = tensor(golden["targets/gt_iou_of_rois"][frame])
        torch.testing.assert_close(iou.double(), expected, rtol=0, atol=tolerance)
        truth = golden["targets/gt_of_rois_src"][frame]
        assert torch.equal(objects[box].double(), tensor(truth[:, :7]))
        assert classes[box].tolist() == truth[:, 7].tolist()
        scores = target_scores(iou, CONFIG).double()
        torch.testing.assert_close(scores, tensor(golden["targets/rcnn_cls_labels"][frame]), rtol=0, atol=3 * tolerance)
        learns = golden["targets/reg_valid_mask"][frame].astype(bool)
        assert (iou > CONFIG.foreground_iou).tolist() == learns.tolist()


def test_a_draw_of_the_reference_frames_follows_the_rule(golden):
    proposals = Proposals(
        tensor(golden["train/rois"]), tensor(golden["train/roi_scores"]), torch.from_numpy(golden["train/roi_labels"])
    )
    config = RoiTargetConfig(samples=32)
    targets = sample_targets(proposals, boxes_of(golden["gt_boxes"], torch.float64), config, seeded())
    assert targets.objects.shape == (2, 32, 7)
    for frame in range(2):
        wanted = counts_by_the_rule(golden[f"sampling/pools_{frame}"].tolist(), 32)
        assert tuple(len(pool) for pool in pools_one_by_one(targets.iou[frame].tolist())) == wanted
        # The published draw, whose own generator is another, has the same counts.
        published = golden["targets/gt_iou_of_rois"][frame].tolist()
        assert tuple(len(pool) for pool in pools_one_by_one(published)) == wanted
        known = {tuple(row) for row in golden["train/rois"][frame].tolist()}
        assert all(tuple(row) in known for row in targets.proposals.boxes[frame].tolist())
    assert torch.equal(targets.learns_box, targets.iou > 0.55)
    assert torch.equal(targets.scores, target_scores(targets.iou, config))


FOREGROUND, HARD, EASY = (0.55, 0.56, 0.7, 1.0), (0.1, 0.2, 0.3, 0.5499), (0.0, 0.01, 0.05, 0.0999)


def overlaps(sizes, seed=0):
    """Overlaps in a random order, so many of each pool."""
    rng = np.random.default_rng(seed)
    parts = [rng.choice(pool, size) for pool, size in zip((FOREGROUND, HARD, EASY), sizes, strict=True)]
    return torch.from_numpy(rng.permutation(np.concatenate(parts)))


CASES = {
    "only foreground": (30, 0, 0),
    "one foreground": (1, 0, 0),
    "only hard": (0, 40, 0),
    "only easy": (0, 0, 512),
    "hard and easy": (0, 200, 312),
    "few hard": (0, 3, 509),
    "one hard, one easy": (0, 1, 1),
    "much foreground": (300, 100, 112),
    "little foreground": (9, 100, 403),
    "foreground and hard": (100, 7, 0),
    "foreground and easy": (5, 0, 500),
    "foreground and few hard": (80, 2, 430),
}


@pytest.mark.parametrize("samples", [128, 31, 5, 1])
@pytest.mark.parametrize("sizes", CASES.values(), ids=CASES)
def test_so_many_of_each_kind_are_drawn_as_the_rule_says(sizes, samples):
    iou = overlaps(sizes, samples)
    pools = [set(pool) for pool in pools_one_by_one(iou.tolist())]
    assert tuple(map(len, pools)) == sizes
    rows = draw(iou, RoiTargetConfig(samples=samples), seeded()).tolist()
    first, second, third = counts_by_the_rule(sizes, samples)
    assert len(rows) == samples
    assert set(rows[:first]) <= pools[0]
    assert set(rows[first : first + second]) <= pools[1]
    assert set(rows[first + second :]) <= pools[2]
    assert len(rows) - first - second == third
    if second or third:
        assert len(set(rows[:first])) == first  # without repetition


def test_shares_can_be_chosen():
    config = RoiTargetConfig(samples=10, foreground_share=0.25, hard_share=0.5, foreground_iou=0.6, hard_iou=0.2)
    iou = torch.tensor([0.6, 0.61, 0.7, 0.9, 0.59, 0.2, 0.19, 0.0])
    rows = draw(iou, config, seeded()).tolist()
    assert len(set(rows[:2]) & {0, 1, 2, 3}) == 2  # 2.5 is rounded to the even number, as numpy does
    assert set(rows[2:4]) <= {4, 5}  # only two hard ones, which are drawn no more than twice
    assert set(rows[4:]) <= {6, 7}


def test_every_proposal_of_a_pool_is_drawn_as_often_as_the_others():
    iou, counts, rounds = overlaps((16, 10, 10)), torch.zeros(36), 600
    generator, config = seeded(), RoiTargetConfig(samples=16)
    for _ in range(rounds):
        counts += torch.bincount(draw(iou, config, generator), minlength=36)
    for pool, drawn in zip(pools_one_by_one(iou.tolist()), (8, 6, 2), strict=True):
        mean = rounds * drawn / len(pool)
        assert ((counts[pool] - mean).abs() < 5 * math.sqrt(mean)).all()


def test_a_draw_depends_on_its_generator_alone():
    iou = overlaps((50, 50, 50))
    one, same, other = (draw(iou, CONFIG, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    generator = seeded(1)
    draw(iou, CONFIG, generator)
    assert not torch.equal(draw(iou, CONFIG, generator), one)  # the next frame of a batch


def test_frames_without_objects_and_filled_frames_learn_that_nothing_is_there():
    rois = torch.zeros(3, 6, 7)
    rois[:2, :4] = torch.tensor([10.0, 0, 0, 4, 2, 1.5, 0])
    proposals = Proposals(rois, torch.zeros(3, 6), torch.ones(3, 6, dtype=torch.int64))
    car, walker = [10, 0, 0, 4, 2, 1.5, 0, 1], [10, 0, 0, 4, 2, 1.5, 0, 2]
    boxes = boxes_of(padded([[], [walker], [car]], 1), torch.float32)  # none, of another class, all proposals zero
    targets = sample_targets(proposals, boxes, RoiTargetConfig(samples=12), seeded())
    assert not targets.iou.any()
    assert not targets.scores.any()
    assert not targets.learns_box.any()
    assert not targets.objects[0].any()
    assert targets.objects.shape == (3, 12, 7)
    assert targets.proposals.boxes.shape == (3, 12, 7)


def random_boxes(rng, count):
    centre, size = rng.uniform((-3, -3, -0.5), (3, 3, 0.5), (count, 3)), rng.uniform(1, 4, (count, 3))
    return np.concatenate([centre, size, rng.uniform(-9, 9, (count, 1))], axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_objects_agree_with_a_search_of_one_after_another(seed):
    rng = np.random.default_rng(seed)
    rois, objects = random_boxes(rng, 25), random_boxes(rng, 6)
    labels, object_labels = rng.integers(1, 4, 25), rng.integers(1, 3, 6)

    def overlap(row, column):
        a, b = rois[row], objects[column]
        height = min(a[2] + a[5] / 2, b[2] + b[5] / 2) - max(a[2] - a[5] / 2, b[2] - b[5] / 2)
        shared = shared_area_oracle(a, b) * max(0, height)
        return shared / (a[3:6].prod() + b[3:6].prod() - shared)

    tensors = (torch.from_numpy(values) for values in (rois, labels, objects, object_labels))
    iou, box = match_objects(*tensors)
    expected = objects_one_by_one(labels.tolist(), object_labels.tolist(), overlap)
    assert iou.tolist() == pytest.approx([value for value, _ in expected], abs=1e-9)
    hit = (iou > 0).tolist()
    assert [b for b, h in zip(box.tolist(), hit, strict=True) if h] == [
        c for (_, c), h in zip(expected, hit, strict=True) if h
    ]


def test_scores_grow_on_a_line_between_the_two_overlaps():
    iou = torch.tensor([0, 0.2499, 0.25, 0.375, 0.5, 0.75, 0.7501, 1], dtype=torch.float64)
    wanted = torch.tensor([0, 0, 0, 0.25, 0.5, 1, 1, 1], dtype=torch.float64)
    torch.testing.assert_close(target_scores(iou, CONFIG), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("key", ["hard_iou", "zero_score_iou"])
def test_overlaps_out_of_order_are_refused(key):
    with pytest.raises(ValidationError, match=f"{key} is below "):
        RoiTargetConfig(**{key: 0.8})


def test_foreground_just_at_its_overlap_is_drawn_as_such_but_learns_no_box():
    car = [10, 0, 0, 4, 2, 1.5, 0]
    half = torch.tensor([[[10, 0, 0, 2, 2, 1.5, 0], car]], dtype=torch.float64)
    proposals = Proposals(half, half[..., 0], torch.ones(1, 2, dtype=torch.int64))
    config = RoiTargetConfig(samples=8, foreground_iou=0.5)
    targets = sample_targets(proposals, boxes_of([[[*car, 1]]], torch.float64), config, seeded())
    assert targets.iou.unique().tolist() == [0.5, 1]
    assert torch.equal(targets.learns_box, targets.iou == 1)
