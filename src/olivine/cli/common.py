"""What the commands share: their common options, how they read a recipe, and how they speak."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from olivine.config import C, load_recipe
from olivine.errors import UserError, printable

log = logging.getLogger("olivine")
"""What the commands and the package say while they work."""

Recipe = Annotated[str, typer.Argument(help="Name of a shipped recipe, or path of a YAML file.", metavar="RECIPE")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Settings over the recipe's, e.g. optimizer.lr=0.1", metavar="KEY=VALUE")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run; ends in the same weights.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for a program to read.")]


def configuration(model: type[C], recipe: str, overrides: list[str] | None) -> C:
    """The configuration; of a recipe that belongs to another command, the mistake says which."""
    try:
        return load_recipe(model, recipe, overrides or [])
    except UserError:
        from olivine.catalog import COMMANDS, command_of

        try:
            command = command_of(recipe)
        except UserError:
            command = ""
        if command and COMMANDS[command] is not model:
            raise UserError(f"{recipe}: this is a recipe of `olivine {command}`") from None
        raise


def report(folder: Path) -> None:
    """Write the report of a scored run."""
    from olivine.visualize.run_report import report_if_scored

    if rank() == 0 and (said := report_if_scored(folder)):
        log.info(said)


def rank() -> int:
    """Which of the processes of a `torchrun` this is; 0 where there is one."""
    return int(os.environ.get("RANK", "0"))


def say(text: object) -> None:
    """Print a result; only the first process of a `torchrun` does."""
    if rank() == 0:
        typer.echo(printable(text, lines=True))


def trouble(message: str, status: int) -> int:
    """Say in one line what is wrong; returns `status`."""
    who = f"olivine (process {rank()})" if rank() else "olivine"
    sys.stderr.write(f"{who}: {printable(' '.join(message.split()))}\n")
    return status
