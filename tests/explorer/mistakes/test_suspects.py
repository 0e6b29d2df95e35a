"""Likely label errors: the score, held against its formula, and that errors which were put in come first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from builders.doubting import AHEAD_M, doubt
from olivine.data.labels import without_classes
from olivine.errors import UserError
from olivine.explorer.mistakes import suspects
from olivine.explorer.mistakes.candidates import Candidate, Labelled, candidates
from olivine.explorer.mistakes.clusters import Cluster
from olivine.explorer.mistakes.survey import Survey
from olivine.explorer.mistakes.suspects import FEW_POINTS, Doubts, LabelErrors, Tables, rank, tables_of
from olivine.explorer.subject.moments import Moment, Moments
from olivine.explorer.subject.opening import open_subject

CAR, TRUCK, WALKER, TREE = 1, 2, 3, 4
LIKELY = np.array([[80, 15, 1, 4], [45, 50, 1, 4], [2, 2, 90, 6], [3, 3, 4, 90]], np.float64) / 100
"""What the network gives, by true class: trucks are as good as cars to it."""
MASKED = np.array([[9, 9, 0, 2], [9, 9, 0, 2], [0, 0, 9, 2], [1, 1, 1, 9]], np.float64)
"""What masks say, by true class."""


def thing(given, mean, points=50, dissent=1.0, masks=(), row=0):
    cluster = Cluster(0, row, points, 0.5, (0, 0, 0), (0, 0, 0))
    return Candidate(cluster, np.arange(row, row + points), given, dissent, np.array(mean), np.array(masks, np.int64))


def by_hand(one, tables):
    """The formula of the module, a sum at a time."""
    points = len(one.rows)
    floored = [np.log((row / row.sum() + 1e-3) / (1 + 1e-3 * len(row))) for row in tables.network]
    masked = [np.log((row / row.sum() + 1e-3) / (1 + 1e-3 * len(row))) for row in tables.masks]
    given, other = one.given - 1, max((k for k in range(4) if k != one.given - 1), key=lambda k: one.mean[k])
    evidence = sum(one.mean[k] * (floored[other][k] - floored[given][k]) for k in range(4))
    if evidence <= 0:
        return 0, other + 1
    evidence += sum(one.masks[m] / points * (masked[other][m] - masked[given][m]) for m in range(4))
    return evidence * one.dissent * points / (points + FEW_POINTS), other + 1


def test_scores_are_those_of_the_formula():
    rng, tables = np.random.default_rng(4), Tables(1e4 * LIKELY, 1e3 * MASKED)
    things = [
        thing(int(rng.integers(1, 5)), rng.dirichlet(np.ones(4)), int(rng.integers(5, 90)), float(rng.uniform(0.5, 1)),
              rng.integers(0, 2, 4) * int(rng.integers(0, 2)), row)
        for row in range(60)
    ]  # fmt: skip
    found = rank(things, tables)
    expected = {one.cluster.row: by_hand(one, tables) for one in things}
    assert len(found) == sum(score > 0 for score, _ in expected.values()) > 10
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for one in found:
        score, proposed = expected[one.candidate.cluster.row]
        assert one.score == pytest.approx(score)
        assert one.proposed == proposed
        total = one.score / one.candidate.dissent * (1 + FEW_POINTS / len(one.candidate.rows))
        assert one.network + one.masks == pytest.approx(total)


def order_of(*things, tables=None):
    return [one.candidate.cluster.row for one in rank(things, tables or Tables(1e4 * LIKELY, np.zeros((4, 0))))]


def test_confusing_what_is_always_confused_is_less_evidence_than_what_never_is():
    sure = [0.9, 0.05, 0.02, 0.03]
    assert order_of(thing(TRUCK, sure, row=0), thing(WALKER, sure, row=1)) == [1, 0]


def test_sure_large_and_unanimous_things_come_before_others():
    sure, unsure = [0.97, 0.01, 0.01, 0.01], [0.4, 0.2, 0.3, 0.1]
    assert order_of(thing(WALKER, unsure, row=0), thing(WALKER, sure, row=1)) == [1, 0]
    assert order_of(thing(WALKER, sure, 6, row=0), thing(WALKER, sure, 60, row=6)) == [6, 0]
    assert order_of(thing(WALKER, sure, dissent=0.6, row=0), thing(WALKER, sure, row=1)) == [1, 0]


def test_masks_speak_for_or_against_a_label_by_what_they_are_worth():
    tables, unsure = Tables(1e4 * LIKELY, 1e3 * MASKED), [0.5, 0.1, 0.3, 0.1]
    for_it, against = (
        thing(WALKER, unsure, masks=(0, 0, 20, 0), row=0),
        thing(WALKER, unsure, masks=(10, 9, 0, 0), row=1),
    )
    silent = thing(WALKER, unsure, masks=(0, 0, 0, 0), row=2)
    assert order_of(for_it, against, silent, tables=tables) == [1, 2]
    assert rank([silent], tables)[0].masks == 0


def test_masks_count_by_the_part_of_the_points_that_they_see_and_not_against_the_network():
    tables, unsure = Tables(1e4 * LIKELY, 1e3 * MASKED), [0.6, 0.1, 0.2, 0.1]
    part, most = thing(WALKER, unsure, masks=(4, 4, 0, 0), row=0), thing(WALKER, unsure, masks=(20, 20, 0, 0), row=1)
    assert order_of(part, most, tables=tables) == [1, 0]
    few, many = rank([part], tables)[0], rank([most], tables)[0]
    assert many.masks == pytest.approx(5 * few.masks)
    against = thing(WALKER, [0.01, 0.01, 0.97, 0.01], masks=(25, 25, 0, 0))
    assert rank([against], tables) == []


def test_what_was_never_seen_is_no_proof():
    never = Tables(np.diag([5.0, 0, 5, 5]), np.zeros((4, 0)))
    (found,) = rank([thing(CAR, [0, 0, 1.0, 0])], never)
    assert found.proposed == WALKER
    assert np.isfinite(found.score)
    assert rank([], never) == []


def world(rng, frames=30, wrong=0.08):
    """Frames of things two metres apart, of a network that sees as `LIKELY` says; some labels are others'."""
    for frame in range(frames):
        true, planted = rng.integers(1, 5, 30), rng.random(30) < wrong
        given = np.where(planted, (true + rng.integers(1, 4, 30) - 1) % 4 + 1, true)
        counts = rng.integers(20, 60, 30)
        at_m = np.repeat(np.stack((3.0 * np.arange(30), np.zeros(30), np.zeros(30)), 1), counts, axis=0)
        seen = np.concatenate(
            [rng.dirichlet(20 * LIKELY[kind - 1], count) for kind, count in zip(true, counts, strict=True)]
        )
        labels = np.repeat(given, counts).astype(np.uint8)
        yield frame, Labelled(at_m, labels, seen.astype(np.float32), np.ones(len(labels), bool)), planted, true


