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
    snapshot: Annotated[
        Path | None, typer.Option(help="Write pictures and a page of one frame to this folder; serve nothing.")
    ] = None,
    mistakes: Annotated[
        Path | None,
        typer.Option(help="Go through all frames and write what the network gets wrong to this folder; serve nothing."),
    ] = None,
    view: Annotated[str, typer.Option(help="What is shown, e.g. 'frame=12&color=agreement'.", metavar="ADDRESS")] = "",
    split: Annotated[
        str | None, typer.Option(help="Which frames: a split, or scenes with commas; default: the run's, else all.")
    ] = None,
    own: Annotated[
        str | None, typer.Option("--data", help="Open it as a dataset of your own.", metavar="MODULE:CLASS")
    ] = None,
    host: Annotated[str, typer.Option(help="Listen there; others than this machine need a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Listen on this port; 0 takes any that is free.")] = 8090,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at points, labels, predictions, mistakes and features in a browser, or as pictures."""
    from olivine.explorer.mistakes.report import write_mistakes
    from olivine.explorer.moments import Moments
    from olivine.explorer.opening import open_subject
    from olivine.explorer.snapshot import snapshots
    from olivine.explorer.stage import Stage
    from olivine.explorer.view import View, command

    stage, shown = Stage(Moments(open_subject(things, split, own))), View.of(view)
    if snapshot is None and mistakes is None:
        from olivine.explorer.browser.server import serve

        serve(stage, shown, host, port, browser=not no_browser, say=say)
        return
    written = [] if snapshot is None else snapshots(stage, shown, snapshot)
    if mistakes is not None:
        written += write_mistakes(stage, shown, mistakes, command(things, split=split, own=own))
    names = [str(path) for path in written]
    say(json.dumps(names) if as_json else "\n".join(names))
