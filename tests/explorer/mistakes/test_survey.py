from __future__ import annotations

import threading

import numpy as np
import pytest

from olivine.errors import UserError
from olivine.explorer.mistakes.survey import TROUBLES, Survey, in_background, spread
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import open_subject


@pytest.fixture(scope="module")
def moments(root):
    return Moments(open_subject([root / "datasets" / "street", root / "runs" / "segmenter"]))


@pytest.fixture
def network(moments):
    return moments.networks["segmenter"]


@pytest.mark.parametrize("count", [0, 1, 2, 7, 64, 100])
def test_the_order_holds_every_frame_once_and_its_beginnings_are_spread(count):
    order = spread(count)
    assert sorted(order) == list(range(count))
    for size in (4, 8, 16):
        if count >= 4 * size:
            gaps = np.diff([0, *sorted(order[:size]), count])
            assert gaps.max() <= 2.1 * count / size


def test_every_frame_is_looked_at_with_what_the_network_says_of_it(moments, network):
    survey = Survey(moments, [network, network], lambda moment, one, other: (moment.index, one.predicted, other))
    found = dict(survey)
    assert sorted(found) == [0, 1, 2, 3]
    assert (survey.done, survey.total, survey.failed, survey.whole) == (4, 4, 0, True)
    for place, (index, predicted, other) in found.items():
        assert index == place
        np.testing.assert_array_equal(predicted, moments[place].answer(network).predicted)
        np.testing.assert_array_equal(predicted, other.predicted)


def test_the_frames_on_screen_stay_in_memory(moments, network):
    moments[1].answer(network)
    held = dict(moments._held)
    assert len(list(Survey(moments, [network], lambda moment, _: moment.index))) == 4
    assert dict(moments._held) == held


def test_it_stops_and_goes_on_where_it_stopped(moments):
    survey = Survey(moments, [], lambda moment: moment.index)
    first = []
    for place, _ in survey:
        first.append(place)
        if len(first) == 2:
            survey.stop()
    assert (survey.done, survey.stopped, survey.whole) == (2, True, False)
    survey.resume()
    assert sorted([*first, *(place for place, _ in survey)]) == [0, 1, 2, 3]


def test_frames_that_cannot_be_looked_at_are_passed_over_and_counted(moments, root):
    def look(moment):
        if moment.index == 2:
            raise UserError("not this one")
        return moment.index

    survey = Survey(moments, [], look)
    assert sorted(place for place, _ in survey) == [0, 1, 3]
    assert survey.troubles == [(2, "not this one")]
    assert (survey.failed, survey.done) == (1, 4)
    many = Survey(moments, [], look, order=[2] * 30)
    assert list(many) == []
    assert (len(many.troubles), many.failed) == (TROUBLES, 30)


def test_a_network_that_trains_on_meanwhile_ends_it(moments, network, monkeypatch):
    survey = Survey(moments, [network], lambda moment, _: moment.index)
    found = iter(survey)
    next(found)
    monkeypatch.setattr(type(network), "version", 9)
    with pytest.raises(UserError, match="segmenter has trained on meanwhile"):
        next(found)
    assert survey.done == 1


def test_weights_that_cannot_be_read_end_it(root, tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"none")
    moments = Moments(open_subject([root / "datasets" / "street", tmp_path / "weights.safetensors"]))
    with pytest.raises(UserError, match="weights"):
        list(Survey(moments, list(moments.networks.values()), lambda *_: None))


def test_in_the_background_it_says_how_far_it_is_and_how_it_ended(moments):
    taken, ends, told = [], [], []
    survey = Survey(moments, [], lambda moment: moment.index)
    thread = in_background(
        survey, lambda place, found: taken.append((place, found)), lambda: told.append(survey.done), ends.append
    )
    thread.join(30)
    assert sorted(taken) == [(place, place) for place in range(4)]
    assert (told, ends) == ([1, 2, 3, 4], [""])

    waits = threading.Event()
    stopping = Survey(moments, [], lambda moment: waits.wait(30))
    thread = in_background(stopping, lambda *_: None, lambda: None, ends.append)
    stopping.stop()
    waits.set()
    thread.join(30)
    assert ends == ["", ""]
    assert stopping.done <= 1


def test_in_the_background_what_goes_wrong_is_said(moments):
    ends = []
    in_background(Survey(moments, [], lambda moment: 1 // 0), lambda *_: None, lambda: None, ends.append).join(30)
    assert "ZeroDivisionError" in ends[0]
