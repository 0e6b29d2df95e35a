from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from olivine.errors import UserError
from olivine.segmentation.iou import ConfusionMatrix
from oracles.iou import accuracy_oracle, frequency_weighted_iou_oracle, iou_oracle

NAMES = ("car", "road", "tree", "person", "sign")


def points(seed: int, count: int, classes: int, *, absent: tuple[int, ...] = ()) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    kept = [c for c in range(classes + 1) if c not in absent]
    labels = rng.choice(kept, count)
    predictions = np.where(rng.random(count) < 0.6, labels, rng.choice(kept, count))
    return torch.from_numpy(predictions.astype(np.uint8)), torch.from_numpy(labels.astype(np.uint8))


@pytest.mark.parametrize("absent", [(), (3,), (1, 5)])
def test_scores_equal_counting_points_one_by_one(absent: tuple[int, ...]) -> None:
    predictions, labels = points(len(absent), 400, 5, absent=absent)
    matrix = ConfusionMatrix(5)
    matrix.update(predictions, labels)
    scores = matrix.scores(NAMES)
    expected = iou_oracle(predictions.tolist(), labels.tolist(), 5)
    for c, value in expected.items():
        assert math.isnan(scores.iou[c - 1]) if value is None else scores.iou[c - 1] == pytest.approx(float(value))
    present = [float(value) for value in expected.values() if value is not None]
    assert scores.miou == pytest.approx(sum(present) / len(present))
    assert scores.accuracy == pytest.approx(float(accuracy_oracle(predictions.tolist(), labels.tolist())))
    weighted = frequency_weighted_iou_oracle(predictions.tolist(), labels.tolist(), 5)
    assert scores.frequency_weighted_iou == pytest.approx(float(weighted))


def test_a_class_that_is_only_predicted_scores_zero_and_counts_in_the_mean() -> None:
    matrix = ConfusionMatrix(3)
    matrix.update(torch.tensor([1, 2]), torch.tensor([1, 1]))
    scores = matrix.scores(NAMES[:3])
    assert scores.iou[:2].tolist() == [0.5, 0.0]
    assert math.isnan(scores.iou[2])
    assert scores.miou == 0.25


def test_reference_compatible_scores_absent_classes_one_and_is_not_the_default() -> None:
    matrix = ConfusionMatrix(4)
    matrix.update(torch.tensor([1, 2]), torch.tensor([1, 1]))
    assert matrix.scores(NAMES[:4]).miou == 0.25
    published = matrix.scores(NAMES[:4], reference_compatible=True)
    assert published.iou.tolist() == [0.5, 0.0, 1.0, 1.0]
    assert published.miou == 0.625
    assert published.frequency_weighted_iou == 0.5


def test_predictions_on_ignored_points_do_not_count() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([2, 2, 1]), torch.tensor([0, 0, 1]))
    assert matrix.counts.tolist() == [[0, 1, 0], [0, 0, 0]]


def test_a_point_without_a_prediction_is_wrong_for_its_class_and_for_no_other() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([0, 1, 2]), torch.tensor([1, 1, 2]))
    scores = matrix.scores(NAMES[:2])
    assert scores.iou.tolist() == [0.5, 1.0]
    assert scores.accuracy == pytest.approx(2 / 3)


def test_counting_in_pieces_equals_counting_at_once() -> None:
    predictions, labels = points(9, 1000, 5)
    whole, pieces = ConfusionMatrix(5), ConfusionMatrix(5)
    whole.update(predictions, labels)
    for start in range(0, 1000, 137):
        pieces.update(predictions[start : start + 137], labels[start : start + 137])
    pieces.update(predictions[:0], labels[:0])
    assert torch.equal(whole.counts, pieces.counts)


def test_counts_stay_exact_beyond_what_single_precision_holds() -> None:
    matrix = ConfusionMatrix(2)
    matrix.counts += torch.tensor([[0, 2**24, 0], [0, 0, 2**40]])
    matrix.update(torch.tensor([1]), torch.tensor([1]))
    matrix.update(torch.tensor([1]), torch.tensor([2]))
    assert matrix.counts.tolist() == [[0, 2**24 + 1, 0], [0, 1, 2**40]]
    scores = matrix.scores(NAMES[:2])
    assert scores.iou[0] == (2**24 + 1) / (2**24 + 2)
    assert scores.points.tolist() == [2**24 + 1, 2**40 + 1]


def test_nothing_labelled_gives_no_score_rather_than_a_number() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([1, 2]), torch.tensor([0, 0]))
    scores = matrix.scores(NAMES[:2])
    assert math.isnan(scores.miou)
    assert math.isnan(scores.accuracy)
    assert scores.as_dict()["miou"] is None


@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [([1, 2], [1], "2 predictions for 1 labels"), ([4], [1], "prediction"), ([1], [255], "label"), ([-1], [1], "0…3")],
)
def test_what_cannot_be_counted_is_refused(predictions: list[int], labels: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ConfusionMatrix(3).update(torch.tensor(predictions), torch.tensor(labels))


def test_scores_are_written_in_percent_with_none_for_absent_classes() -> None:
    matrix = ConfusionMatrix(3)
    matrix.update(torch.tensor([1, 2, 2, 2]), torch.tensor([1, 1, 2, 2]))
    scores = matrix.scores(NAMES[:3])
    content = json.loads(json.dumps(scores.as_dict(), allow_nan=False))
    assert content["iou"] == {"car": 50.0, "road": pytest.approx(200 / 3), "tree": None}
    assert content["points"] == {"car": 2, "road": 2, "tree": 0}
    table = scores.table()
    assert [line.split() for line in table.splitlines()[1:4]] == [
        ["car", "50.00", "2"],
        ["road", "66.67", "2"],
        ["tree", "–", "0"],
    ]
    assert "mIoU" in table
