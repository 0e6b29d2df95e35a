"""Commands that say what there is: recipes, their keys, and this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
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


def doctor(
    as_json: AsJson = False,
    device: Annotated[
        str, typer.Option(help="Compare this device with the CPU instead, a line for each thing: cuda, cuda:1, cpu.")
    ] = "",
    only: Annotated[str, typer.Option(help="With --device, the lines whose name has this in it.")] = "",
) -> None:
    """What this machine has, which kernels are used and why; or whether a device computes what the CPU computes."""
    if device:
        _compare(device, only, as_json)
        return
    from olivine.doctor import examine

    report = examine()
    width = max(map(len, report)) + 2
    say(json.dumps(report) if as_json else "\n".join(f"{key:<{width}}{value}" for key, value in report.items()))


def _compare(name: str, only: str, as_json: bool) -> None:
    """Say each line as it comes, or all in one object; the status is 1 where one failed."""
    from olivine.doctor.device import checks_for, compare, examined

    found = examined(name)
    width = max(len(check.name) for check in checks_for(found.device, only))
    if not as_json:
        say(f"{found.device} ({found.name}) against PyTorch on the CPU in float64; sparse layers: {found.engine}")
        say(f"{'':<{width}}  largest relative difference")
    lines = []
    for line in compare(found.device, only):
        lines.append(line)
        if not as_json:
            say(line.text(width))
    failed = [line.name for line in lines if not line.ok]
    if as_json:
        told = {"device": str(found.device), "name": found.name, "engine": found.engine, "ok": not failed}
        say(json.dumps({**told, "lines": [asdict(line) for line in lines]}))
    else:
        say(
            f"{len(lines) - len(failed)} of {len(lines)} lines are ok"
            + (f"; FAILED: {', '.join(failed)}" if failed else "")
        )
    if failed:
        raise typer.Exit(1)
