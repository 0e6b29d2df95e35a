"""The recipe of a conversion: what a log offers or a file says, with the user's settings over it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from olivine.config import from_overrides, load_recipe
from olivine.logs.fields import proposed
from olivine.logs.log import Log
from olivine.logs.recipe import ConvertConfig


def told_recipe(log: Log, recipe: Path | None = None, overrides: Sequence[str] = ()) -> ConvertConfig:
    """The recipe to follow.

    Args:
        log: an open log, which offers one where no file is given.
        recipe: a YAML file.
        overrides: `key=value` settings, later ones win.

    Raises:
        UserError: no points in the log, no such file, or a key or value that the recipe refuses.
    """
    if recipe is not None:
        return load_recipe(ConvertConfig, recipe, overrides)
    return overridden(proposed(log).config, overrides)


def overridden(config: ConvertConfig, overrides: Sequence[str]) -> ConvertConfig:
    """A recipe with settings over its own; raises `UserError` where one is refused."""
    if not overrides:
        return config
    return from_overrides(ConvertConfig, overrides, "the recipe of this log", base=config.model_dump(mode="json"))
