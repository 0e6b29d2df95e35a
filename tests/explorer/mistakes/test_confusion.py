from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from olivine.data.loader import Loader
from olivine.data.needs import Needs
from olivine.data.prepare import Prepare
from olivine.errors import UserError
from olivine.explorer.mistakes.clusters import REACH_M
from olivine.explorer.mistakes.confusion import Confusion
from olivine.explorer.mistakes.survey import Survey
from olivine.explorer.mistakes.versus import Versus
from olivine.explorer.subject.moments import Moment, Moments
from olivine.explorer.subject.networks import Answer
from olivine.explorer.subject.opening import open_subject
from olivine.segmentation.evaluate import evaluate
from olivine.segmentation.task import SegmentationTask
from oracles.clusters import clusters as slow_clusters
from oracles.clusters import confusion as slow_confusion


@pytest.fixture(scope="module")
def moments(root):
    street, runs = root / "datasets" / "street", root / "runs"
    return Moments(open_subject([street, runs / "segmenter", runs / "pretraining"]))


@pytest.fixture(scope="module")
def network(moments):
    return moments.networks["segmenter"]


def posed(moments, network, seed, near=True):
    """A moment with labels of three classes, and an answer that is often wrong, close together so that some touch."""
    rng, moment = np.random.default_rng(seed), moments[0]
    count, classes = len(moment.frame.points_lidar_m), 16
    points = moment.frame.points_lidar_m * np.float32(0.2 if near else 1)
    labels = rng.integers(0, 4, count).astype(np.uint8)
    guess = rng.dirichlet(np.full(classes, 0.2), count).astype(np.float32)
    guess[np.arange(count), rng.integers(0, 3, count)] += 1
    guess /= guess.sum(axis=1, keepdims=True)
    inside = rng.random(count) < 0.9
    guess[~inside] = 0
    answer = Answer(np.zeros((count, 2), np.float32), inside, {}, guess, network.model.classes)
    return Moment(seed, replace(moment.frame, labels=labels, points_lidar_m=points)), answer


def test_the_matrix_is_that_of_olivine_segment(moments, network):
    table = Confusion(moments, network)
    for place, found in Survey(moments, [network], table.look):
        table.add(place, found)
    model = network.model
    loader = Loader(moments.dataset, Prepare(model.voxels, needs=Needs(labels=True)), batch_size=2, shuffle=False)
    scored = evaluate(SegmentationTask(model.network, model.head), loader, len(table.names))
    np.testing.assert_array_equal(table.counts, scored.counts.numpy())
    assert table.counts.sum() > 500
    said = scored.coverage()
    assert (table.frames, table.labelled, table.points) == (said["frames"], said["labelled_frames"], said["points"])


def test_every_cell_knows_its_points_frames_and_clusters(moments, network):
    table, slow, shares, groups = Confusion(moments, network, kept=1000), Counter(), {}, {}
    for seed in range(3):
        moment, answer = posed(moments, network, seed)
        table.add(seed, table.look(moment, answer))
        labels, predicted = moment.frame.labels, answer.in_classes_of(moments.dataset.classes)
        here = slow_confusion(labels, predicted)
        slow += here
        for cell, points in here.items():
            shares.setdefault(cell, []).append((seed, points, int((labels == cell[0]).sum())))
        wrong = np.flatnonzero((labels != 0) & (labels != predicted))
        pairs = list(zip(labels[wrong].tolist(), predicted[wrong].tolist(), strict=True))
        for rows in slow_clusters(moment.frame.points_lidar_m[wrong], pairs, REACH_M):
            at = wrong[sorted(rows)]
            groups.setdefault(pairs[min(rows)], []).append((seed, int(at[0]), len(at)))
    for cell in table.cells():
        key = (cell.truth, cell.predicted)
        total = sum(points for (truth, _), points in slow.items() if truth == cell.truth)
        assert cell.points == slow[key] == table.counts[cell.truth - 1, cell.predicted]
        assert cell.share == pytest.approx(slow[key] / total)
        frames = [(each.frame, each.points, each.of) for each in table.worst_frames(*key)]
        assert frames == sorted(shares[key], key=lambda each: (-each[1], each[0]))
        found = table.worst_clusters(*key)
        assert {(each.frame, each.row, each.points) for each in found} == set(groups[key])
        assert [each.badness for each in found] == sorted((each.badness for each in found), reverse=True)
    cells = table.cells()
    assert {(cell.truth, cell.predicted) for cell in cells} == {key for key in slow if key[0] != key[1]}
    assert [cell.points for cell in cells] == sorted((cell.points for cell in cells), reverse=True)
    assert any(cell.predicted == 0 for cell in cells)
    assert max(each[2] for places in groups.values() for each in places) > 3
    assert table.name(0) == "none"


