"""Commands that train networks, score them and compare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from olivine.cli.common import AsJson, Overrides, Recipe, Resume, configuration, report, say, trouble
from olivine.errors import UserError


def demo(overrides: Overrides = None) -> None:
    """The whole story on a simulated world, with a report to look at. Continues where it was stopped."""
    from olivine.demo import DemoConfig, run_demo

    say(run_demo(configuration(DemoConfig, "demo", overrides)))


def pretrain(recipe: Recipe, overrides: Overrides = None, resume: Resume = False) -> None:
    """Pretrain a backbone from images."""
    from olivine.pretraining.run import PretrainConfig
    from olivine.pretraining.run import pretrain as run

    say(run(configuration(PretrainConfig, recipe, overrides), resume=resume))


def segment(recipe: Recipe, overrides: Overrides = None, resume: Resume = False, as_json: AsJson = False) -> None:
    """Fine-tune or linear-probe a backbone on semantic segmentation, then score it."""
    from olivine.segmentation.results import headline
    from olivine.segmentation.segment import SegmentConfig
    from olivine.segmentation.segment import segment as run

    config = configuration(SegmentConfig, recipe, overrides)
    results = run(config, resume=resume)
    report(config.out / config.name)
    say(json.dumps(results) if as_json else headline(results))


def detect(recipe: Recipe, overrides: Overrides = None, resume: Resume = False, as_json: AsJson = False) -> None:
    """Train a detector of objects in KITTI's layout, then score it."""
    from olivine.detection.detect import DetectConfig
    from olivine.detection.detect import detect as run
    from olivine.detection.results import headline

    config = configuration(DetectConfig, recipe, overrides)
    results = run(config, resume=resume)
    report(config.out / config.name)
    say(json.dumps(results) if as_json else headline(results))


def evaluate(
    run: Annotated[Path | None, typer.Argument(help="Folder of a finished run that was scored.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    detections: Annotated[
        Path | None, typer.Option(help="Score the KITTI text files of this folder instead.", metavar="FOLDER")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="The label files that they are scored by.", metavar="FOLDER")
    ] = None,
    frames: Annotated[
        Path | None, typer.Option(help="Score the frames of this list; val is KITTI's own.", metavar="LIST.txt")
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(help="Score the classes of this file, by its rules.", metavar="RULES.yaml")
    ] = None,
) -> None:
    """Score a trained network again, perhaps on another split, or detections by KITTI's rules."""
    if run is not None and not any((detections, labels, frames, rules)):
        from olivine.compare.kinds import evaluate as score

        results, headline = score(run, overrides or [])
        report(Path(results.get("folder", run)))
        say(json.dumps(results) if as_json else headline)
    elif run is None and detections is not None and labels is not None:
        from olivine.detection.kitti import CLASSES, read_class_rules, score_folders

        scores = score_folders(detections, labels, frames, read_class_rules(rules) if rules else CLASSES)
        say(json.dumps(scores.as_json()) if as_json else scores.table())
    else:
        raise UserError("evaluate takes a run folder, or --detections and --labels and perhaps --frames and --rules")


def compare(recipe: Recipe, overrides: Overrides = None) -> None:
    """Arms × protocols × seeds from one recipe into one table. Continues where it stopped. Exit 1 if a run failed."""
    from olivine.compare import CompareConfig
    from olivine.compare import compare as run

    comparison = run(configuration(CompareConfig, recipe, overrides))
    say(comparison)
    for failure in comparison.failures:
        trouble(str(failure), 1)
    if comparison.failures:
        raise typer.Exit(1)
