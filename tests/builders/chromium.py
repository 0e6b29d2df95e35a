"""Chromium as the system has it, drawing by software; tests that need it are skipped where it is not."""

from __future__ import annotations

import io
import shutil
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SWITCHES = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]


@contextmanager
def launched():
    """A browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


def pixels(part) -> np.ndarray:
    """[H, W, 3] int what a page, or a part of one, looks like."""
    return np.asarray(Image.open(io.BytesIO(part.screenshot())).convert("RGB")).astype(int)


def until(test) -> None:
    """Wait for something, half a minute at most."""
    end = time.monotonic() + 30
    while not test():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