def test_what_is_kept_does_not_depend_on_the_order_and_is_bounded(moments, network):
    def fill(order):
        table = Confusion(moments, network, kept=2)
        for seed in order:
            table.add(seed, table.look(*posed(moments, network, seed)))
        return [(table.worst_frames(c.truth, c.predicted), table.worst_clusters(c.truth, c.predicted))
                for c in table.cells()]  # fmt: skip

    forth = fill(range(5))
    assert forth == fill([3, 1, 4, 0, 2])
    assert max(len(clusters) for _, clusters in forth) == max(len(frames) for frames, _ in forth) == 2


def test_a_frame_without_labels_counts_as_seen_alone(moments, network):
    moment, answer = posed(moments, network, 0)
    table = Confusion(moments, network)
    table.add(0, table.look(Moment(0, replace(moment.frame, labels=None)), answer))
    assert (table.frames, table.labelled, table.counts.sum()) == (1, 0, 0)
    assert table.points == len(moment.frame.points_lidar_m)
    with pytest.raises(UserError, match="strange ids"):
        table.look(Moment(0, replace(moment.frame, label_fault="strange ids")), answer)


def test_without_classes_of_a_dataset_the_weak_labels_are_compared_with(moments, network, monkeypatch):
    moment = Moment(0, replace(moments[0].frame, labels=None))
    answer = moment.answer(network)
    bare = replace(moments.dataset.classes, names=())
    monkeypatch.setattr(moments.dataset, "classes", bare)
    table = Confusion(moments, network)
    assert table.weak
    assert table.names == network.model.classes.names
    table.add(0, table.look(moment, answer))
    car = table.names.index("car") + 1
    known = moment.weak == moments.dataset.manifest.classes.index("car")
    assert table.counts.sum(axis=1)[car - 1] == known.sum() > 0


def test_where_no_frame_has_labels_the_weak_ones_are_compared_with_and_else_not(moments, network, monkeypatch):
    whole = moments.dataset[0]
    frames = [replace(whole, labels=None)] * 3
    monkeypatch.setattr(moments, "glimpse", lambda place: Moment(place, [*frames, whole][place]))
    assert not Confusion(moments, network).weak
    assert not Versus(moments, network, network).weak
    frames.append(frames[0])
    table, duel = Confusion(moments, network), Versus(moments, network, network)
    assert (table.weak, duel.weak) == (True, True)
    answer = moments[0].answer(network)
    known = table.look(Moment(0, frames[0]), answer).counts.sum()
    assert known == duel.look(Moment(0, frames[0]), answer, answer).counts.sum() > 0
    assert not table.look(Moment(0, whole), answer).counts.any()  # labels of two kinds are not added up


def test_what_cannot_be_compared_is_said(moments, network, monkeypatch):
    with pytest.raises(UserError, match="predicts no classes"):
        Confusion(moments, moments.networks["pretraining"])
    monkeypatch.setattr(moments.dataset, "classes", replace(moments.dataset.classes, names=()))
    monkeypatch.setattr(moments.dataset, "manifest", None)
    with pytest.raises(UserError, match="neither labels nor masks"):
        Confusion(moments, network)
