"""How fast the explorer answers in a browser, and in how much memory.

    python benchmarks/explorer.py THING... [--clicks 50] [--changes 500] [--json]

THING is what `olivine explore` takes. Starts the explorer in a process of its own, visits it with Chromium (as the
system has it, drawing by software, without a screen) and takes times as a visitor has them: from a key or a click to
when the browser has got points and colours, and says so; and as the explorer has them: until they were sent. A browser
that draws by software takes its share of the cores, and of the former. Memory is that of the explorer's process. Needs
the extra `explore`, playwright and Chromium; Linux, for the memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

SWITCHES = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
SHOWN = re.compile(r"\d points · \d+ ms")
ABOUT = "[...document.querySelectorAll('div')].map(part => part.innerText).find(text => /points · \\d+ ms$/.test(text))"
ADDRESS = "[...document.querySelectorAll('input')].map(part => part.value).find(text => text.startsWith('?'))"
WAIT_MS = 4000


@contextlib.contextmanager
def serving(things: list[str]) -> Iterator[tuple[str, int]]:
    """The address of a running explorer, and its process."""
    command = [sys.executable, "-m", "olivine", "explore", *things, "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        said = server.stdout.readline()
        try:
            if not said.startswith("http"):
                sys.exit("the explorer did not start")
            yield said.split()[0], server.pid
        finally:
            server.terminate()


@contextlib.contextmanager
def visiting(address: str) -> Iterator[Any]:
    """A page of the explorer that has shown its first view, and when it was asked for."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = driver.chromium.launch(executable_path=found, args=SWITCHES)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        page.get_by_text(SHOWN).wait_for(timeout=300_000)
        yield page
        browser.close()


def took_s(page: Any, said: str, act: Callable[[], Any]) -> tuple[float, float] | None:
    """Seconds from an act until the page says something else, and those of the explorer; None where nothing happens."""
    from playwright.sync_api import TimeoutError as Late

    before, start = page.evaluate(said), time.perf_counter()
    act()
    try:
        page.wait_for_function(f"before => ({said}) !== before", arg=before, polling=5, timeout=WAIT_MS)
    except Late:
        return None
    return time.perf_counter() - start, float(page.evaluate(ABOUT).split()[-2]) / 1000


def clicks(page: Any, count: int) -> list[tuple[float, float]]:
    """Seconds of so many clicks that met points, the first aside: it embeds the pixels of the frame's images."""
    draw, taken = random.Random(0), list[tuple[float, float]]()
    box = page.locator("canvas").first.bounding_box()
    page.get_by_role("tab", name="Share").click()
    for _ in range(20 * count):
        x, y = (box["x"] + box["width"] * draw.uniform(0.4, 0.6), box["y"] + box["height"] * draw.uniform(0.4, 0.8))
        seconds = took_s(page, ADDRESS, partial(page.mouse.click, x, y))
        if seconds is not None:
            taken.append(seconds)
        if len(taken) > count:
            break
    return taken


def memory_mb(process: int) -> float:
    """What a process has in memory now."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(encoding="utf-8"))
    return int(found[1]) * 1024 / 1e6 if found else float("nan")


def changes(page: Any, process: int, count: int) -> tuple[list[tuple[float, float]], dict[int, float]]:
    """Seconds of going so many frames on, and the explorer's memory on the way."""
    taken, memory = list[tuple[float, float]](), {0: memory_mb(process)}
    for number in range(1, count + 1):
        seconds = took_s(page, ABOUT, partial(page.keyboard.press, "n"))
        if seconds is not None:
            taken.append(seconds)
        if number % 100 == 0 or number == count:
            memory[number] = memory_mb(process)
    return taken, memory


def measure(things: list[str], click_count: int, change_count: int) -> dict[str, Any]:
    """All times of a subject, in seconds."""
    start = time.perf_counter()
    with serving(things) as (address, process):
        ready = time.perf_counter()
        with visiting(address) as page:
            first = time.perf_counter()
            back = [took_s(page, ABOUT, partial(page.keyboard.press, key)) for key in ("n", "b") * 10]
            compared = clicks(page, click_count)
            moved, memory = changes(page, process, change_count)
    known = [seconds for seconds in back[2:] if seconds is not None]
    return {
        "things": things,
        "start_s": ready - start,
        "first_view_s": first - ready,
        "frame_in_memory_s": known,
        "first_click_s": compared[:1],
        "click_s": compared[1:],
        "frame_change_s": moved,
        "memory_mb": memory,
    }


def page_of(found: dict[str, Any]) -> str:
    """The times in words."""

    def said(name: str) -> str:
        values = found[name]
        if not values:
            return "none"
        browser, explorer = zip(*values, strict=True)
        return (
            f"{1000 * median(browser):.0f} ms median, {1000 * max(browser):.0f} worst of {len(values)}; "
            f"of the explorer {1000 * median(explorer):.0f} and {1000 * max(explorer):.0f}"
        )

    lines = [
        f"from the command to the address: {found['start_s']:.1f} s",
        f"from the address to the first view, browser and all: {found['first_view_s']:.1f} s",
        f"another frame, one of the last eight: {said('frame_in_memory_s')}",
        f"first click to colours: {said('first_click_s')}",
        f"a click to colours: {said('click_s')}",
        f"another frame, read and asked anew: {said('frame_change_s')}",
        "memory: " + ", ".join(f"{size:.0f} MB after {count} changes" for count, size in found["memory_mb"].items()),
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, and say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("things", nargs="+", metavar="THING")
    parser.add_argument("--clicks", type=int, default=50)
    parser.add_argument("--changes", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.things, options.clicks, options.changes)
    print(json.dumps(found) if options.json else page_of(found))


if __name__ == "__main__":
    main()
