"""Commands that say what there is: recipes, their keys, and this machine."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from olivine.cli.common import AsJson, Recipe, say


def recipes() -> None:
    """Every shipped recipe, the command that takes it, and what it is for."""
    from olivine.catalog import list_recipes

    say(list_recipes())


def keys(
    recipe: Recipe,
    prefix: Annotated[str, typer.Argument(help="Only this key and those below it.", metavar="PREFIX")] = "",
) -> None:
    """Every key of a recipe, with its type, its value there, and what it says."""
    from olivine.catalog import list_keys

    say(list_keys(recipe, prefix))


def doctor(as_json: AsJson = False) -> None:
    """What this machine has, which kernels are used and why."""
    from olivine.doctor import examine

    report = examine()
    width = max(map(len, report)) + 2
    say(json.dumps(report) if as_json else "\n".join(f"{key:<{width}}{value}" for key, value in report.items()))
