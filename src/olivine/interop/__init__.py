"""Weights in and out of other projects' layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from olivine.errors import UserError
from olivine.interop.minkowski import export_minkowski, import_minkowski

__all__ = ["EXPORTERS", "IMPORTERS", "export_weights", "import_weights"]

EXPORTERS: dict[str, Callable[[Path, Path], Path]] = {"minkowski": export_minkowski}
"""Writes the weights of a run (first path) in a layout (second path)."""

IMPORTERS: dict[str, Callable[[Path, Path], Path]] = {"minkowski": import_minkowski}
"""Reads a file of a layout (first path) into a folder of weights (second path)."""


def export_weights(run: Path, layout: str, out: Path) -> Path:
    """Write a run's weights in another layout.

    Raises:
        UserError: no such layout, no weights, or the file exists or cannot be written.
    """
    return _choose(EXPORTERS, layout)(run, out)


def import_weights(file: Path, layout: str, out: Path) -> Path:
    """Turn a file of another layout into a folder of weights that recipes can name.

    Raises:
        UserError: no such layout, or the file does not hold what the layout says.
    """
    return _choose(IMPORTERS, layout)(file, out)


def _choose(table: dict[str, Callable[[Path, Path], Path]], layout: str) -> Callable[[Path, Path], Path]:
    if layout not in table:
        raise UserError(f"no layout named {layout!r}; known are {', '.join(table)}")
    return table[layout]
