"""In a real browser: Chromium as the system has it, drawing by software."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from builders.browsing import click_what_is_looked_at, looking, said_address, until, visit
from olivine.explorer.stage import Stage
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import open_subject
from olivine.explorer.view import View


@pytest.fixture(scope="module")
def explorer(root, browsing):
    from olivine.explorer.browser.server import Explorer

    subject = open_subject([root / "datasets" / "street", root / "runs" / "segmenter", root / "runs" / "pretraining"])
    running = Explorer(Stage(Moments(subject)), View(), port=0)
    yield running
    running.close()


def colourful(page):
    """How many pixels of the scene have a colour of their own."""
    picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)[:, 340:880]
    return int((picture.max(axis=2) - picture.min(axis=2) > 60).sum())


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


def test_a_picture_is_saved_and_an_address_that_is_no_view_is_said(explorer, browser):
    # The browser looks once more for what it was handed, when that is over.
    with visit(browser, f"{explorer.address}?frame=-1", ("ERR_FILE_NOT_FOUND",)) as page:
        page.get_by_text("frames are counted from 0").wait_for()
        page.get_by_role("tab", name="Share").click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save as picture").click()
        assert download.value.suggested_filename == "000000-prediction.png"
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


def test_a_click_on_a_point_compares_with_it(explorer, browser):
    moments = explorer._stage.moments
    points = moments[0].frame.points_lidar_m
    inside = moments[0].answer(moments.networks["segmenter"]).inside
    row = int(np.flatnonzero(inside)[np.linalg.norm(points[inside], axis=1).argmax()])
    eye = points[row] * 1.1 + [0, 0, 0.5]  # from outside, where nothing stands between
    with visit(browser, f"{explorer.address}?{looking(eye, points[row])}") as page:
        page.get_by_role("tab", name="Share").click()
        until(lambda: said_address(page))
        click_what_is_looked_at(page)
        until(lambda: f"query=point%3A0%3A{row}" in said_address(page))
        assert "color=similarity" in said_address(page)


def test_a_click_on_an_image_in_the_scene_compares_with_its_pixel(explorer, browser):
    from olivine.explorer.scene.planes import plane

    camera = explorer._stage.moments[0].frame.cameras[0]
    at, eye = plane(camera), np.linalg.inv(camera.camera_from_lidar)[:3, 3]
    with visit(browser, f"{explorer.address}?{looking(eye, at.center_m)}&cameras=images") as page:
        page.get_by_role("tab", name="Share").click()
        until(lambda: said_address(page))
        page.wait_for_timeout(1500)
        until(lambda: click_what_is_looked_at(page) or "query=pixel%3A0%3A0" in said_address(page))
        column, row = map(float, said_address(page).partition("pixel%3A0%3A0%3A")[2].partition("&")[0].split("%3A"))
        assert (column, row) == pytest.approx((31.5, 17.5), abs=1.5)
