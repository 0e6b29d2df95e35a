from __future__ import annotations

import base64
import re

import numpy as np
import pytest

from builders.browsing import pixels, until
from olivine.drawing.report import Picture, Section, report_html
from olivine.drawing.scene import MAX_POINTS, Look, Scene, scene_html
from olivine.explorer.scene.pictures import GROUND
from olivine.explorer.sharing.page import page, solid
from olivine.explorer.sharing.snapshot import heading
from olivine.explorer.stage import Stage
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import open_subject
from olivine.explorer.view import View

RED, GREEN, BLUE = (255, 40, 40), (40, 255, 40), (60, 60, 255)
NOWHERE = np.zeros((0, 2, 3)), np.zeros((0, 3), np.uint8)


def data_of(text, name):
    """What a page holds under a name, one for each look."""
    found = re.findall(rf'<script type="text/plain" class="{name}">([^<]*)</script>', text)
    return [base64.b64decode(part) for part in found]


def posed(count=3):
    """A red point that is looked at, a green one to its left, a blue one above it."""
    points = np.array([[5.0, 0, 0], [5, 2, 0], [5, 0, 2]])[:count]
    colors = np.array([RED, GREEN, BLUE], np.uint8)[:count]
    legend = [("red <b>", RED), ("green", GREEN), ("blue", BLUE)]
    looks = [
        Look("by <i>class</i>", colors, np.ones(count, bool), np.arange(count), legend),
        Look(
            "all blue", np.full((count, 3), BLUE, np.uint8), np.arange(count) != 1, strip=np.zeros((4, 9, 3), np.uint8)
        ),
    ]
    return Scene(points, looks, (-3.0, 0.0, 0.0), (5.0, 0.0, 0.0), *NOWHERE)


def test_a_page_holds_the_points_as_they_are():
    scene = posed()
    text = scene_html(scene)
    (places,) = data_of(text, "places")
    np.testing.assert_array_equal(np.frombuffer(places, "<f4").reshape(-1, 3), scene.points_m)
    first, second = (np.frombuffer(part, np.uint8).reshape(-1, 4) for part in data_of(text, "colors"))
    np.testing.assert_array_equal(first, [(*RED, 1), (*GREEN, 2), (*BLUE, 3)])
    np.testing.assert_array_equal(second, [(*BLUE, 255), (*BLUE, 0), (*BLUE, 255)])
    assert "<b>" not in text
    assert "<i>" not in text


def test_of_too_many_points_some_are_taken_evenly_and_it_is_said():
    count = 3 * MAX_POINTS + 5
    look = Look("x", np.zeros((count, 3), np.uint8), np.ones(count, bool))
    points = np.column_stack([np.arange(count)] * 3)
    text = scene_html(Scene(points, [look], (1, 0, 0), (0, 0, 0), *NOWHERE))
    (places,) = data_of(text, "places")
    taken = np.frombuffer(places, "<f4")[::3]
    assert (len(taken), taken[0], taken[-1]) == (MAX_POINTS, 0, count - 1)
    assert np.diff(taken).max() <= 4
    assert f"200,000 of {count:,} points" in text


def test_a_page_of_a_view_has_what_is_on_screen(root):
    stage = Stage(Moments(open_subject([root / "datasets" / "street", root / "runs" / "segmenter"])))
    shown = stage.show(View(frame=1, color="truth", hidden=frozenset({"car"}), sweeps=2))
    scene = solid([("true labels", shown)])
    assert len(scene.points_m) == 300 + len(shown.around.points_m)
    (look,) = scene.looks
    np.testing.assert_array_equal(scene.points_m[look.visible], shown.cloud[0])
    np.testing.assert_array_equal(look.colors[look.visible], shown.cloud[1])
    assert len(scene.lines_m) == 5 * 96 + 12 * len(shown.boxes.boxes)
    text = page(stage, shown, heading(stage, shown), "true labels").decode()
    assert text.count("data:image/jpeg;base64,") == 6
    assert "http" not in text.replace("http-equiv", "")
    assert "frame=1&amp;color=truth&amp;network=segmenter&amp;hide=car&amp;sweeps=2" in text
    beside = stage.show(View(frame=1, color="prediction", beside=("all",)))
    assert len(solid([("x", beside)]).points_m) == 300


def middle(canvas):
    """The colour that is looked at."""
    picture = pixels(canvas)
    row, column = picture.shape[0] // 2, picture.shape[1] // 2
    return picture[row, column]


def has(canvas, color):
    return bool((np.abs(pixels(canvas) - color).max(axis=2) < 12).any())


def test_a_scene_is_drawn_turned_filtered_and_coloured_anew_and_nothing_is_loaded(browser, tmp_path):
    file = tmp_path / "scene.html"
    file.write_text(report_html("A <scene>", [Section("Scene", scene=posed())]))
    page, troubles, asked = browser.new_page(viewport={"width": 900, "height": 700}), [], []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda line: troubles.append(line.text) if line.type in ("error", "warning") else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    canvas = page.locator("canvas")
    page.get_by_label("Size").fill("0.4")
    until(lambda: np.abs(middle(canvas) - RED).max() < 12)
    picture = pixels(canvas)
    assert (picture[3, 3] == GROUND).all()
    rows, columns = np.nonzero(np.abs(picture - GREEN).max(axis=2) < 12)
    assert columns.mean() < picture.shape[1] / 2 - 30  # the left is left, and up is up
    assert abs(rows.mean() - picture.shape[0] / 2) < 3
    assert np.nonzero(np.abs(picture - BLUE).max(axis=2) < 12)[0].mean() < picture.shape[0] / 2 - 30
    # 8 m away, 2 m to the side, half the field of view is 27.5 degrees and half the height of the canvas
    expected = picture.shape[0] / 2 * (2 / 8) / np.tan(np.radians(27.5))
    assert picture.shape[1] / 2 - columns.mean() == pytest.approx(expected, abs=1.5)
    page.get_by_role("button", name="red").click()
    until(lambda: not has(canvas, RED))
    page.get_by_role("button", name="red").click()
    until(lambda: has(canvas, RED))
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 262, y)  # a quarter of a turn: the green point stands behind the red one
    page.mouse.up()
    until(lambda: not has(canvas, GREEN) or np.abs(middle(canvas) - GREEN).max() < 12)
    near = pixels(canvas)
    page.mouse.wheel(0, -400)
    until(lambda: (pixels(canvas) != near).any())
    page.mouse.dblclick(x, y)
    until(lambda: (pixels(canvas) == picture).all())
    page.get_by_label("Colours").select_option("1")
    until(lambda: not has(canvas, RED) and not has(canvas, GREEN) and has(canvas, BLUE))
    assert troubles == []
    assert asked == [file.as_uri()]
    page.close()


def test_a_picture_of_a_frame_leads_to_its_view(tmp_path):
    picture = Picture(b"\x89PNG", "a frame", view="frame=3&color=truth")
    text = report_html("x", [Section("Frames", pictures=[picture], explored=[tmp_path / "a run"])])
    assert "olivine explore &#x27;" in text
    assert "a run&#x27; --view &#x27;frame=3&amp;color=truth&#x27;</code>" in text
    assert 'href="http://127.0.0.1:8090/?frame=3&amp;color=truth"' in text
    plain = report_html("x", [Section("Frames", pictures=[picture])])
    assert "olivine explore" not in plain
