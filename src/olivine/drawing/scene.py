"""Points and lines in three dimensions on a page that needs nothing beside it: turned by the mouse, in any browser.

The page holds the points as text and draws them by WebGL, with the program `scene.js` beside this module.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from olivine.drawing.tiles import RGB, png
from olivine.errors import printable

MAX_POINTS = 200_000
"""A page has no more points; of more, some are taken evenly."""

MAX_LINES = 250
"""A legend that can be clicked has no more lines."""

STYLE = """
.scene { position: relative; color: #d8dbe2; background: #13151b; border-radius: 4px; overflow: hidden; }
.scene canvas { display: block; width: 100%; height: 34rem; max-height: 80vh; touch-action: none; cursor: grab; }
.scene .bar { display: flex; flex-wrap: wrap; gap: .6rem 1.4rem; align-items: center; padding: .5rem .8rem;
  font-size: .85rem; } .scene .bar small { opacity: .7; }
.scene .key { display: flex; flex-wrap: wrap; gap: .3rem; padding: 0 .8rem .7rem; }
.scene .key[hidden] { display: none; } .scene .key button { font: inherit; font-size: .8rem; padding: .1rem .6rem;
  border: 1px solid #4a4e5a; border-left-width: .9rem; border-radius: 3px; background: #1d2028; color: inherit;
  cursor: pointer; } .scene .key button[aria-pressed=false] { opacity: .35; text-decoration: line-through; }
"""


@dataclass(frozen=True)
class Look:
    """The colours of a scene's points, one of several that can be chosen.

    Attributes:
        title: what they show.
        colors: [N, 3] uint8 RGB.
        visible: [N] bool which points are there.
        entry: [N] int64 the line of the legend that each point belongs to, or None where there is none.
        legend: (name, RGB) of its lines.
        strip: what the colours of a value mean, or None.
    """

    title: str
    colors: RGB
    visible: NDArray[np.bool_]
    entry: NDArray[np.int64] | None = None
    legend: Sequence[tuple[str, tuple[int, int, int]]] = ()
    strip: RGB | None = None


@dataclass(frozen=True)
class Scene:
    """What is seen.

    Attributes:
        points_m: [N, 3] metres.
        looks: at least one.
        eye: where it is seen from at first, metres; z is up.
        target: what is looked at.
        lines_m: [L, 2, 3] ends of lines, metres.
        line_colors: [L, 3] uint8 RGB.
    """

    points_m: NDArray[np.floating]
    looks: Sequence[Look]
    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    lines_m: NDArray[np.floating]
    line_colors: RGB


def scene_html(scene: Scene) -> str:
    """A scene as a part of a page; `program` is to stand behind the last one."""
    count = len(scene.points_m)
    rows = np.arange(count) if count <= MAX_POINTS else np.linspace(0, count - 1, MAX_POINTS).astype(np.int64)
    few = f" {len(rows):,} of {count:,} points." if len(rows) < count else ""
    options = "".join(f'<option value="{at}">{_shown(look.title)}</option>' for at, look in enumerate(scene.looks))
    strokes = np.repeat(np.column_stack((scene.line_colors, np.full(len(scene.line_colors), 255))), 2, axis=0)
    return "\n".join(
        [
            f'<div class="scene" data-points="{len(rows)}" data-ends="{2 * len(scene.lines_m)}" '
            f'data-eye="{_numbers(scene.eye)}" data-target="{_numbers(scene.target)}">',
            '<canvas tabindex="0" aria-label="The points in three dimensions"></canvas>',
            f'<div class="bar"><label>Colours <select autocomplete="off">{options}</select></label>',
            '<label>Size <input type="range" min="0.02" max="0.4" step="0.01" value="0.1" autocomplete="off"></label>',
            '<small class="said">The mouse turns, its right button or Shift moves, its wheel comes closer, a double '
            f"click restores.{few}</small></div>",
            *(_key(look) for look in scene.looks),
            _data("places", np.asarray(scene.points_m[rows], "<f4")),
            *(_data("colors", _bytes(look, rows)) for look in scene.looks),
            _data("lines", np.asarray(scene.lines_m, "<f4")),
            _data("strokes", strokes.astype(np.uint8)),
            "</div>",
        ]
    )


def program() -> str:
    """What draws all scenes of a page, as its part that stands last."""
    text = (resources.files("olivine.drawing") / "scene.js").read_text(encoding="utf-8")
    return f"<script>\n{text}</script>"


def _bytes(look: Look, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """[n, 4] colours, and which line of the legend each belongs to: from 1; 0 is left out, 255 has none."""
    line = np.full(len(rows), 255)
    if look.entry is not None and len(look.legend) <= MAX_LINES:
        line = look.entry[rows] + 1
    return np.column_stack((look.colors[rows], np.where(look.visible[rows], line, 0))).astype(np.uint8)


def _key(look: Look) -> str:
    """The legend, whose lines filter, or the scale."""
    if look.strip is not None:
        data = base64.b64encode(png(look.strip)).decode("ascii")
        return f'<div class="key" hidden><img alt="What the colours mean" src="data:image/png;base64,{data}"></div>'
    if look.entry is None or len(look.legend) > MAX_LINES:
        return '<div class="key" hidden></div>'
    there = np.bincount(look.entry[look.visible], minlength=len(look.legend)) > 0
    buttons = [
        f'<button type="button" aria-pressed="true"{"" if some else " hidden"} '
        f'style="border-left-color:rgb({red},{green},{blue})">{_shown(name)}</button>'
        for (name, (red, green, blue)), some in zip(look.legend, there, strict=True)
    ]
    return f'<div class="key" hidden>{"".join(buttons)}</div>'


def _data(name: str, values: NDArray[np.generic]) -> str:
    return f'<script type="text/plain" class="{name}">{base64.b64encode(values.tobytes()).decode("ascii")}</script>'


def _numbers(place: tuple[float, float, float]) -> str:
    return ",".join(f"{value:.3f}" for value in place)


def _shown(text: str) -> str:
    return html.escape(printable(text))
