"""Which run the explorer is to open for the pictures of a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from olivine.config import read_recipe
from olivine.errors import UserError
from olivine.weights.file import WEIGHTS_FILE

_FRAMES = ("data", "val_data", "val_split")


def explored(folder: Path) -> tuple[Path, ...]:
    """What `olivine explore` opens to show the frames of a scored folder, counted as they are there.

    Args:
        folder: a run, or one of its evaluations.

    Returns:
        The run; nothing where an evaluation has other frames than its run, or there are no weights.
    """
    if (folder / WEIGHTS_FILE).is_file():
        return (folder,)
    run = folder.parent.parent
    if folder.parent.name != "evaluations" or not (run / WEIGHTS_FILE).is_file():
        return ()
    return (run,) if _frames(run) == _frames(folder) else ()


def _frames(folder: Path) -> list[Any] | None:
    """What a configuration says of the scored frames; None where it cannot be read."""
    try:
        recipe = read_recipe(folder / "config.yaml")
    except UserError:
        return None
    return [recipe.get(key) for key in _FRAMES]
