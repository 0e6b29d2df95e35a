"""Suppression of boxes that overlap better ones, by the C++ kernels and by PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from builders.boxes import random_boxes, tensors
from olivine.geometry.overlap import iou_bev, nms
from oracles.overlap import suppression_oracle

GOLDEN = Path(__file__).parents[1] / "golden"

on_both_paths = pytest.mark.usefixtures("path")


def settled_by(one, other, threshold):
    iou = iou_bev(one, one).tolist()
    return suppression_oracle(iou, other.tolist(), threshold)


@on_both_paths
@pytest.mark.parametrize("name", ["second", "pv_rcnn", "rpn_train", "rpn_test", "small"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_suppression_keeps_what_the_published_detectors_keep(name, dtype):
    golden = np.load(GOLDEN / "nms.npz")
    score_threshold, iou_threshold, most_in, most_out = golden[f"{name}/config"]
    scores, all_boxes = torch.from_numpy(golden["scores"]), torch.from_numpy(golden["boxes"]).to(dtype)
    rows = scores.argsort(descending=True, stable=True)
    rows = rows[~(scores[rows] < score_threshold)][: int(most_in)]
    kept = rows[nms(all_boxes[rows], scores[rows], iou_threshold)]
    np.testing.assert_array_equal(kept[: int(most_out)], golden[f"{name}/keep"])
    np.testing.assert_array_equal(
        rows[nms(all_boxes[rows], scores[rows], iou_threshold, int(most_out))], golden[f"{name}/keep"]
    )


@on_both_paths
def test_scores_and_thresholds_that_make_no_sense_are_refused():
    for scores in (torch.ones(2), torch.ones(3, 1), torch.ones(3).long(), torch.tensor([1, torch.nan, 2])):
        with pytest.raises(ValueError, match=r"scores are \[3\] numbers for boxes \[3, 7\]; got torch"):
            nms(torch.ones(3, 7), scores, 0.5)
    for threshold in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="iou_threshold is in 0…1"):
            nms(torch.ones(3, 7), torch.ones(3), threshold)


@on_both_paths
@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.1, 0.5, 0.8, 1.0])
def test_suppression_is_greedy(threshold):
    for seed, count in enumerate((1, 5, 63, 64, 65, 130, 700)):
        (rows,) = tensors(random_boxes(count, seed, extent_m=np.sqrt(count)))
        scores = torch.randint(0, 40, (count,), generator=torch.Generator().manual_seed(seed)).double()
        kept = nms(rows, scores, threshold)
        assert kept.tolist() == settled_by(rows, scores, threshold)
        for most in (0, 1, len(kept) // 2, len(kept), count + 5):
            assert nms(rows, scores, threshold, most).tolist() == kept[:most].tolist()


@on_both_paths
def test_a_box_that_is_dropped_drops_none():
    rows = [[float(x), 0, 0, 4, 2, 1, 0] for x in (0, 2, 4)]  # each overlaps its neighbours by a third
    assert nms(*tensors(rows, [3.0, 2, 1]), 0.3).tolist() == [0, 2]
    assert nms(*tensors(rows, [2.0, 3, 1]), 0.3).tolist() == [1]
    assert nms(*tensors(rows, [3.0, 2, 1]), 0.34).tolist() == [0, 1, 2]


@on_both_paths
def test_an_overlap_at_the_threshold_does_not_drop():
    rows = [[0.0, 0, 0, 4, 2, 1, 0], [0, 0, 0, 2, 2, 1, 0]]
    assert nms(*tensors(rows, [1.0, 0]), 0.5).tolist() == [0, 1]
    assert nms(*tensors(rows, [1.0, 0]), np.nextafter(0.5, 0)).tolist() == [0]


@on_both_paths
def test_of_equal_scores_the_first_is_kept_and_infinite_ones_are_scores():
    rows = torch.ones(5, 7)
    assert nms(rows, torch.zeros(5), 0.5).tolist() == [0]
    assert nms(rows, torch.tensor([0, -torch.inf, 2, torch.inf, torch.inf]), 0.5).tolist() == [3]
    assert nms(rows, torch.tensor([0, -torch.inf, 2, torch.inf, torch.inf]), 1.0).tolist() == [3, 4, 2, 0, 1]
    assert nms(rows[:2], torch.tensor([np.nextafter(1.0, 0), 1.0]), 0.5).tolist() == [1]
