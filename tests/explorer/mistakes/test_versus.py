from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from builders.segmenter import segmenter
from olivine.errors import UserError
from olivine.explorer.mistakes.clusters import REACH_M
from olivine.explorer.mistakes.survey import Survey
from olivine.explorer.mistakes.versus import FIRST, LEGEND, SECOND, Versus, duel, opponent
from olivine.explorer.sharing.snapshot import picture
from olivine.explorer.stage import Stage
from olivine.explorer.subject.moments import Moment, Moments
from olivine.explorer.subject.networks import Answer
from olivine.explorer.subject.opening import open_subject
from olivine.explorer.view import View
from oracles.clusters import clusters as slow_clusters


@pytest.fixture(scope="module")
def moments(root, tmp_path_factory):
    other = segmenter(tmp_path_factory.mktemp("arms") / "other", stem=(5,))
    runs = root / "runs"
    return Moments(open_subject([root / "datasets" / "street", runs / "segmenter", runs / "pretraining", other]))


@pytest.fixture(scope="module")
def arms(moments):
    return moments.networks["segmenter"], moments.networks["other"]


def answer(classes, seed, count):
    rng = np.random.default_rng(seed)
    guess = rng.dirichlet(np.full(16, 0.2), count).astype(np.float32)
    guess[np.arange(count), rng.integers(0, 3, count)] += 1
    inside = rng.random(count) < 0.9
    guess[~inside] = 0
    return Answer(np.zeros((count, 2), np.float32), inside, {}, guess, classes)


def posed(moments, arms, seed):
    frame = moments[0].frame
    count, classes = len(frame.points_lidar_m), arms[0].model.classes
    labels = np.random.default_rng(seed).integers(0, 4, count).astype(np.uint8)
    near = frame.points_lidar_m * np.float32(0.15)
    moment = Moment(seed, replace(frame, labels=labels, points_lidar_m=near))
    return moment, answer(classes, 2 * seed + 50, count), answer(classes, 2 * seed + 51, count)


def by_hand(label, one, other):
    if label == 0:
        return "unknown"
    words = {(True, True): "both right", (True, False): "only the first right",
             (False, True): "only the second right", (False, False): "both wrong"}  # fmt: skip
    return words[bool(one == label), bool(other == label)]


def test_each_point_is_said_to_be_right_for_the_first_the_second_both_or_neither(moments, arms):
    moment, one, other = posed(moments, arms, 0)
    found = [LEGEND[entry].name for entry in duel(moments, moment, one, other)]
    assert found == list(map(by_hand, moment.frame.labels, one.predicted, other.predicted))
    assert set(found) == {line.name for line in LEGEND}


def test_frames_are_ranked_by_how_far_a_side_is_ahead_and_clusters_by_how_bad_the_other_is(moments, arms):
    table, words = Versus(moments, *arms, kept=1000), {FIRST: "only the first right", SECOND: "only the second right"}
    counts, margins, groups = Counter(), {}, {}
    for seed in (2, 0, 1):
        moment, one, other = posed(moments, arms, seed)
        table.add(seed, table.look(moment, one, other))
        labels = moment.frame.labels
        said = list(map(by_hand, labels, one.predicted, other.predicted))
        counts.update((int(label), word) for label, word in zip(labels, said, strict=True) if label)
        for truth in range(4):
            here = Counter(word for label, word in zip(labels, said, strict=True) if truth in (0, label))
            margins[seed, truth] = (here[words[FIRST]], here[words[SECOND]])
        differ = np.array([row for row, word in enumerate(said) if word in words.values()])
        pairs = [(int(labels[row]), said[row]) for row in differ]
        for rows in slow_clusters(moment.frame.points_lidar_m[differ], pairs, REACH_M):
            groups.setdefault(pairs[min(rows)], set()).add((seed, int(differ[min(rows)]), len(rows)))
    for truth in range(1, 17):
        assert table.counts[truth - 1].tolist() == [counts[truth, line.name] for line in LEGEND[:4]]
    for truth in range(4):
        for side in (FIRST, SECOND):
            turn = 1 if side == FIRST else -1
            expected = [(seed, *margins[seed, truth][::turn]) for seed in range(3)]
            expected = sorted((each for each in expected if each[1] > each[2]),
                              key=lambda each: (each[2] - each[1], -each[1], each[0]))  # fmt: skip
            assert [(each.frame, each.points, each.lost) for each in table.best_frames(side, truth)] == expected
            found = table.best_clusters(side, truth)
            right = {each for (label, word), some in groups.items() if truth in (0, label) and word == words[side]
                     for each in some}  # fmt: skip
            assert {(each.frame, each.row, each.points) for each in found} == right
            assert [each.badness for each in found] == sorted((each.badness for each in found), reverse=True)


def test_in_a_frame_in_which_both_are_alike_neither_is_ahead(moments, arms):
    moment, one, _ = posed(moments, arms, 0)
    table = Versus(moments, *arms)
    table.add(0, table.look(moment, one, one))
    assert table.best_frames(FIRST) == table.best_frames(SECOND) == []
    assert table.best_clusters(FIRST) == []
    assert table.counts[:, [0, 3]].sum() == table.counts.sum() > 0


def test_a_cluster_is_as_bad_as_the_one_that_is_wrong_was_sure(moments, arms):
    moment, one, other = posed(moments, arms, 3)
    table = Versus(moments, *arms, kept=1000)
    table.add(3, table.look(moment, one, other))
    for side, loser in ((FIRST, other), (SECOND, one)):
        single = next(each for each in table.best_clusters(side) if each.points == 1)
        assert single.confidence == pytest.approx(loser.probabilities[single.row].max())


def test_a_survey_of_two_networks_fills_it(moments, arms):
    table = Versus(moments, *arms)
    for place, found in Survey(moments, arms, table.look):
        table.add(place, found)
    assert table.frames == len(moments)
    labelled = sum(int((moments[place].frame.labels != 0).sum()) for place in range(len(moments)))
    assert table.counts.sum() == labelled


def test_the_second_network_is_named_in_the_view_or_the_first_other_that_may_predict(moments, arms):
    assert opponent(moments, arms[0]).run.name == "other"
    assert opponent(moments, arms[1]).run.name == "segmenter"
    assert opponent(moments, arms[0], "other") is arms[1]
    for name in ("nobody", "segmenter"):
        with pytest.raises(UserError, match="there is no such run beside segmenter; there is pretraining, other"):
            opponent(moments, arms[0], name)


def test_it_is_a_colouring_with_an_address_and_a_picture(moments, arms):
    stage = Stage(moments)
    shown = stage.show(View.of("?frame=1&color=versus&network=other"))
    assert (shown.view.against, shown.trouble) == ("segmenter", "")
    assert View.of(shown.view.address()) == shown.view
    entry = duel(moments, moments[1], moments[1].answer(arms[1]), moments[1].answer(arms[0]))
    np.testing.assert_array_equal(shown.coloring.entry, entry)
    table = np.array([line.color for line in LEGEND], np.uint8)
    np.testing.assert_array_equal(shown.coloring.colors, table[entry])
    assert picture(stage, shown).shape[1] >= 1200
    wrong = stage.show(View.of("color=versus&network=other&against=pretraining"))
    assert "predict classes" in wrong.trouble


def test_one_network_alone_has_no_such_colouring(root):
    stage = Stage(Moments(open_subject([root / "runs" / "segmenter", root / "runs" / "pretraining"])))
    assert stage.settled(View(color="versus")).color == "prediction"
    with pytest.raises(UserError, match="a comparison needs two networks"):
        opponent(stage.moments, stage.moments.networks["segmenter"])
