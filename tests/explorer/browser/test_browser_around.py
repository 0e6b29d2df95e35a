"""In a real browser: what several visitors, several runs and several frames bring; and what must stay outside."""

from __future__ import annotations

import re
import shutil
from contextlib import ExitStack, closing

import numpy as np
import pytest

from builders.browsing import arrived, click_what_is_looked_at, looking, said_address, until, visit
from olivine.explorer.stage import Stage
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import open_subject
from olivine.explorer.view import View

MARKUP = "<img src=x onerror=document.title='struck'><b>bold</b>"


def serving(things, host="127.0.0.1"):
    from olivine.explorer.browser.server import Explorer

    return closing(Explorer(Stage(Moments(open_subject(things))), View(), host, port=0))


def test_visitors_who_come_at_the_same_moment_each_see_their_own_view(root, browser):
    with serving([root / "datasets" / "street"]) as explorer, ExitStack() as pages:
        views = ("frame=3&color=range&sweeps=2", "frame=2&color=truth&hide=car")
        addresses = [f"{explorer.address}?{view}" for view in views]
        visits = [pages.enter_context(visit(browser, address, wait=False)) for address in addresses]
        for page, token in zip(visits, ("1-1", "1-0"), strict=True):
            arrived(page)
            page.get_by_text(f"sample-{token}").wait_for()
        visits[0].get_by_text("2 frames in one").wait_for()
        assert visits[1].get_by_text("frames in one").count() == 0
        visits[1].get_by_text(re.compile(r"\d+ of 300 points")).wait_for()
        assert visits[0].get_by_text(" of 300 points").count() == 0
        visits[1].keyboard.press("n")
        visits[1].get_by_text("sample-1-1").wait_for()
        visits[1].reload()
        arrived(visits[1])
        visits[1].get_by_text("sample-1-0").wait_for()  # as its address says


def test_runs_stand_side_by_side_under_their_names_and_each_copy_can_be_clicked(root, browser, tmp_path):
    strange = shutil.copytree(root / "runs" / "segmenter", tmp_path / MARKUP.replace("/", "_"))
    with serving([root / "datasets" / "street", root / "runs" / "segmenter", strange]) as explorer:
        stage = explorer._stage
        shown = stage.show(View(beside=("all",)))
        (copy,) = shown.beside
        drawn = np.flatnonzero(shown.drawn(copy))
        row = int(drawn[np.linalg.norm(shown.moment.frame.points_lidar_m[drawn], axis=1).argmax()])
        place = shown.moment.frame.points_lidar_m[row]
        eye = place + (place / np.linalg.norm(place)) * 3 + copy.offset_m
        view = f"beside=all&cameras=frusta&color=prediction&{looking(eye, place + copy.offset_m)}"
        with visit(browser, f"{explorer.address}?{view}") as page:
            until(lambda: MARKUP.replace("/", "_") in page.evaluate("document.body.innerText"))
            page.get_by_role("tab", name="Share").click()
            until(lambda: said_address(page))
            click_what_is_looked_at(page)
            until(lambda: f"query=point%3A0%3A{row}" in said_address(page))
            assert page.title() != "struck"


def test_a_run_that_goes_on_training_is_shown_without_being_asked(young, browser):
    folder, save = young
    save(1, 40)
    with serving([folder]) as explorer, visit(browser, explorer.address) as page:
        page.get_by_text("young still trains: step 40").wait_for()
        save(2, 80)
        page.get_by_text("young still trains: step 80").wait_for()


def test_without_the_token_nobody_comes_in_and_with_it_a_cookie_is_enough(root, browser):
    with serving([root / "datasets" / "street"], "127.0.0.2") as explorer:
        address = explorer.address
        for wrong in (address.partition("?")[0], address[:-1], address + "x"):
            page = browser.new_page()
            assert page.goto(wrong).status == 403
            assert "no address of the explorer" in page.inner_text("body")
            page.close()
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{address}&frame=2&color=height")
        arrived(page)
        page.get_by_text("sample-1-0").wait_for()
        assert "token" not in page.url
        page.goto(address.partition("?")[0] + "?frame=1")
        page.get_by_text("sample-0-1").wait_for()
        context.close()
        assert re.fullmatch(r"http://127\.0\.0\.2:\d+/\?token=[\w-]{32}", address)


@pytest.fixture
def plain_frames(root, tmp_path):
    return shutil.copytree(root / "datasets" / "street", tmp_path / "street")


def test_names_with_markup_are_only_shown_and_a_dataset_that_is_gone_is_said(plain_frames, browser):
    from dataclasses import replace

    with serving([plain_frames]) as explorer:
        moments = explorer._stage.moments
        moment = moments[0]
        camera = replace(moment.frame.cameras[0], name=MARKUP)
        moment.frame = replace(moment.frame, scene=MARKUP, token=MARKUP, cameras=(camera,))
        with visit(browser, f"{explorer.address}?color=range") as page:
            until(lambda: page.evaluate("document.body.innerText").count("<b>bold</b>") >= 2)
            assert page.title() != "struck"
            away = plain_frames.rename(plain_frames.with_name("away"))
            page.keyboard.press("n")
            page.get_by_text("Not shown").wait_for()
            away.rename(plain_frames)
            page.keyboard.press("n")
            page.get_by_text("sample-1-0").wait_for()
