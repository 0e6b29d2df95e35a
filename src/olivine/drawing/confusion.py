"""A picture of a confusion matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from olivine.errors import MissingExtraError
from olivine.files import writing


def draw_confusion(counts: NDArray[np.int64], names: tuple[str, ...], path: Path) -> None:
    """Draw the share of each true class (row) that was predicted as each class (column), in percent.

    Args:
        counts: [C, C + 1] points by true class and predicted class, column 0 without a prediction.
        names: [C] class names.
        path: the picture to write; its ending chooses the format.

    Raises:
        MissingExtraError: matplotlib is not installed.
        UserError: the picture cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "report") from error
    columns = ("none", *names) if counts[:, 0].any() else names
    shown = counts[:, -len(columns) :]
    share = 100 * shown / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 2.5 + 0.42 * len(names)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(columns)), columns, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title("% of the points of each true class", fontsize=10)
    for row, column in zip(*np.nonzero(share >= 0.5), strict=True):
        color = "white" if share[row, column] > 60 else "black"
        axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", fontsize=7, color=color)
    with writing(path):
        figure.savefig(path, dpi=120)
