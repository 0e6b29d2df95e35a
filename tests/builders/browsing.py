"""Chromium as the system has it, drawing by software, and what tests of the explorer do with its pages."""

from __future__ import annotations

import io
import re
import shutil
import time
from contextlib import contextmanager

import numpy as np
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SWITCHES = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]


@contextmanager
def visit(browser, address, known=(), wait=True):
    """A page of the explorer that shows its first view; errors on its console fail the test, but for known ones."""
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    troubles = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda line: troubles.append(line.text) if line.type == "error" else None)
    page.goto(address, wait_until="load" if wait else "commit")
    if wait:
        arrived(page)
    try:
        yield page
    finally:
        page.close()
    strange = [line for line in troubles if not any(word in line for word in known)]
    assert not strange, strange


def arrived(page):
    """Wait for the first view."""
    page.get_by_text(re.compile(r"\d points · \d+ ms")).wait_for(timeout=60_000)


def pixels(part):
    """[H, W, 3] int what a page, or a part of one, looks like."""
    return np.asarray(Image.open(io.BytesIO(part.screenshot())).convert("RGB")).astype(int)


def until(test):
    """Wait for it."""
    end = time.monotonic() + 30
    while not test():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def said_address(page):
    """What stands under Share."""
    words = page.evaluate("[...document.querySelectorAll('input')].map(input => input.value)")
    return next((word for word in words if word.startswith("?")), "")


def click_what_is_looked_at(page):
    """A click on the middle of the scene."""
    box = page.locator("canvas").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def looking(eye, target):
    """The words of a view from a place to another."""
    return "&".join(f"{name}={','.join(f'{value:.3f}' for value in place)}" for name, place in
                    (("eye", eye), ("target", target)))  # fmt: skip
