"""Weights wherever they are: a run folder, our own file, or one in another project's layout that says what it is."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from olivine.errors import UserError
from olivine.weights.file import WEIGHTS_FILE, Weights, read_weights
from olivine.weights.foreign import IMPORTERS, OtherLayoutError
from olivine.weights.published import read_checkpoint


def read_source(source: Path | str) -> Weights:
    """Read weights from whatever `olivine` writes them to.

    Args:
        source: a run folder, a `.safetensors` file, the `weights.json` beside one, or a file that `olivine export`
            wrote. A file of another project is read where it says all that is needed of its network.

    Returns:
        The weights; their `path` is the file that was given.

    Raises:
        UserError: no weights there, they are damaged, or a file of another project leaves something open.
    """
    path = Path(source)
    if path.name == Path(WEIGHTS_FILE).with_suffix(".json").name:
        return read_weights(path.with_suffix(".safetensors"))
    if path.suffix == ".safetensors" or not path.is_file():
        return read_weights(path)
    return _foreign(path)


def _foreign(path: Path) -> Weights:
    """The weights of a file in the first of the known layouts that it has."""
    read_checkpoint(path)  # what is no such file at all is refused in its own words
    with tempfile.TemporaryDirectory() as folder:
        for layout, read in IMPORTERS.items():
            try:
                return replace(read_weights(read(path, Path(folder) / layout, ())), path=path)
            except OtherLayoutError:
                continue
            except UserError as error:
                why = str(error).removeprefix(f"{path}: ")
                command = f"olivine import {path} FOLDER --from {layout} KEY=VALUE"
                raise UserError(f"{path}: taken for a file of {layout}: {why}; import it first: {command}") from error
    raise UserError(f"{path}: of no layout that is known, which are {', '.join(IMPORTERS)}; give a run or its weights")
