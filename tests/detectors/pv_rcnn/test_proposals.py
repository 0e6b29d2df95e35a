import numpy as np
import pytest
import torch
from pydantic import ValidationError

from builders.detection import golden as golden_of
from builders.second import tensor
from olivine.detectors.parts.selection import SuppressionConfig
from olivine.detectors.pv_rcnn.proposals import EvaluationProposals, ProposalConfig, TrainingProposals, propose
from olivine.errors import UserError


@pytest.fixture(scope="module")
def golden():
    return golden_of("roi_head.npz")


def proposals_of(boxes, logits, config):
    return propose(logits, lambda frame, rows: boxes[frame, rows], config)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("mode", ["train", "test"])
def test_proposals_are_the_published_ones(golden, mode, dtype, tolerance):
    iou, count, keep = golden[f"{mode}/config"].tolist()
    config = SuppressionConfig(iou_threshold=iou, candidates=int(count), keep=int(keep))
    boxes, logits = tensor(golden["batch_box_preds"], dtype), tensor(golden["batch_cls_preds"], dtype)
    found = proposals_of(boxes, logits, config)
    assert found.labels.tolist() == golden[f"{mode}/roi_labels"].tolist()
    torch.testing.assert_close(found.boxes.double(), tensor(golden[f"{mode}/rois"]), rtol=0, atol=tolerance)
    torch.testing.assert_close(found.scores.double(), tensor(golden[f"{mode}/roi_scores"]), rtol=0, atol=tolerance)


def test_a_frame_with_too_few_is_filled_with_boxes_of_zeros_of_the_first_class():
    boxes = torch.tensor([[10.0, 0, 0, 4, 2, 1.5, 0], [10.1, 0, 0, 4, 2, 1.5, 0], [30, 0, 0, 4, 2, 1.5, 0]])
    logits = torch.tensor([[-3.0, -4], [-9, -8], [-1, -0.5]])
    found = proposals_of(boxes[None], logits[None], EvaluationProposals(keep=4))
    assert found.labels.tolist() == [[2, 1, 1, 1]]
    assert found.scores.tolist() == [[-0.5, -3, 0, 0]]
    assert torch.equal(found.boxes[0, :2], boxes[[2, 0]])
    assert not found.boxes[0, 2:].any()


def test_a_frame_without_anchors_has_zeros_alone():
    found = proposals_of(torch.zeros(2, 0, 7), torch.zeros(2, 0, 3), TrainingProposals(keep=5))
    assert found.boxes.shape == (2, 5, 7)
    assert not found.boxes.any()
    assert found.labels.eq(1).all()


def test_frames_do_not_suppress_each_other_and_nothing_carries_gradients():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(3, 60, 7, generator=generator) * 6 + 0.5
    logits = torch.randn(3, 60, 2, generator=generator).requires_grad_()
    config = EvaluationProposals(iou_threshold=0.3, candidates=40, keep=20)
    together = proposals_of(boxes, logits, config)
    assert not together.scores.requires_grad
    for frame in range(3):
        alone = proposals_of(boxes[frame : frame + 1], logits[frame : frame + 1], config)
        assert torch.equal(alone.boxes[0], together.boxes[frame])
        assert torch.equal(alone.labels[0], together.labels[frame])


def test_only_boxes_that_are_compared_are_decoded():
    asked = []

    def decoded(frame, rows):
        asked.append(rows.tolist())
        return torch.ones(len(rows), 7)

    logits = torch.tensor([[[0.0], [2], [1], [2]]])
    propose(logits, decoded, TrainingProposals(candidates=3))
    assert asked == [[1, 3, 2]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(bad):
    boxes, logits = torch.ones(1, 3, 7), torch.zeros(1, 3, 2)
    logits[0, 1, 1] = bad
    with pytest.raises(UserError, match="class scores are not finite"):
        proposals_of(boxes, logits, EvaluationProposals())
    boxes[0, 2, 4] = bad
    with pytest.raises(UserError, match="boxes are not finite"):
        proposals_of(boxes, torch.zeros(1, 3, 2), EvaluationProposals())


def test_the_published_numbers_are_the_defaults_key_by_key():
    config = ProposalConfig.model_validate({"training": {"keep": 256}})
    assert config.training == TrainingProposals(iou_threshold=0.8, candidates=9000, keep=256)
    assert config.evaluation == EvaluationProposals(iou_threshold=0.7, candidates=1024, keep=100)
    with pytest.raises(ValidationError, match="score_threshold"):
        ProposalConfig.model_validate({"training": {"score_threshold": 0.1}})


def test_proposals_are_drawn_by_rows_of_their_frame():
    boxes = torch.arange(2 * 3 * 7.0).view(2, 3, 7)
    found = proposals_of(boxes, torch.arange(6.0).view(2, 3, 1), EvaluationProposals(keep=3))
    drawn = found.drawn(torch.tensor([[0, 0], [2, 1]]))
    assert torch.equal(drawn.boxes[1], found.boxes[1, [2, 1]])
    assert drawn.scores.tolist() == [[2, 2], [3, 4]]
    assert drawn.labels.shape == (2, 2)
