"""KITTI's calibration files: a row of numbers for each named matrix, as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from olivine.errors import UserError
from olivine.reading import TEXT_BYTES, read_file


def read_calibration_rows(path: Path) -> dict[str, str]:
    """The rows of a calibration file by name, `name: numbers` or, as the tracking benchmark has some, `name numbers`.

    Line ends of any system are read; rows without numbers, and one that is repeated, do no harm.

    Raises:
        UserError: missing, no regular file, or two rows of one name that differ.
    """
    rows: dict[str, str] = {}
    text = read_file(path, "this calibration", limit=TEXT_BYTES).decode("utf-8", errors="replace")
    for line in text.splitlines():
        name, colon, numbers = line.partition(":" if ":" in line else " ")
        if rows.setdefault(name.strip(), numbers).split() != numbers.split() and colon == ":":
            raise UserError(f"{path}: two rows {name.strip()!r} that differ; keep the right one")
    return rows


def matrix_row(
    rows: dict[str, str], names: tuple[str, ...], columns: int, path: Path, hint: str
) -> NDArray[np.float64]:
    """One row of a calibration file as a matrix.

    Args:
        rows: the file's rows.
        names: what the row is called; the first of them that is there counts.
        columns: of the matrix.
        path: the file, for messages.
        hint: what to do where the row is missing, for messages.

    Returns:
        [3, columns] float64.

    Raises:
        UserError: no such row, another number of numbers, one that is not finite, or a singular 3×3 part.
    """
    name = next((name for name in names if name in rows), None)
    if name is None:
        raise UserError(f"{path}: no row {' or '.join(map(repr, names))}; {hint}")
    try:
        matrix = np.array(rows[name].split(), dtype=np.float64).reshape(3, columns)
        usable = bool(np.isfinite(matrix).all()) and abs(np.linalg.det(matrix[:, :3])) > 0
    except ValueError:
        usable = False
    if not usable:
        raise UserError(f"{path}: row {name!r} must be {3 * columns} numbers that form a regular 3×{columns} matrix")
    return matrix
