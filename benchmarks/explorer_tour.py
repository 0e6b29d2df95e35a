"""The tour of the explorer's page in the documentation, taken by a program, which keeps a picture of every stop.

    python benchmarks/explorer_tour.py runs/demo docs/guide/explorer_tour

The first folder is that of `make demo`: a comparison with OLIVINE's pretraining and with fine-tunings of seed 0. Each
stop is what the page says to press, pressed in Chromium (as the system has it, drawing by software, without a screen);
a tour that stands still fails. Pictures are WebP of 1280×800 pixels. Needs the extra `explore`, playwright, Chromium.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from olivine.explorer.browser.server import Explorer
from olivine.explorer.stage import Stage
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import open_subject

RUNS = ("olivine-finetune-seed0", "scratch-finetune-seed0", "pretrain-olivine")
SWITCHES = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
SHOWN = re.compile(r"\d points · \d+ ms")
WAIT_MS = 180_000
THING = "car"
CONFUSED = "vegetation predicted as manmade"
NEAR_M, FAR_M = 6.0, 16.0


class Tour:
    """A visit that is photographed.

    Args:
        page: the browser's.
        out: where the pictures go.
    """

    def __init__(self, page: Any, out: Path) -> None:
        self.page, self._out = page, out

    def keep(self, name: str) -> None:
        """Keep what is on screen, when it has come to rest."""
        before = b""
        for _ in range(20):
            self.page.wait_for_timeout(1000)
            now = self.page.screenshot()
            if now == before:
                break
            before = now
        self._out.mkdir(parents=True, exist_ok=True)
        Image.open(io.BytesIO(now)).convert("RGB").save(self._out / f"{name}.webp", quality=64, method=6)

    def press(self, name: str | re.Pattern[str]) -> None:
        """Press a button."""
        self.page.get_by_role("button", name=name, exact=isinstance(name, str)).first.click()

    def tab(self, name: str) -> None:
        """Turn to a tab."""
        self.page.get_by_role("tab", name=name).click()

    def await_words(self, words: re.Pattern[str]) -> None:
        """Wait until something is said."""
        self.page.get_by_text(words).first.wait_for(timeout=WAIT_MS)

    def choose(self, menu: str, words: str) -> None:
        """Choose a line of a menu."""
        self.page.get_by_label(menu, exact=True).first.click()
        self.page.get_by_role("option", name=words, exact=True).first.click()


def near_thing(moments: Moments) -> tuple[int, int, np.ndarray[Any, Any]]:
    """The frame, the row and the place of a point of a car before the sensor, near it."""
    number = moments.dataset.classes.names.index(THING) + 1
    for place in range(len(moments)):
        frame = moments[place].frame
        if frame.labels is None:
            continue
        points_m = frame.points_lidar_m
        range_m = np.linalg.norm(points_m[:, :2], axis=1)
        rows = np.flatnonzero((frame.labels == number) & (range_m > NEAR_M) & (range_m < FAR_M))
        if len(rows) > 100:
            row = int(rows[np.linalg.norm(points_m[rows] - np.median(points_m[rows], axis=0), axis=1).argmin()])
            return place, row, points_m[row]
    raise SystemExit(f"no frame has a {THING} within {FAR_M:g} m")


def visit(browser: Any, address: str) -> Any:
    """A page of the explorer that has shown its first view."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(address)
    page.get_by_text(SHOWN).first.wait_for(timeout=WAIT_MS)
    page.get_by_text("Software WebGL rendering detected").locator("xpath=../..").get_by_role("button").click()
    return page


def first_steps(tour: Tour) -> None:
    """The first view; right and wrong."""
    tour.keep("first")
    tour.page.keyboard.press("c")
    tour.page.get_by_role("button", name="wrong", exact=True).wait_for(timeout=WAIT_MS)


def mistakes(tour: Tour) -> None:
    """The matrix, and the worst cluster of its worst cell; label errors; another run."""
    tour.tab("Mistakes")
    tour.press("Go through all frames")
    tour.await_words(re.compile(r"(\d+) of \1 frames"))
    box = tour.page.locator(f"label[title*='{CONFUSED}']").bounding_box()
    tour.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tour.press(re.compile(r"frame \d+ · [\d,]+ points"))
    tour.keep("mistakes")


def label_errors(tour: Tour) -> None:
    """The first label that is doubted."""
    tour.tab("Mistakes")
    tour.press("Look for label errors")
    tour.page.get_by_role("radio", name="Next").or_(
        tour.page.get_by_role("button", name="Next", exact=True)
    ).last.wait_for()
    tour.page.wait_for_timeout(20_000)
    tour.page.get_by_role("button", name="Next", exact=True).last.click()
    tour.page.get_by_text("Should be").scroll_into_view_if_needed()
    tour.page.mouse.move(640, 790)  # off what explains itself under the mouse
    tour.keep("label_errors")


def comparison(tour: Tour) -> None:
    """A car by its point, in the scene and on the images; what is like it, selected."""
    tour.tab("Compare")
    tour.keep("similarity")
    field = "xpath=//label[normalize-space()='Class']/following::*[self::input or self::textarea][1]"
    tour.page.locator(field).fill(THING)
    tour.press("Select")
    tour.page.get_by_role("button", name=re.compile("Write labels")).wait_for(timeout=WAIT_MS)
    tour.keep("selection")


def looking(point_m: np.ndarray[Any, Any]) -> str:
    """A place from which a point is looked at: behind and above the sensor."""
    eye = -8.0 * point_m[:2] / np.linalg.norm(point_m[:2])
    return f"eye={eye[0]:.2f},{eye[1]:.2f},9.00&target={','.join(f'{value:.2f}' for value in point_m)}"


def main() -> None:
    """Take the tour."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="the folder of the demo's comparison")
    parser.add_argument("out", type=Path, help="where the pictures go")
    options = parser.parse_args()
    began = time.perf_counter()
    moments = Moments(open_subject([options.runs / name for name in RUNS]))
    frame, row, point_m = near_thing(moments)
    compared = f"frame={frame}&network={RUNS[2]}&color=similarity&query=point:{frame}:{row}&threshold=0.45"
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        explorer = Explorer(Stage(moments, Path(scratch)), port=0)
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = driver.chromium.launch(executable_path=found, args=SWITCHES)
        tour = Tour(visit(browser, explorer.address), options.out)
        first_steps(tour)
        mistakes(tour)
        label_errors(tour)
        comparison(Tour(visit(browser, f"{explorer.address}?{compared}&{looking(point_m)}"), options.out))
        versus = f"color=versus&network={RUNS[0]}&against={RUNS[1]}&frame={frame}"
        Tour(visit(browser, f"{explorer.address}?{versus}"), options.out).keep("versus")
        browser.close()
        explorer.close()
    print(f"six stops in {time.perf_counter() - began:.0f} s: {options.out}")


if __name__ == "__main__":
    main()
