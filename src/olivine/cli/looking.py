"""The command that shows points, pixels and what networks make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from olivine.cli.common import AsJson, say


def explore(
    things: Annotated[
        list[Path], typer.Argument(help="A dataset's folder, runs, weights, a comparison.", metavar="THING...")
    ],
    snapshot: Annotated[Path, typer.Option(help="Folder of pictures and a page of one frame.")],
    view: Annotated[str, typer.Option(help="What is shown, e.g. 'frame=12&color=agreement'.", metavar="ADDRESS")] = "",
    split: Annotated[
        str | None, typer.Option(help="Which frames: a split, or scenes with commas; default: the run's, else all.")
    ] = None,
    own: Annotated[
        str | None, typer.Option("--data", help="Open it as a dataset of your own.", metavar="MODULE:CLASS")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Pictures of a frame: points coloured by labels, predictions, mistakes, features; images beside."""
    from olivine.explorer.moments import Moments
    from olivine.explorer.opening import open_subject
    from olivine.explorer.snapshot import snapshots
    from olivine.explorer.stage import Stage
    from olivine.explorer.view import View

    stage = Stage(Moments(open_subject(things, split, own)))
    written = [str(path) for path in snapshots(stage, View.of(view), snapshot)]
    say(json.dumps(written) if as_json else "\n".join(written))
