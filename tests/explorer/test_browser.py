"""In a real browser: Chromium as the system has it, drawing by software."""

from __future__ import annotations

import io
import re
import shutil
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from olivine.explorer.moments import Moments
from olivine.explorer.opening import open_subject
from olivine.explorer.stage import Stage
from olivine.explorer.view import View

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytest.importorskip("viser", reason="the extra `explore` is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")

SWITCHES = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
KNOWN = ("THREE.Clock", "GPU stall", "GL Driver Message")


@pytest.fixture(scope="module")
def explorer(root):
    from olivine.explorer.server import Explorer

    subject = open_subject([root / "datasets" / "street", root / "runs" / "segmenter", root / "runs" / "pretraining"])
    running = Explorer(Stage(Moments(subject)), View(), port=0)
    yield running
    running.close()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@contextmanager
def visit(browser, address, known=KNOWN):
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    troubles = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda line: troubles.append(line.text) if line.type in ("error", "warning") else None)
    page.goto(address)
    page.get_by_text(re.compile(r"\d points · \d+ ms")).wait_for(timeout=60_000)
    yield page
    page.close()
    assert [line for line in troubles if not any(word in line for word in known)] == []


def colourful(page):
    """How many pixels of the scene have a colour of their own."""
    picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)[:, 340:880]
    return int((picture.max(axis=2) - picture.min(axis=2) > 60).sum())


def until(test):
    end = time.monotonic() + 30
    while not test():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def test_points_are_drawn_and_frames_colours_and_the_filter_change_them(explorer, browser):
    with visit(browser, explorer.address) as page:
        until(lambda: colourful(page) > 150)
        assert page.get_by_text("scene-0061").count() == 1
        page.get_by_role("button", name="Scene", exact=True).click()
        page.get_by_text("scene-0103").wait_for()
        page.keyboard.press("n")
        page.get_by_text("sample-1-1").wait_for()
        predicted = page.screenshot()
        page.keyboard.press("c")  # right and wrong
        page.get_by_role("button", name="wrong", exact=True).wait_for()
        until(lambda: page.screenshot() != predicted)
        page.get_by_role("button", name="wrong", exact=True).click()
        page.get_by_text(re.compile(r"\d+ of 300 points")).wait_for()
        assert page.locator("img[alt='CAM_FRONT'], img").count() >= 6


def test_an_address_restores_a_view_and_two_visitors_have_their_own(explorer, browser):
    there = f"{explorer.address}?frame=2&color=truth&hide=car"
    with visit(browser, explorer.address) as one, visit(browser, there) as other:
        other.get_by_text("scene-0103").wait_for()
        other.get_by_text(re.compile(r"\d+ of 300 points")).wait_for()
        assert one.get_by_text("scene-0061").count() == 1
        assert one.get_by_text(" of 300 points").count() == 0


def test_a_picture_is_saved(explorer, browser):
    # The browser looks once more for what it was handed, when that is over.
    with visit(browser, f"{explorer.address}?color=range", (*KNOWN, "ERR_FILE_NOT_FOUND")) as page:
        page.get_by_text("Share").click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save as picture").click()
        assert download.value.suggested_filename == "000000-range.png"
        assert Image.open(download.value.path()).size[0] >= 1200


def test_a_frame_that_vanished_is_said_and_the_explorer_goes_on(explorer, browser, root):
    path = next(file for file in sorted((root / "datasets" / "street").rglob("*.pcd.bin")))
    hidden = path.rename(path.with_suffix(".gone"))
    explorer._stage.moments._held.clear()
    try:
        with visit(browser, f"{explorer.address}?frame=2") as page:
            page.get_by_role("button", name="Scene", exact=True).click()
            page.get_by_text("Not shown").wait_for()
            page.get_by_role("button", name="Next", exact=True).click()
            page.get_by_text("sample-0-1").wait_for()
    finally:
        hidden.rename(path)
