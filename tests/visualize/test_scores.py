"""Scores in words: differences that say how certain they are."""

from __future__ import annotations

import pytest
from scipy import stats

from olivine.visualize.scores import (
    differences_table,
    gains_in_words,
    paired_difference,
    protocol_in_words,
    what_of_seeds,
)

SCORES = {
    "scratch": {"probe": [4.0, 5.0, 4.5], "finetune": [20.0, 21.0, 22.0]},
    "olivine": {"probe": [30.0, 33.0, 31.5], "finetune": [23.0, 20.5, 24.5]},
    "ppkt": {"probe": [20.0, None, 21.0], "finetune": [None, None, 22.5]},
}


def test_differences_are_paired_over_the_seeds() -> None:
    found = paired_difference(SCORES["olivine"]["probe"], SCORES["scratch"]["probe"])
    assert found is not None
    expected = stats.ttest_rel(SCORES["olivine"]["probe"], SCORES["scratch"]["probe"]).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert (found.mean, found.seeds, found.certain) == (pytest.approx(27.0), 3, True)
    # What both seeds have in common cancels: unpaired, the spread of these would hide the difference.
    assert paired_difference([10.0, 50.0, 90.1], [9.0, 49.0, 89.0]).certain


def test_seeds_that_one_of_the_two_lacks_do_not_count() -> None:
    found = paired_difference(SCORES["ppkt"]["probe"], SCORES["scratch"]["probe"])
    assert (found.mean, found.seeds) == (16.25, 2)
    assert paired_difference([None, 1.0], [1.0, None]) is None


def test_one_seed_has_no_interval() -> None:
    found = paired_difference([3.0], [1.0])
    assert (found.interval, found.certain, str(found)) == (None, False, "+2.0 (n = 1, no interval)")
    assert found.as_dict() == {"mean": 2.0, "interval_95": None, "seeds": 1}


def test_the_table_of_differences_has_every_other_arm() -> None:
    head, olivine, ppkt = differences_table(SCORES, "scratch")
    assert head == ["difference to scratch", "probe", "finetune"]
    assert olivine[0] == "olivine"
    assert olivine[1] == "+27.0 [+24.5, +29.5] (n = 3)"
    assert ppkt[2] == "+0.5 (n = 1, no interval)"
    assert differences_table({"scratch": {"probe": [1.0]}}, "scratch") == []


def test_the_headline_says_what_was_gained_and_whether_seeds_may_explain_it() -> None:
    probe, finetune = gains_in_words(SCORES, "scratch")
    assert probe.startswith(
        "probe: olivine gains 27.0 points of mIoU over scratch (31.5 against 4.5); 95 % interval over 3"
    )
    assert probe.endswith(".")
    assert "which holds 0" not in probe
    assert finetune.endswith("which holds 0: seeds may explain it.")
    (lost,) = gains_in_words({"scratch": {"probe": [4.0]}, "a": {"probe": [3.0]}}, "scratch")
    assert lost == (
        "probe: a loses 1.0 points of mIoU against scratch (3.0 against 4.0); "
        "one seed, so nothing says how certain this is."
    )
    assert gains_in_words({"scratch": {"probe": [4.0]}, "a": {"probe": [None]}}, "scratch") == []


def test_a_spread_without_pretraining_says_so() -> None:
    assert what_of_seeds(3) == "mean ± standard deviation over 3 seeds"
    assert what_of_seeds(3, pretrained_once=True).endswith(
        ", spread of downstream seeds only (each arm is pretrained once)"
    )
    assert what_of_seeds(1, pretrained_once=True) == "one seed"


def test_a_protocol_names_its_classes_and_what_its_scores_must_not_be_read_without() -> None:
    split = {"dataset": "d", "frames": 2, "split": "val", "unit": None, "every": 1}
    protocol = {
        "mode": "probe",
        "train": split,
        "scored": split,
        "miou_classes": ["car", "road"],
        "coverage": {"frames": 2, "labelled_frames": 1},
        "shared_scenes": ["a"],
        "pretraining_scenes_scored": ["a"],
    }
    assert protocol_in_words(protocol) == (
        "linear probing on 2 labelled scans of d val, scored on 2 scans of d val; mIoU over 2 classes: car, road; "
        "1 of 2 scored scans have labels; a test of memory: scored on what was trained on; pretraining saw 1 of the "
        "scored scenes without labels"
    )
    detector = {"task": "detection", "mode": "probe", "train": split, "scored": split}
    assert protocol_in_words(detector) == "probing on 2 labelled scans of d val, scored on 2 scans of d val"
