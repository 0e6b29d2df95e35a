"""The pictures of every dataset in a folder, as `olivine check --pictures` draws them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from olivine.checking.check import CheckReport, open_any
from olivine.data.frame import Dataset
from olivine.visualize.boxes import draw_boxes
from olivine.visualize.checked import draw_checked
from olivine.visualize.projection import draw_projections


def draw_folder(root: Path, folder: Path, frames: int = 3, *, own: str | None = None) -> list[Path]:
    """Draw some frames of every dataset that a folder holds; see `olivine.checking.check.open_any`.

    Args:
        root: the datasets' folder.
        folder: where the pictures go; where `root` holds several datasets, each gets a numbered folder in it.
        frames: how many frames of each dataset.
        own: import path of a dataset of one's own, which the folder is then opened as.

    Returns:
        The pictures written.

    Raises:
        UserError: no dataset there, or one that cannot be opened.
    """
    datasets = open_any(root) if own is None else open_any(root, own)
    return draw_datasets([(dataset, CheckReport()) for dataset in datasets], folder, frames)


def draw_datasets(checked: Sequence[tuple[Dataset, CheckReport]], folder: Path, frames: int = 3) -> list[Path]:
    """Draw some frames of datasets, and what checks of them found.

    Args:
        checked: datasets, each with its report.
        folder: as of `draw_folder`.
        frames: how many frames of each dataset.

    Returns:
        The pictures and pages written.
    """
    numbered = len(checked) > 1
    written = []
    for number, (dataset, report) in enumerate(checked):
        place = folder / f"{number}-{dataset.name}" if numbered else folder
        written += draw_projections(dataset, place, frames)
        written += draw_boxes(dataset, place, frames)
        written += draw_checked(dataset, report, place)
    return written
