"""Selections, labels and pages in a real browser."""

from __future__ import annotations

import re

import numpy as np
import pytest

from builders.browsing import said_address, until, visit
from olivine.explorer.selecting.labelling import Labelling
from olivine.explorer.selecting.selection import Selection, read_selections
from olivine.explorer.selecting.similarity import Query
from olivine.explorer.stage import Stage
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import open_subject
from olivine.explorer.view import View


@pytest.fixture(scope="module")
def explorer(root, browsing, tmp_path_factory):
    from olivine.explorer.browser.server import Explorer

    moments = Moments(open_subject([root / "datasets" / "street", root / "runs" / "segmenter"]))
    running = Explorer(Stage(moments, out=tmp_path_factory.mktemp("out")), View(), port=0)
    yield running
    running.close()


def field(page, name):
    """What is typed into, by the word before it."""
    return page.locator(f"xpath=//label[normalize-space()='{name}']/following::*[self::input or self::textarea][1]")


def test_what_a_threshold_selects_gets_a_name_and_is_written_as_labels(explorer, browser, tmp_path):
    stage = explorer._stage
    row = int(np.flatnonzero(stage.moments[0].answer(stage.moments.networks["segmenter"]).inside)[0])
    address = f"{explorer.address}?color=similarity&query=point:0:{row}&threshold=0.8"
    with visit(browser, address, ("ERR_FILE_NOT_FOUND",)) as page:
        page.get_by_text("Compare", exact=True).click()
        page.get_by_role("button", name="Select", exact=True).click()
        page.get_by_text("give it the name of a class").wait_for()  # it has none yet
        field(page, "Class").fill("kerb <b>")
        page.get_by_role("button", name="Select", exact=True).click()
        page.get_by_role("button", name="kerb <b> ≥ 0.80, features").wait_for()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save selections").click()
        saved = tmp_path / "selections.yaml"
        download.value.save_as(saved)
        page.get_by_role("button", name="Write labels").click()
        page.get_by_text(re.compile(r"1 frames labelled, 0 kept, 0 failed")).wait_for()
        field(page, "Folder").fill("../elsewhere")
        page.get_by_role("button", name="Write labels").click()
        page.get_by_text("give it a plain name").wait_for()
        page.get_by_text("Share", exact=True).click()
        until(lambda: "select=name" in said_address(page))
        assert View.of(said_address(page)).color == "selections"
    chosen = Selection("kerb <b>", Query(0, row=row), "features", 0.8, "segmenter")
    assert read_selections(saved, stage.moments) == (chosen,)
    Labelling(stage.moments, [chosen], tmp_path / "labels", [0]).run()
    files = [path for path in (tmp_path / "labels").rglob("*.*") if path.is_file()]
    assert len(files) == 5
    for path in files:
        assert (stage.out / "selected" / path.relative_to(tmp_path / "labels")).read_bytes() == path.read_bytes()
    assert not (stage.out.parent / "elsewhere").exists()


def test_a_page_is_saved_as_it_is_seen(explorer, browser, tmp_path):
    # The browser looks once more for what it was handed, when that is over.
    with visit(browser, f"{explorer.address}?color=truth&eye=-9,1,20&target=3,2,1", ("ERR_FILE_NOT_FOUND",)) as page:
        page.get_by_text("Share", exact=True).click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save as page").click()
        assert download.value.suggested_filename == "000000-truth.html"
        download.value.save_as(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert 'data-points="300"' in text
    assert 'data-eye="-9.000,1.000,20.000" data-target="3.000,2.000,1.000"' in text
