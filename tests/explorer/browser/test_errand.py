from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import MagicMock

from olivine.errors import UserError
from olivine.explorer.browser.errand import Errand


def errand():
    desk = MagicMock()
    return Errand(desk, "Look"), desk


def test_a_run_that_trains_on_is_another_network_and_so_is_that_it_is_compared_with():
    one, other = SimpleNamespace(version=1), SimpleNamespace(version=1)
    asked, _ = errand()
    assert asked.changed(one, other)
    assert not asked.changed(one, other)
    other.version = 2
    assert asked.changed(one, other)
    assert not asked.changed(one, other)
    assert asked.changed(one, None)
    assert asked.changed(other, None)


def test_what_cannot_be_asked_is_said_and_leaves_what_was_found():
    asked, desk = errand()
    survey = SimpleNamespace(done=0, total=2, failed=0, whole=False)
    found = MagicMock(running=False, survey=survey, trouble="")
    asked.turn(lambda: found)
    found.start.assert_called_once()

    def refused():
        raise UserError("this network predicts no classes")

    asked.turn(refused)
    desk.say.assert_called_once_with("this network predicts no classes")
    assert asked.inquiry is found
    found.running = True
    asked.turn(lambda: found)
    found.stop.assert_called_once()


def test_a_visitor_who_asks_for_what_another_began_does_not_stop_it():
    asked, _ = errand()
    found = MagicMock(running=True, survey=SimpleNamespace(done=1, total=2, failed=0, whole=False), trouble="")
    asked.turn(lambda: found)
    found.stop.assert_not_called()
    asked.turn(lambda: found)
    found.stop.assert_called_once()


def test_what_another_visitor_begins_is_found_where_nothing_was_asked():
    asked, _ = errand()
    found = MagicMock(running=True, survey=SimpleNamespace(done=1, total=2, failed=0, whole=False), trouble="")
    assert not asked.news()
    assert asked.news(lambda: found)
    assert asked.inquiry is found
    assert not asked.news(lambda: MagicMock())
    assert asked.inquiry is found
