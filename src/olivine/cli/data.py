"""Commands that make data, look at it and label it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from olivine.cli.common import AsJson, Overrides, Recipe, configuration, log, say
from olivine.errors import UserError


def simulate(
    out: Annotated[Path, typer.Argument(help="Folder to write; must be new or empty.")],
    overrides: Overrides = None,
    recipe: Annotated[str, typer.Option(help="Name of a shipped recipe, or path of a YAML file.")] = "simulate",
) -> None:
    """Write a simulated dataset, laid out as nuScenes or as KITTI's object benchmark."""
    from olivine.simulate import SimulateConfig
    from olivine.simulate import simulate as write

    say(write(out, configuration(SimulateConfig, recipe, overrides), workers=os.cpu_count() or 1))


def convert(
    source: Annotated[Path, typer.Argument(help="A bag, a folder of scans and images, KITTI raw or RELLIS-3D.")],
    out: Annotated[str | None, typer.Argument(help="Folder to write; continues where it was stopped.")] = None,
    overrides: Overrides = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Follow this recipe, as --list prints it; else the one it guesses.")
    ] = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="Say what is inside, and print the recipe; write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a dataset of a vehicle's log: matched, rectified, undistorted, in the nuScenes layout."""
    from olivine.logs.convert import Finished
    from olivine.logs.convert import convert as run
    from olivine.logs.listing import list_log
    from olivine.logs.opening import open_log
    from olivine.logs.told import told_recipe

    words = [*([out] if list_only and out else []), *(overrides or [])]
    with open_log(source) as opened:
        if list_only:
            listing = list_log(opened, words)
            say(json.dumps(listing.as_json()) if as_json else listing)
            return
        if out is None:
            raise UserError("convert needs a folder to write: olivine convert SOURCE OUT; --list says what is inside")
        try:
            result = run(opened, Path(out), told_recipe(opened, recipe, words))
        except Finished as finished:
            say(json.dumps({"finished": str(finished)}) if as_json else finished)
            return
    say(json.dumps(result.as_json()) if as_json else result)


def check(
    data: Annotated[Path, typer.Argument(help="A dataset's folder, or a log as convert takes it.")],
    as_json: AsJson = False,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for point-on-image pictures and a page of what looks wrong.")
    ] = None,
    own: Annotated[
        str | None, typer.Option("--data", help="Open it as a dataset of your own.", metavar="MODULE:CLASS")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 2 when there are warnings too.")] = False,
) -> None:
    """Read a dataset as training would; say what is wrong; judge calibrations. Exit 2 when there are problems."""
    from olivine.checking.check import CheckReport, check_each
    from olivine.checking.logs import checkable
    from olivine.visualize.folder import draw_datasets

    report = CheckReport()
    try:
        with checkable(data, own) as folder:
            checked = check_each(folder, own=own, calibration=True)
            for _, found in checked:
                report = report.merged(found)
            for picture in draw_datasets(checked, pictures) if pictures else ():
                log.info("drew %s", picture)
    except UserError as error:
        if as_json:
            say(json.dumps(CheckReport(problems=[str(error)]).as_json()))
        raise
    say((json.dumps(report.as_json()) if as_json else str(report)).replace(str(folder), str(data)))
    if report.problems or (strict and report.warnings):
        raise typer.Exit(2)


def label(
    recipe: Recipe,
    overrides: Overrides = None,
    shard: Annotated[
        str | None, typer.Option(help="Every n-th frame from the i-th; for job arrays.", metavar="I/N")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Spread over a Ray cluster: local starts one, auto finds one.", metavar="ADDRESS")
    ] = None,
    score: Annotated[bool, typer.Option("--score", help="Score masks by labelled LiDAR; other recipes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Weak labels for every camera image. Continues where it was stopped. Exit 1 when images could not be read."""
    if score and (shard is not None or ray is not None):
        raise UserError("--score scores the masks of all shards in one process; leave --shard and --ray out")
    if score:
        _score(recipe, overrides, as_json=as_json)
    else:
        _label(recipe, overrides, shard or "1/1", ray, as_json=as_json)


def _label(recipe: str, overrides: list[str] | None, shard: str, ray: str | None, *, as_json: bool) -> None:
    from olivine.data.shards import Shard
    from olivine.labels.config import LabelConfig
    from olivine.labels.ray_run import label_with_ray
    from olivine.labels.run import label as run

    config, share = configuration(LabelConfig, recipe, overrides), Shard.parse(shard)
    if ray is None:
        summary = run(config, share, progress=not as_json)
    else:
        summary = label_with_ray(config, ray, share, progress=not as_json)
    say(json.dumps(summary.as_json()) if as_json else summary)
    if summary.failed:
        raise typer.Exit(1)


def _score(recipe: str, overrides: list[str] | None, *, as_json: bool) -> None:
    from olivine.labels.scoring.score import ScoreConfig, format_score, score_masks

    score = score_masks(configuration(ScoreConfig, recipe, overrides))
    say(json.dumps(score.as_json()) if as_json else format_score(score))