@pytest.fixture(scope="module")
def moments(root):
    return Moments(open_subject([root / "datasets" / "street", root / "runs" / "segmenter"]))


@pytest.fixture
def network(moments):
    return moments.networks["segmenter"]


def test_errors_that_were_put_in_come_first(moments, network):
    found, wrong, rng = LabelErrors(moments, network), set(), np.random.default_rng(0)
    for frame, points, planted, true in world(rng):
        starts = np.flatnonzero(np.diff(points.points_m[:, 0], prepend=-1))
        wrong |= {(frame, int(starts[place]), int(true[place])) for place in np.flatnonzero(planted)}
        found.add(frame, Doubts(tables_of(points), candidates(frame, points)))
    found.add(30, Doubts(None, []))
    ranked = found.ranked(len(wrong))
    named = [(one.candidate.cluster.frame, one.candidate.cluster.row, one.proposed) for one in ranked]
    sure = [one in wrong for one in named]
    assert found.frames == 30
    assert sum(sure[:20]) == 20
    assert sum(sure) / len(wrong) > 0.8


def test_only_so_many_are_kept_and_those_are_the_likeliest(moments, network, monkeypatch):
    whole, kept, rng = LabelErrors(moments, network), LabelErrors(moments, network), np.random.default_rng(0)
    doubts = [Doubts(tables_of(points), candidates(frame, points)) for frame, points, *_ in world(rng)]
    for one in doubts:
        whole.add(0, one)
    monkeypatch.setattr(suspects, "KEPT", 40)
    for one in doubts:
        kept.add(0, one)
        assert len(kept._things) <= 80
    assert [one.candidate.rows.tolist() for one in kept.ranked(20)] == [
        one.candidate.rows.tolist() for one in whole.ranked(20)
    ]


