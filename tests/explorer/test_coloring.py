from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from olivine.errors import UserError
from olivine.explorer.coloring import (
    NOTHING,
    RAMP,
    RIGHT,
    WRONG,
    Coloring,
    Entry,
    color,
    first_mode,
    lines_of,
    modes,
    ramp,
    together,
)
from olivine.explorer.subject.moments import Moment, Moments
from olivine.explorer.subject.opening import open_subject


@pytest.fixture(scope="module")
def moments(root):
    street, runs = root / "datasets" / "street", root / "runs"
    return Moments(open_subject([street, runs / "segmenter", runs / "pretraining"]))


@pytest.fixture
def segmenter(moments):
    return moments.networks["segmenter"]


def test_there_are_the_colourings_that_data_and_network_have(moments, segmenter):
    alone = ["range", "height", "intensity", "truth", "weak"]
    assert list(modes(moments, None)) == alone
    assert list(modes(moments, segmenter)) == [
        *alone,
        "prediction",
        "agreement",
        "uncertainty",
        "features",
        "similarity",
        "selections",
    ]
    assert list(modes(moments, moments.networks["pretraining"])) == [*alone, "features", "similarity", "selections"]
    firsts = [first_mode(moments, network) for network in (None, segmenter, moments.networks["pretraining"])]
    assert firsts == ["truth", "prediction", "features"]


def test_every_colouring_gives_each_point_a_colour_and_says_what_it_means(moments, segmenter):
    for mode in set(modes(moments, segmenter)) - {"similarity", "selections"}:
        found = color(moments, moments[1], mode, segmenter)
        assert found.colors.shape == moments[1].frame.points_lidar_m.shape
        assert found.colors.dtype == np.uint8
        if found.entry is not None:
            table = np.array([entry.color for entry in found.legend], np.uint8)
            np.testing.assert_array_equal(found.colors, table[found.entry])
        else:
            assert (found.scale is not None) == (mode != "features")


def test_labels_have_the_colours_of_the_class_set_and_no_label_stands_last(moments):
    found, frame, classes = color(moments, moments[0], "truth"), moments[0].frame, moments.dataset.classes
    assert [entry.name for entry in found.legend] == [*(n.replace("_", " ") for n in classes.names), "not labelled"]
    expected = np.where(frame.labels[:, None] == 0, NOTHING, classes.colors[frame.labels])
    np.testing.assert_array_equal(found.colors, expected)
    assert found.counts().sum() == len(frame.points_lidar_m)


def test_agreement_is_right_wrong_or_unknown(moments, segmenter):
    moment = moments[0]
    answer = moment.answer(segmenter)
    labels = answer.predicted.copy()
    labels[:50] = labels[:50] % 16 + 1
    labels[50:80] = 0
    posed = Moment(0, replace(moment.frame, labels=labels))
    posed._answers["segmenter"] = segmenter.version, answer
    found = color(moments, posed, "agreement", segmenter)
    expected = np.where(~answer.inside | (labels == 0), 2, np.where(np.arange(len(labels)) < 50, 1, 0))
    np.testing.assert_array_equal(found.entry, expected)
    assert [entry.color for entry in found.legend] == [RIGHT, WRONG, NOTHING]


def test_without_labels_a_network_is_compared_with_the_weak_labels_by_name(moments, segmenter):
    unlabelled = Moment(0, replace(moments[0].frame, labels=None))
    found = color(moments, unlabelled, "agreement", segmenter)
    answer = unlabelled.answer(segmenter)
    car = answer.classes.names.index("car") + 1
    is_car = (unlabelled.weak == moments.dataset.manifest.classes.index("car")) & answer.inside
    assert is_car.any()
    np.testing.assert_array_equal(found.entry[is_car], np.where(answer.predicted[is_car] == car, 0, 1))
    strange = ~np.isin(unlabelled.weak, [moments.dataset.manifest.classes.index("car")])
    assert (found.entry[strange] == 2).all()  # road and tree are no classes of nuScenes


def test_a_filter_hides_the_points_of_its_lines(moments):
    found = color(moments, moments[0], "truth")
    there = [entry.name for entry, count in zip(found.legend, found.counts(), strict=True) if count]
    left = found.shown({there[0]})
    assert left.sum() == len(left) - found.counts()[[e.name for e in found.legend].index(there[0])]
    assert found.shown(set()).all()
    assert found.shown({"no such line"}).all()
    assert color(moments, moments[0], "range").shown({there[0]}).all()


def test_one_legend_has_the_lines_of_all_that_is_drawn():
    car, bus, other_car = Entry("car", (1, 2, 3)), Entry("bus", (4, 5, 6)), Entry("car", (7, 8, 9))
    nothing = np.zeros((3, 3), np.uint8)
    parts = [
        Coloring(nothing, np.array([1, 1, 1]), (car, bus)),
        Coloring(nothing, np.array([0, 0, 1]), (bus, other_car)),
        Coloring(nothing),
    ]
    lines, (first, second, third) = together(parts)
    assert (lines, third) == ((car, bus, other_car), None)
    assert (first.tolist(), second.tolist()) == ([1, 1, 1], [1, 1, 2])
    assert lines_of(parts, ()) == (bus, other_car)
    assert lines_of(parts, {"car"}) == lines
    assert lines_of(parts[2:], ()) == ()


def test_what_a_frame_lacks_is_said(moments):
    bare = Moment(0, replace(moments[0].frame, labels=None, intensity=None))
    for mode, said in (("truth", "no labels"), ("intensity", "no intensities"), ("features", "name a run")):
        with pytest.raises(UserError, match=said):
            color(moments, bare, mode)
    for mode in ("prediction", "agreement", "uncertainty"):
        with pytest.raises(UserError, match="predicts no classes"):
            color(moments, moments[0], mode, moments.networks["pretraining"])
    with pytest.raises(UserError, match="no colouring 'smell'"):
        color(moments, bare, "smell")


def test_a_ramp_ends_in_its_ends_and_survives_what_is_no_number():
    np.testing.assert_array_equal(ramp(np.array([-1, 0, 1, 2, np.nan])), RAMP[[0, 0, -1, -1, 0]])
