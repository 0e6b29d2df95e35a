from __future__ import annotations

import re

import numpy as np

from olivine.explorer.browser.matrix import CLASSES, matrix_html, shown_classes

NAMES = ("car", "<b>bus</b>", "side_walk", "cone")
COUNTS = np.array([[0, 90, 10, 0, 0], [5, 0, 15, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 7]])


def test_each_cell_presses_its_button_and_says_what_it_is():
    page = matrix_html(NAMES, COUNTS, {(1, 2): "button-12", (2, 0): "button-20"}, chosen=(1, 2))
    labels = re.findall(r"<label([^>]*)>", page)
    assert [re.search(r'for="([^"]*)"', label).group(1) for label in labels] == ["button-12", "button-20"]
    assert "car predicted as &lt;b&gt;bus&lt;/b&gt;: 10 points, 10.0 %" in labels[0]
    assert 'class="at"' in labels[0]
    assert "predicted as none: 5 points, 25.0 %" in labels[1]
    assert "<b>" not in page
    assert page.count("<tr>") == 4  # a head, and the three classes that have points
    assert page.count("<td>") == 3 * 4  # none, car, bus, cone
    assert "1 of 4 classes" in page


def test_what_is_right_is_green_and_what_is_wrong_red_the_more_the_stronger():
    page = matrix_html(NAMES, COUNTS, {})
    shade = dict(re.findall(r'background:(rgba\([^)]*\))" title="([^:]*):', page)[::-1])
    color = {words: color for color, words in shade.items()}
    bus = "&lt;b&gt;bus&lt;/b&gt;"
    said = ("cone predicted as cone", f"car predicted as {bus}", f"{bus} predicted as none")
    right, wrong, more = (color[words] for words in said)
    assert right.startswith("rgba(70,190,110")
    assert wrong.startswith("rgba(240,60,70")
    assert more.startswith("rgba(240,60,70")
    assert float(right[:-1].split(",")[3]) > float(more[:-1].split(",")[3]) > float(wrong[:-1].split(",")[3])


def test_of_very_many_classes_the_most_confused_are_shown():
    counts = np.zeros((40, 41), np.int64)
    counts[np.arange(40), np.arange(1, 41)] = 1000
    counts[np.arange(40), (np.arange(40) + 1) % 40 + 1] = np.arange(40)
    rows, columns = shown_classes(counts)
    assert len(rows) == CLASSES
    assert columns == rows
    assert 40 in rows
    assert 5 not in rows
