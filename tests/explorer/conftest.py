from __future__ import annotations

import pytest

from builders.browsing import CHROMIUM, SWITCHES
from builders.explored import build_explored


@pytest.fixture(scope="package")
def root(tmp_path_factory):
    return build_explored(tmp_path_factory.mktemp("explored"))


@pytest.fixture(scope="session")
def browsing():
    """Skips what needs a browser where there is none."""
    pytest.importorskip("viser", reason="the extra `explore` is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install chromium")
    return pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture(scope="module")
def browser(browsing):
    """One for the tests of a file, from after the explorer has begun: its event loop keeps others from starting."""
    with browsing.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()
