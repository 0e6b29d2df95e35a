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
    predictions[:9] = max(absent, default=1)  # a class without labels is predicted too
    matrix = ConfusionMatrix(5)
    matrix.update(predictions, labels)
    scores = matrix.scores(NAMES)
    expected = iou_oracle(predictions.tolist(), labels.tolist(), 5)
    for c, value in expected.items():
        assert math.isnan(scores.iou[c - 1]) if c in absent else scores.iou[c - 1] == pytest.approx(float(value))
    labelled = [float(expected[c]) for c in expected if c not in absent]
    assert scores.miou == pytest.approx(sum(labelled) / len(labelled))
    assert scores.mean_over == tuple(name for c, name in enumerate(NAMES, 1) if c not in absent)
    assert scores.accuracy == pytest.approx(float(accuracy_oracle(predictions.tolist(), labels.tolist())))
    weighted = frequency_weighted_iou_oracle(predictions.tolist(), labels.tolist(), 5)
    assert scores.frequency_weighted_iou == pytest.approx(float(weighted))


def test_every_network_is_scored_over_the_classes_that_the_labels_have() -> None:
    labels = torch.tensor([1, 1, 1, 1])
    plain, spurious = ConfusionMatrix(3), ConfusionMatrix(3)
    plain.update(torch.tensor([1, 1, 0, 0]), labels)
    spurious.update(torch.tensor([1, 1, 2, 3]), labels)
    for matrix in (plain, spurious):
        scores = matrix.scores(NAMES[:3])
        assert (scores.miou, scores.mean_over) == (0.5, ("car",))
        assert np.isnan(scores.iou).tolist() == [False, True, True]
    assert spurious.scores(NAMES[:3]).predicted.tolist() == [2, 1, 1]


def test_official_rules_are_given_by_name() -> None:
    """IoU by hand: car 2 of 4, road 0 of 1 (predicted alone), tree and person never."""
    matrix = ConfusionMatrix(4)
    matrix.update(torch.tensor([1, 1, 2, 0]), torch.tensor([1, 1, 1, 1]))
    scores = matrix.scores(NAMES[:4])
    official = {name: (score.miou, score.classes) for name, score in scores.official.items()}
    assert official == {
        "nuscenes_devkit": (0.25, 2),
        "semantickitti_api": (0.125, 4),
        "reference_compatible": (0.625, 4),
    }
    assert scores.official["nuscenes_devkit"].frequency_weighted_iou == scores.frequency_weighted_iou == 0.5
    assert scores.official["reference_compatible"].frequency_weighted_iou == 2 / 6
    assert scores.as_dict()["official"]["semantickitti_api"] == {"miou": 12.5, "classes": 4}


def test_reference_compatible_is_the_mean_when_asked_for_and_not_by_default() -> None:
    matrix = ConfusionMatrix(4)
    matrix.update(torch.tensor([1, 2]), torch.tensor([1, 1]))
    assert matrix.scores(NAMES[:4]).miou == 0.5
    published = matrix.scores(NAMES[:4], reference_compatible=True)
    assert (published.miou, published.mean_over) == (0.625, NAMES[:4])
    assert published.frequency_weighted_iou == pytest.approx(1 / 3)
    assert "100 for absent ones: 4 of 4" in published.table()


@pytest.mark.parametrize("seed", range(4))
def test_official_rules_equal_their_definitions_point_by_point(seed: int) -> None:
    predictions, labels = points(seed, 60, 5, absent=(2,) if seed % 2 else (2, 4))
    predictions[: seed + 1] = 4
    matrix = ConfusionMatrix(5)
    matrix.update(predictions, labels)
    iou = iou_oracle(predictions.tolist(), labels.tolist(), 5)
    known = [float(value) for value in iou.values() if value is not None]
    official = matrix.official()
    assert official["nuscenes_devkit"].miou == pytest.approx(sum(known) / len(known))
    assert official["semantickitti_api"].miou == pytest.approx(sum(known) / 5)
    assert official["reference_compatible"].miou == pytest.approx((sum(known) + 5 - len(known)) / 5)


def test_coverage_counts_what_was_there_to_score() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([1, 2, 1]), torch.tensor([1, 0, 0]))
    matrix.saw(2, torch.tensor([1, 0]))
    matrix.saw(1, torch.tensor([0]))
    matrix.saw(4, None)
    assert matrix.coverage() == {"frames": 3, "labelled_frames": 1, "points": 7, "labelled_points": 1}


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
    content = scores.as_dict()
    assert (content["miou"], content["miou_classes"]) == (None, [])
    assert {rule["miou"] for rule in content["official"].values()} == {None}


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
        ["car", "50.00", "2", "1"],
        ["road", "66.67", "2", "3"],
        ["tree", "–", "0", "0"],
    ]
    assert "mIoU is the mean over the classes with labelled points: 2 of 3" in table
