"""Likely label errors in a real browser: look for them, go to one, say what is wrong, and find it said."""

from __future__ import annotations

import json
from urllib.parse import unquote

import pytest

from builders.browsing import said_address, until, visit
from builders.doubting import doubt
from olivine.explorer.mistakes.survey import Survey
from olivine.explorer.mistakes.suspects import LabelErrors
from olivine.explorer.stage import Stage
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import open_subject
from olivine.explorer.view import View

HOSTILE = "<img src=nowhere onerror=alert(1)>"


@pytest.fixture(scope="module")
def explorer(root, browsing, tmp_path_factory):
    from olivine.explorer.browser.server import Explorer

    moments = Moments(open_subject([root / "datasets" / "street", root / "runs" / "segmenter"]))
    with pytest.MonkeyPatch.context() as patch:
        doubt(patch)
        patch.setattr(type(moments.dataset), "scene", lambda *_: HOSTILE)
        running = Explorer(Stage(moments, marks=tmp_path_factory.mktemp("said") / "marks.json"), View(), port=0)
        yield running
        running.close()


def ranked(moments):
    network = moments.networks["segmenter"]
    table = LabelErrors(moments, network)
    for place, found in Survey(moments, [network], table.look):
        table.add(place, found)
    return table.ranked()


def press(page, name):
    page.get_by_role("button", name=name, exact=True).last.click()


def test_a_visitor_goes_to_a_label_error_and_marks_it_and_the_next_one_sees_it(explorer, browser):
    stage = explorer._stage
    suspects, names = ranked(stage.moments), stage.moments.dataset.classes.names
    with visit(browser, explorer.address) as page:
        page.get_by_text("Share", exact=True).click()
        page.get_by_text("Mistakes", exact=True).click()
        press(page, "Look for label errors")
        page.get_by_text("4 of 4 frames").wait_for()
        page.get_by_text("Likeliest").first.wait_for()
        press(page, "Next")
        press(page, "Next")
        second = suspects[1].candidate
        given, proposed = names[second.given - 1], names[suspects[1].proposed - 1]
        page.get_by_text(f"2. Labelled {given}, perhaps {proposed}: {len(second.rows)} points").wait_for()
        press(page, "Wrong")
        page.get_by_text("Marked: the label is wrong, it should be").wait_for()
        (mark,) = json.loads(stage.marks.path.read_text())["marks"]
        assert (mark["given"], mark["label"], mark["run"]) == (given, "wrong", "segmenter")
        assert mark["better"] == mark["proposed"] == proposed
        assert [row for first, last in mark["rows"] for row in range(first, last + 1)] == second.rows.tolist()
        assert page.locator("img[src='nowhere']").count() == 0
        page.get_by_text("Share", exact=True).click()
        looks = second.cluster.seen(View())

        def there():
            view = View.of(unquote(said_address(page)).lstrip("?"))
            near = view.eye == pytest.approx(looks.eye, abs=0.02)
            return near and (view.frame, view.color) == (second.cluster.frame, "prediction")

        until(there)
    with visit(browser, explorer.address) as page:
        page.get_by_text("Mistakes", exact=True).click()
        page.get_by_text("1 marked: 1 wrong, 0 right").wait_for()
        press(page, "Next")
        press(page, "Next")
        page.get_by_text("Marked: the label is wrong").wait_for()
        press(page, "Take back")
        page.get_by_text("Marked: the label is wrong").wait_for(state="detached")
        assert json.loads(stage.marks.path.read_text())["marks"] == []
