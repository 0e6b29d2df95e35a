"""What can be compared: every kind of run there is, by the `kind` of its recipe.

A new task is a room with a `ScoredKind` and a line here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from olivine.config import kind_of, read_recipe
from olivine.detection.kind import Detection
from olivine.engine.kinds import Kind, ScoredKind
from olivine.errors import UserError
from olivine.pretraining.kind import Pretraining
from olivine.segmentation.kind import Segmentation
from olivine.weights.file import read_weights

PRETRAINING = Pretraining()
"""What arms are made by."""

SCORED: dict[str, ScoredKind[Any]] = {str(kind_of(kind.config)): kind for kind in (Segmentation(), Detection())}
"""What protocols may be, by the `kind` of their recipes."""


def kind_named(name: str) -> Kind[Any]:
    """What the resolved recipes of a `kind` are recipes of."""
    return PRETRAINING if name == kind_of(PRETRAINING.config) else SCORED[name]


def scored_kind(recipe: str) -> ScoredKind[Any]:
    """What a recipe of a protocol is a recipe of.

    Args:
        recipe: name of a shipped recipe, or path of a YAML file; segmentation where it does not say.

    Raises:
        UserError: it cannot be read, or is a recipe of something that has no score.
    """
    kind = read_recipe(recipe).get("kind", "segment")
    if kind not in SCORED:
        raise UserError(f"{recipe}: a recipe of kind {kind!r} has no score; a protocol is one of {', '.join(SCORED)}")
    return SCORED[kind]


def evaluate(folder: Path, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], str]:
    """Score a finished run of any kind again.

    Args:
        folder: the run's folder.
        overrides: `key=value` settings of scoring.

    Returns:
        What its `results.json` would hold, and the score in one line.

    Raises:
        UserError: this is no finished run of something that is scored, a setting is none of scoring, or the data do
            not fit.
    """
    task = read_weights(folder).about.get("task")
    for kind in SCORED.values():
        if kind.made_by == task and Path(folder).is_dir():
            results = kind.evaluate(folder, overrides)
            return results, kind.headline(results)
    commands = " or ".join(f"`olivine {name}`" for name in SCORED)
    raise UserError(f"{folder}: not the folder of a finished {commands} run")
