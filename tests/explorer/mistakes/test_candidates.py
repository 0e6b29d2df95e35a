"""Things that are doubted: which points they are, held against a slow search, and what is counted of them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from olivine.data.masks import UNKNOWN
from olivine.explorer.mistakes.candidates import CELL_M, LEAST, MOST, Labelled, candidates, doubted


def labelled(points_m, labels, predicted, classes=3, sure=0.8, **others):
    """Points with a network that is so sure of its predictions; 0 is no prediction."""
    count = len(points_m)
    probabilities = np.full((count, classes), (1 - sure) / (classes - 1), np.float32)
    predicted = np.array(predicted, np.int64)
    inside = predicted > 0
    probabilities[np.flatnonzero(inside), predicted[inside] - 1] = sure
    probabilities[~inside] = 0
    return Labelled(np.asarray(points_m, np.float32), np.asarray(labels, np.uint8), probabilities, inside, **others)


def slowly(points):
    """The same by a flood over cells, a dictionary for each label."""
    predicted, found = points.probabilities.argmax(axis=1) + 1, []
    for label in sorted(set(points.labels.tolist()) - {0}):
        cells = {}
        for row in np.flatnonzero((points.labels == label) & points.inside):
            x, y = np.floor(points.points_m[row, :2].astype(np.float64) / CELL_M).astype(int)
            cells.setdefault((x, y), []).append(int(row))
        open_ = {at for at, rows in cells.items() if 2 * sum(predicted[row] != label for row in rows) >= len(rows)}
        while open_:
            waiting, thing = [open_.pop()], []
            while waiting:
                x, y = waiting.pop()
                thing += cells[x, y]
                near = {(x + i, y + j) for i, j in product((-1, 0, 1), repeat=2)} & open_
                open_ -= near
                waiting += near
            found.append(tuple(sorted(thing)))
    return sorted(thing for thing in found if len(thing) >= LEAST)


@pytest.mark.parametrize("seed", range(6))
def test_things_are_those_of_a_flood_over_cells(seed):
    rng = np.random.default_rng(seed)
    points_m = rng.uniform(-6, 6, (900, 3))
    points = labelled(points_m, rng.integers(0, 4, 900), rng.integers(0, 4, 900))
    found = doubted(points)
    assert all((np.diff(rows) > 0).all() for rows in found)
    assert sorted(tuple(rows.tolist()) for rows in found) == slowly(points)
    assert len(found) > 3


def test_a_thing_is_one_however_far_apart_its_beams_are_and_two_labels_are_two():
    tall = np.array([[10, 0.1 * step, height] for step in range(4) for height in (0, 1.5, 3)])
    points = labelled(np.concatenate((tall, tall)), [1] * 12 + [2] * 12, [3] * 24)
    assert [rows.tolist() for rows in doubted(points)] == [list(range(12)), list(range(12, 24))]


def test_a_few_dissenting_points_of_a_thing_are_no_thing():
    at_m = np.tile([[5.0, 5.0, 0.0]], (20, 1))
    assert doubted(labelled(at_m, [1] * 20, [1] * 11 + [2] * 9)) == []
    found = doubted(labelled(at_m, [1] * 20, [1] * 10 + [2] * 10))
    assert [rows.tolist() for rows in found] == [list(range(20))]


def test_what_is_counted_of_a_thing():
    at_m = [[5.0 + 0.1 * step, 5, step] for step in range(10)] + [[-9, 0, 0]]
    weak = np.array([4, 4, 4, 0, UNKNOWN, *[UNKNOWN] * 5, 4], np.uint8)
    points = labelled(at_m, [2] * 11, [1] * 8 + [2] * 3, weak=weak, mask_classes=5)
    (thing,) = candidates(7, points)
    assert (thing.cluster.frame, thing.cluster.row, thing.cluster.points, thing.given) == (7, 0, 10, 2)
    assert thing.rows.tolist() == list(range(10))
    assert thing.dissent == pytest.approx(0.8)
    np.testing.assert_allclose(thing.mean, [0.8 * 0.8 + 0.2 * 0.1, 0.8 * 0.1 + 0.2 * 0.8, 0.1], atol=1e-6)
    assert thing.masks.tolist() == [1, 0, 0, 0, 3]
    assert thing.cluster.center_m == pytest.approx((5.45, 5, 4.5))
    assert thing.cluster.extent_m == pytest.approx((0.9, 0, 9))


def test_of_a_frame_the_most_doubted_are_kept():
    at_m = np.repeat([[3.0 * place, 0, 0] for place in range(MOST + 10)], LEAST, axis=0)
    at_m = np.concatenate((at_m, np.tile([[0, 30.0, 0]], (40, 1))))
    found = candidates(0, labelled(at_m, [1] * len(at_m), [2] * len(at_m)))
    assert len(found) == MOST
    assert len(found[0].rows) == 40


@pytest.mark.parametrize("labels", [[], [0] * 30, [1] * 30])
def test_nothing_is_doubted_where_there_is_nothing_or_everybody_agrees(labels):
    points = labelled(np.zeros((len(labels), 3)), labels, [1] * len(labels))
    assert candidates(0, points) == []
