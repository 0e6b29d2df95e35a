"""Precision over recall, drawn with matplotlib and returned as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from olivine.drawing.figures import PALETTE, new_figure, png

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""([S] recall ascending from 0, [S] precision at that recall or beyond), in 0…1; NaN leaves a gap."""


def precision_recall(panels: Mapping[str, Mapping[str, Curve]], title: str) -> bytes:
    """Curves of precision over recall, in panels side by side.

    Between two recalls the precision of the higher one is drawn, so that the area under a curve is the mean of its
    precisions without the first: KITTI's average precision over 40 recall points.

    Args:
        panels: curves by name, by title of the panel; NaN leaves a gap.
        title: what the figure shows.

    Returns:
        The file's bytes.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = new_figure(3.5 * max(len(panels), 1), 3.7)
    figure.suptitle(title, fontsize=11)
    for column, (name, curves) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), column)
        for place, (label, (recall, precision)) in enumerate(curves.items()):
            color = PALETTE[(place + 1) % len(PALETTE)]
            axes.plot(recall, precision, drawstyle="steps-pre", color=color, linewidth=1.6, label=label)
        axes.set(title=name, xlabel="recall", xlim=(0, 1), ylim=(0, 1.02))
        axes.set(ylabel="precision" if column == 1 else "")
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3, frameon=False)
    return png(figure)
