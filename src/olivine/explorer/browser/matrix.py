"""A confusion matrix as HTML that can be clicked: each cell is the label of a button, which a click on it presses."""

from __future__ import annotations

import html
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from olivine.errors import printable
from olivine.explorer.mistakes.confusion import NONE

CLASSES = 24
"""Of more classes those are shown that are confused most."""

_RIGHT, _WRONG, _EMPTY = "70,190,110", "240,60,70", "128,136,150"
_STYLE = (
    "<style>.olv-m{border-spacing:1px;border-collapse:separate;margin:0 auto 0.4em;font-size:9.5px;line-height:1}"
    ".olv-m td,.olv-m th{padding:0;font-weight:400}"
    ".olv-m th.r{text-align:right;padding-right:3px;max-width:84px;overflow:hidden;white-space:nowrap}"
    ".olv-m th.c{writing-mode:vertical-rl;transform:rotate(180deg);max-height:84px;overflow:hidden;white-space:nowrap;"
    "text-align:left;vertical-align:top}"
    ".olv-m label,.olv-m span{display:block;min-width:9px;height:11px;border-radius:2px}"
    ".olv-m label{cursor:pointer}.olv-m label:hover,.olv-m .at{outline:1.5px solid #fff}</style>"
)


def matrix_html(
    names: tuple[str, ...],
    counts: NDArray[np.int64],
    buttons: Mapping[tuple[int, int], str],
    chosen: tuple[int, int] | None = None,
) -> str:
    """The matrix: true classes from the top down, predicted ones from left to right.

    Colours say the share of the true class: green what is right, red what is wrong.

    Args:
        names: [C] the classes.
        counts: [C, C + 1] points by true class and predicted class, column 0 for none.
        buttons: what is pressed by a click, by (true class, predicted class), counted from 1, 0 for none.
        chosen: the cell that is marked.

    Returns:
        HTML in which no name does anything.
    """
    rows, columns = shown_classes(counts)
    said = [html.escape(printable(name.replace("_", " ")), quote=True) for name in (NONE, *names)]
    head = "".join(f'<th class="c" title="predicted as {said[column]}">{said[column]}</th>' for column in columns)
    lines = [f'<tr><th class="r"><i>true</i> \\ <i>predicted</i></th>{head}</tr>']
    total = np.maximum(counts.sum(axis=1), 1)
    for row in rows:
        cells = "".join(
            _cell(said, (row, column), int(counts[row - 1, column]), float(counts[row - 1, column] / total[row - 1]),
                  buttons.get((row, column)), marked=(row, column) == chosen)
            for column in columns
        )  # fmt: skip
        lines.append(f'<tr><th class="r" title="{said[row]}">{said[row]}</th>{cells}</tr>')
    left = len(names) - len(rows)
    note = f"<small>{left} of {len(names)} classes have no points, or few wrong ones.</small>" if left else ""
    return f'{_STYLE}<table class="olv-m">{"".join(lines)}</table>{note}'


def shown_classes(counts: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """True classes and predicted ones that are shown: those with points, the most confused of very many."""
    square = counts[:, 1:]
    wrong = square.sum(axis=1) + square.sum(axis=0) - 2 * square.diagonal() + counts[:, 0]
    most = set((np.argsort(-wrong, kind="stable")[:CLASSES] + 1).tolist())
    rows = [row for row in range(1, len(counts) + 1) if row in most and counts[row - 1].any()]
    columns = [column for column in range(1, len(counts) + 1) if column in most and (column in rows or
               counts[:, column].any())]  # fmt: skip
    return rows, [0, *columns] if counts[:, 0].any() else columns


def _cell(
    said: list[str], place: tuple[int, int], points: int, share: float, button: str | None, *, marked: bool
) -> str:
    truth, predicted = place
    words = f"{said[truth]} predicted as {said[predicted]}: {points:,} points, {100 * share:.1f} %"
    # By the root, so that a few per cent show.
    color = f"rgba({_RIGHT if truth == predicted else _WRONG},{0.15 + 0.85 * share**0.5:.2f})"
    style = f"background:{color if points else f'rgba({_EMPTY},0.10)'}"
    kind = ' class="at"' if marked else ""
    if button is None or not points:
        return f'<td><span{kind} style="{style}" title="{words}"></span></td>'
    return f'<td><label{kind} for="{html.escape(button, quote=True)}" style="{style}" title="{words}"></label></td>'
