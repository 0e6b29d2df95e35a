"""Mistakes in a real browser: start, a cell, a cluster, and where one network beats another."""

from __future__ import annotations

import re

import pytest
import torch

from builders.browsing import said_address, until, visit
from builders.segmenter import segmenter
from olivine.explorer.mistakes.confusion import Confusion
from olivine.explorer.mistakes.survey import Survey
from olivine.explorer.mistakes.versus import FIRST, Versus
from olivine.explorer.stage import Stage
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import open_subject
from olivine.explorer.view import View


@pytest.fixture(scope="module")
def explorer(root, browsing, tmp_path_factory):
    from olivine.explorer.browser.server import Explorer

    folder, runs = tmp_path_factory.mktemp("arms"), []
    for seed, name in ((4, "one"), (2, "other")):  # the first takes most points for cars, some of which are
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            runs.append(segmenter(folder / name))
    running = Explorer(Stage(Moments(open_subject([root / "datasets" / "street", *runs]))), View(), port=0)
    yield running
    running.close()


def table_of(moments):
    network = moments.networks["one"]
    table = Confusion(moments, network)
    for place, found in Survey(moments, [network], table.look):
        table.add(place, found)
    return table


def press(page, part):
    """Click where it is, as a hand does: what a label presses may be out of sight."""
    box = part.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_a_cell_of_the_matrix_leads_to_its_worst_cluster(explorer, browser):
    table = table_of(explorer._stage.moments)
    cell = table.cells()[0]
    words = f"{table.name(cell.truth)} predicted as {table.name(cell.predicted)}".replace("_", " ")
    worst = table.worst_clusters(cell.truth, cell.predicted)[0]
    with visit(browser, explorer.address) as page:
        page.get_by_text("Share", exact=True).click()
        page.get_by_text("Mistakes", exact=True).click()
        page.get_by_role("button", name="Go through all frames").click()
        page.get_by_text("4 of 4 frames").wait_for()
        press(page, page.locator(f"label[title^='{words}']"))
        page.get_by_text(re.compile(f"^{words}")).first.wait_for()
        label = re.compile(rf"^frame {worst.frame} · {worst.points:,} points")
        page.get_by_role("button", name=label).first.click()
        page.get_by_text("Share", exact=True).click()
        eye, target = worst.seen(View()).eye, worst.seen(View()).target

        def there():
            view = View.of(said_address(page))
            looks = view.eye == pytest.approx(eye, abs=0.02) and view.target == pytest.approx(target, abs=0.02)
            return looks and (view.frame, view.color, view.network) == (worst.frame, "agreement", "one")

        until(there)


def test_where_one_network_beats_another_and_a_second_visitor_finds_what_the_first_asked(explorer, browser):
    moments = explorer._stage.moments
    table, arms = Versus(moments, *moments.networks.values()), list(moments.networks.values())
    for place, found in Survey(moments, arms, table.look):
        table.add(place, found)
    best, points = table.best_clusters(FIRST)[0], table.counts.sum(axis=0)
    with visit(browser, explorer.address) as page:
        page.get_by_text("Share", exact=True).click()
        page.get_by_text("Mistakes", exact=True).click()
        page.get_by_text("4 of 4 frames").wait_for()
        assert page.get_by_text("Against another run").count() == 1
        page.get_by_role("button", name="Compare in all frames").click()
        page.get_by_role("cell", name=f"{points[FIRST]:,}", exact=True).first.wait_for()
        label = re.compile(rf"^frame {best.frame} · {best.points:,} points")
        page.get_by_role("button", name=label).last.click()
        page.get_by_text("Share", exact=True).click()

        def there():
            view = View.of(said_address(page))
            return (view.frame, view.color, view.network, view.against) == (best.frame, "versus", "one", "other")

        until(there)
