"""Several runs side by side: the same points once for each, where each stands, and what a click on one means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olivine.data.frame import Boxes
from olivine.drawing.tiles import RGB
from olivine.explorer.coloring import Coloring
from olivine.explorer.view import ALL, View

MOST_COPIES = 6
"""So many runs stand beside each other at most, the first included."""

GAP_M = 4.0
"""So far from each other."""

NARROWEST_M, WIDEST_M = 20.0, 64.0
"""Between these lies how wide a strip of the scene each has; what lies further to the side is left out."""


@dataclass(frozen=True)
class Copy:
    """The points of a frame once more, as another run has them.

    Attributes:
        name: of the run.
        coloring: of all points.
        visible: [N] bool which points the filter leaves.
        boxes: labelled ones, and those that the run found; or None.
        box_colors: [M, 3] uint8 RGB of them.
        offset_m: [3] where it stands, metres from the first.
        trouble: why its colours are not those that were asked for; empty where they are.
    """

    name: str
    coloring: Coloring
    visible: NDArray[np.bool_]
    boxes: Boxes | None
    box_colors: RGB | None
    offset_m: NDArray[np.float64]
    trouble: str = ""


def asked_beside(view: View, names: Sequence[str]) -> list[str]:
    """The runs that a view wants beside its own, in their order; more than are shown, perhaps.

    Args:
        view: the view, with its own run in `network`.
        names: of all runs.
    """
    wanted = names if ALL in view.beside else [name for name in names if name in view.beside]
    return [name for name in wanted if name != view.network]


def spacing_m(points_m: NDArray[np.floating], ahead: NDArray[np.floating]) -> NDArray[np.float64]:
    """[3] from one copy to the next: to the right of where one looks, by the width of most points.

    Args:
        points_m: [N, 3] metres.
        ahead: [2] unit vector of where one looks.
    """
    right = np.array([ahead[1], -ahead[0], 0.0])
    across = np.abs(points_m @ right) if len(points_m) else np.zeros(1)
    width_m = 2 * float(np.quantile(across, 0.95)) + GAP_M
    return right * min(max(width_m, NARROWEST_M), WIDEST_M)


def within(points_m: NDArray[np.floating], step_m: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[N] which points lie in the strip of a copy, so that none stands among those of another.

    Args:
        points_m: [N, 3] metres, in the place of the first copy.
        step_m: [3] from one copy to the next.
    """
    width_m = float(np.linalg.norm(step_m))
    return np.asarray(np.abs(points_m @ (step_m / width_m)) <= (width_m - GAP_M) / 2)
