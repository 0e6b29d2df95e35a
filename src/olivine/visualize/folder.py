"""The pictures of every dataset in a folder, as `olivine check --pictures` draws them."""

from __future__ import annotations

from pathlib import Path

from olivine.checking.check import open_any
from olivine.visualize.boxes import draw_boxes
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
    places = [folder] if len(datasets) == 1 else [folder / f"{n}-{each.name}" for n, each in enumerate(datasets)]
    written = []
    for dataset, place in zip(datasets, places, strict=True):
        written += draw_projections(dataset, place, frames)
        written += draw_boxes(dataset, place, frames)
    return written
