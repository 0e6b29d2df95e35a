"""The command that shows points, pixels and what networks make of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from olivine.cli.common import AsJson, log, say
from olivine.drawing.links import EXPLORER_HOST, EXPLORER_PORT
from olivine.errors import UserError, printable

if TYPE_CHECKING:
    from olivine.explorer.selecting.selection import Selection
    from olivine.explorer.stage import Stage
    from olivine.explorer.subject.moments import Moments


Things = Annotated[
    list[Path], typer.Argument(help="A dataset's folder, a log, runs, weights, a comparison.", metavar="THING...")
]
Snapshot = Annotated[
    Path | None, typer.Option(help="Write pictures and a page of one frame to this folder; serve nothing.")
]
Mistakes = Annotated[
    Path | None,
    typer.Option(help="Go through all frames and write what the network gets wrong to this folder; serve nothing."),
]
LabelErrors = Annotated[
    Path | None,
    typer.Option(help="Go through all frames and write likely label errors to this folder; serve nothing."),
]
CorrectedLabels = Annotated[
    Path | None,
    typer.Option(help="Write the labels that --marks puts right to this folder; serve nothing.", metavar="FOLDER"),
]
MarksFile = Annotated[
    Path | None, typer.Option(help="File of what people said of labels; default: marks.json beside the weights.")
]
Address = Annotated[str, typer.Option(help="What is shown, e.g. 'frame=12&color=agreement'.", metavar="ADDRESS")]
Split = Annotated[
    str | None, typer.Option(help="Which frames: a split, or scenes, each with a comma; else the run's, or all.")
]
Own = Annotated[str | None, typer.Option("--data", help="Open it as a dataset of your own.", metavar="MODULE:CLASS")]
Host = Annotated[str, typer.Option(help="Listen there; others than this machine need a token.")]
Port = Annotated[int, typer.Option(help="Listen on this port; 0 takes any that is free.")]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Open no browser.")]
SelectFile = Annotated[
    Path | None, typer.Option(help="A file of selections; with --out their labels are written.", metavar="FILE")
]
Out = Annotated[
    Path | None, typer.Option(help="Folder of labels: of --select, else below it what is selected in the browser.")
]
Frames = Annotated[str, typer.Option(help="Which frames are labelled: all, or scenes and tokens with commas.")]


def explore(
    context: typer.Context,
    things: Things,
    snapshot: Snapshot = None,
    mistakes: Mistakes = None,
    label_errors: LabelErrors = None,
    corrected: CorrectedLabels = None,
    marks: MarksFile = None,
    view: Address = "",
    split: Split = None,
    own: Own = None,
    host: Host = EXPLORER_HOST,
    port: Port = EXPLORER_PORT,
    no_browser: NoBrowser = False,
    select: SelectFile = None,
    out: Out = None,
    frames: Frames = "all",
    as_json: AsJson = False,
) -> None:
    """Look at points, labels, predictions, mistakes and features in a browser, or as pictures."""
    from olivine.explorer.logs import datasets_of_logs
    from olivine.explorer.mistakes.label_errors import write_label_errors
    from olivine.explorer.mistakes.report import write_mistakes
    from olivine.explorer.sharing.snapshot import snapshots
    from olivine.explorer.stage import Stage
    from olivine.explorer.subject.moments import Moments
    from olivine.explorer.subject.opening import open_subject
    from olivine.explorer.view import View, command

    written_to = [snapshot, mistakes, label_errors]
    if corrected is not None and ([*written_to, select, out] != [None] * 5 or view):
        raise UserError("--corrected writes labels and nothing else; ask for the rest in a command without it")
    _refuse_idle(serves=written_to == [None] * 3, select=select, out=out, frames=frames)
    folders = context.with_resource(datasets_of_logs(things, own))
    stage = Stage(Moments(open_subject(folders, split, own)), out or Path("labels"), marks)
    shown = View.of(view)
    if corrected is not None:
        _write_corrected(stage, corrected, as_json=as_json)
        return
    if select is not None:
        from olivine.explorer.selecting.selection import read_selections

        selections = read_selections(select, stage.moments)
        if out is not None:
            _write_labels(stage.moments, selections, out, frames, as_json=as_json)
            return
        shown = replace(shown, select=tuple(map(str, selections)))
    if written_to == [None] * 3:
        from olivine.explorer.browser.server import serve

        serve(stage, shown, host, port, browser=not no_browser, say=say)
        return
    written = [] if snapshot is None else snapshots(stage, shown, snapshot)
    opened = command(things, split=split, own=own)
    if mistakes is not None:
        written += write_mistakes(stage, shown, mistakes, opened)
    if label_errors is not None:
        written += write_label_errors(stage, shown, label_errors, opened)
    names = [str(path) for path in written]
    say(json.dumps(names) if as_json else "\n".join(names))


def _refuse_idle(*, serves: bool, select: Path | None, out: Path | None, frames: str) -> None:
    """Refuse options that would be passed over.

    Raises:
        UserError: one would.
    """
    if out is not None and not serves:
        rest = "a folder of labels" if select is None else "labels and nothing else"
        raise UserError(f"--out is for {rest}; ask for pictures, mistakes and label errors in a command without it")
    if frames != "all" and (select is None or out is None):
        raise UserError("--frames says which frames are labelled, and needs --select and --out")


def _write_corrected(stage: Stage, out: Path, *, as_json: bool) -> None:
    """Write the labels that marks put right."""
    from olivine.explorer.mistakes.corrections import write_corrected

    done = write_corrected(stage.moments.dataset, stage.marks, out)
    say(json.dumps(done.as_json()) if as_json else str(done))


def _write_labels(moments: Moments, selections: Sequence[Selection], out: Path, frames: str, *, as_json: bool) -> None:
    """Label frames by selections; exit 1 when frames have failed."""
    from olivine.explorer.selecting.labelling import Labelling, places_of

    done = Labelling(moments, selections, out, places_of(moments, frames)).run()
    for place, trouble in done.troubles:
        log.warning("no labels: frame %d: %s", place, printable(trouble))
    say(json.dumps(done.as_json()) if as_json else done)
    if done.failed:
        raise typer.Exit(1)
