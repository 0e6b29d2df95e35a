"""Weights in and out of other projects' layouts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from olivine.errors import UserError
from olivine.weights.foreign.files import OtherLayoutError
from olivine.weights.foreign.minkowski import PublishedMinkUNet, export_minkowski, import_minkowski
from olivine.weights.foreign.mmdetection3d import (
    MINKOWSKI,
    SPCONV,
    TORCHSPARSE,
    export_mmdetection3d,
    import_mmdetection3d,
)
from olivine.weights.foreign.openpcdet import export_openpcdet, import_openpcdet
from olivine.weights.foreign.pointcept import export_pointcept, import_pointcept
from olivine.weights.foreign.slidr_voxelnet import import_slidr_voxelnet

T = TypeVar("T")

__all__ = ["EXPORTERS", "IMPORTERS", "OtherLayoutError", "PublishedMinkUNet", "export_weights", "import_weights"]

EXPORTERS: dict[str, Callable[[Path, Path], Path]] = {
    "minkowski": export_minkowski,
    "openpcdet": export_openpcdet,
    "pointcept": export_pointcept,
    "mmdetection3d": partial(export_mmdetection3d, library=TORCHSPARSE),
    "mmdetection3d_spconv": partial(export_mmdetection3d, library=SPCONV),
    "mmdetection3d_minkowski": partial(export_mmdetection3d, library=MINKOWSKI),
}
"""Writes the weights of a run (first path) in a layout (second path)."""

IMPORTERS: dict[str, Callable[[Path, Path, Sequence[str]], Path]] = {
    "minkowski": import_minkowski,
    "openpcdet": import_openpcdet,
    "slidr_voxelnet": import_slidr_voxelnet,
    "pointcept": import_pointcept,
    "mmdetection3d": import_mmdetection3d,
}
"""Reads a file of a layout (first path) into a folder of weights (second path), with `key=value` settings."""


def export_weights(run: Path, layout: str, out: Path) -> Path:
    """Write a run's weights in another layout.

    Raises:
        UserError: no such layout, no weights, or the file exists or cannot be written.
    """
    return _choose(EXPORTERS, layout)(run, out)


def import_weights(file: Path, layout: str, out: Path, overrides: Sequence[str] = ()) -> Path:
    """Turn a file of another layout into a folder of weights that recipes can name.

    Args:
        file: the file.
        layout: its layout, one of `IMPORTERS`.
        out: the folder.
        overrides: `key=value` settings for what the file does not say of itself, e.g. `intensity_max=255`.

    Returns:
        Path of the weights.

    Raises:
        UserError: no such layout, the file does not hold what the layout says, or it leaves something open.
    """
    return _choose(IMPORTERS, layout)(file, out, overrides)


def _choose(table: dict[str, T], layout: str) -> T:
    if layout not in table:
        raise UserError(f"no layout named {layout!r}; known are {', '.join(table)}")
    return table[layout]
