import math

import pytest
import torch

from builders.detection import golden as golden_of
from builders.second import tensor
from olivine.detectors.parts.selection import SelectionConfig, candidates, suppress
from olivine.errors import UserError


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["second", "pv_rcnn", "rpn_train", "rpn_test", "small"])
def test_the_published_boxes_are_kept(name, dtype):
    golden = golden_of("nms.npz")
    threshold, iou, count, keep = golden[f"{name}/config"].tolist()
    config = SelectionConfig(
        score_threshold=None if math.isnan(threshold) else threshold,
        iou_threshold=iou,
        candidates=int(count),
        keep=int(keep),
    )
    boxes, scores = tensor(golden["boxes"], dtype), tensor(golden["scores"], dtype)
    rows = candidates(scores, config)
    kept = rows[suppress(boxes[rows], scores[rows], config)]
    assert kept.tolist() == golden[f"{name}/keep"].tolist()


def test_candidates_stand_in_the_order_of_their_scores_and_rows():
    scores = torch.tensor([0.3, 0.7, 0.05, 0.3, 0.1, 0.7])
    assert candidates(scores, SelectionConfig()).tolist() == [1, 5, 0, 3, 4]
    assert candidates(scores, SelectionConfig(candidates=3)).tolist() == [1, 5, 0]
    assert candidates(scores - 5, SelectionConfig(score_threshold=None)).tolist() == [1, 5, 0, 3, 4, 2]
    assert candidates(scores[:0], SelectionConfig()).tolist() == []


def test_classes_suppress_each_other_and_only_so_many_are_kept():
    boxes = torch.tensor([[10.0 * (row // 2), 0, 0, 4, 2, 1.5, 0] for row in range(8)])
    scores = torch.linspace(0.9, 0.2, 8)
    assert suppress(boxes, scores, SelectionConfig()).tolist() == [0, 2, 4, 6]
    assert suppress(boxes, scores, SelectionConfig(keep=3)).tolist() == [0, 2, 4]
    assert suppress(boxes[:0], scores[:0], SelectionConfig()).tolist() == []


@pytest.mark.parametrize("wrong", [math.inf, -math.inf, math.nan])
def test_a_box_that_overflowed_is_refused_in_one_line(wrong):
    boxes = torch.tensor([[0.0, 0, 0, 4, 2, 1, 0], [9.0, 0, 0, 4, wrong, 1, 0]])
    with pytest.raises(UserError, match="boxes are not finite") as caught:
        suppress(boxes, torch.tensor([0.9, 0.8]), SelectionConfig())
    assert "\n" not in str(caught.value)