def test_tables_are_sums_of_what_is_known_by_label():
    points = Labelled(
        np.zeros((4, 3), np.float32),
        np.array([1, 1, 2, 0], np.uint8),
        np.array([[0.5, 0.5], [1, 0], [0, 0], [1, 0]], np.float32),
        np.array([True, True, False, True]),
        np.array([2, 255, 0, 0], np.uint8),
        3,
    )
    tables = tables_of(points) + tables_of(points)
    assert tables.network.tolist() == [[3, 1], [0, 0]]
    assert tables.masks.tolist() == [[0, 0, 2], [0, 0, 0]]


def test_a_survey_of_frames_gives_things_with_the_masks_of_their_points(moments, network, monkeypatch):
    doubt(monkeypatch)
    found = LabelErrors(moments, network)
    for place, doubts in Survey(moments, [network], found.look):
        found.add(place, doubts)
    assert found.frames == 4
    assert len(found.ranked()) > 2
    assert any(one.candidate.masks.any() for one in found.ranked())
    for one in found.ranked():
        thing = one.candidate
        moment = moments[thing.cluster.frame]
        assert set(moment.frame.labels[thing.rows]) == {thing.given}
        known = moment.weak[thing.rows]
        assert thing.masks.tolist() == np.bincount(known[known != 255], minlength=len(thing.masks)).tolist()
        assert one.proposed == thing.given % 16 + 1
        assert moment.frame.points_lidar_m[thing.rows, 0].max() > AHEAD_M
    frames = [(moments[place].frame.labels, moments[place].answer(network).inside) for place in range(4)]
    known = sum(((labels != 0) & inside).sum() for labels, inside in frames)
    assert found._tables.network.sum() == pytest.approx(known, rel=1e-4)


def test_probabilities_are_brought_to_the_classes_of_the_dataset_by_their_names(moments, network):
    found, answer = LabelErrors(moments, network), moments[0].answer(network)
    np.testing.assert_array_equal(found._probabilities(answer), answer.probabilities)
    found._place = np.array([2, 2, *[0] * 14])
    brought = found._probabilities(answer)
    np.testing.assert_allclose(brought[:, 1], answer.probabilities[:, :2].sum(axis=1))
    assert not np.delete(brought, 1, axis=1).any()


def test_what_cannot_be_doubted_is_refused(root, moments, network, monkeypatch):
    pretraining = Moments(open_subject([root / "datasets" / "street", root / "runs" / "pretraining"]))
    with pytest.raises(UserError, match="predicts no classes; name a run of `olivine segment`"):
        LabelErrors(pretraining, pretraining.networks["pretraining"])
    frame = moments[0].frame
    strange = Moment(0, replace(frame, label_fault="x.bin: id 99"))
    with pytest.raises(UserError, match="id 99"):
        LabelErrors(moments, network).look(strange, moments[0].answer(network))
    assert LabelErrors(moments, network).look(Moment(0, replace(frame, labels=None)), moments[0].answer(network)) == (
        Doubts(None, [])
    )
    monkeypatch.setattr(moments.dataset, "classes", replace(moments.dataset.classes, names=("a", "b")))
    with pytest.raises(UserError, match="knows none of the classes of nuscenes"):
        LabelErrors(moments, network)
    monkeypatch.setattr(moments.dataset, "classes", without_classes("x"))
    with pytest.raises(UserError, match="have no labels"):
        LabelErrors(moments, network)
