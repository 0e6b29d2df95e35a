"""The command line: parse, call, print; no logic.

Results go to standard output, progress and trouble to standard error; of the processes of a `torchrun` only the first
says anything but trouble. Exit status 0 only on success; 2 for a user's mistake, with one line and no traceback; 1 for
anything else. Modules are imported inside the commands so that `olivine --help` answers at once.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO, cast

import typer

from olivine import __version__
from olivine.config import C, load_recipe
from olivine.errors import OlivineWarning, TrainingDiverged, UserError, printable
from olivine.examples import epilog
from olivine.processes import Stopped, exhausted, stoppable

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

# What typer raises for a wrong option or argument; it exports only this branch of them by name.
_UsageError = cast("type[Exception]", typer.BadParameter.__base__)

_log = logging.getLogger("olivine")

app = typer.Typer(
    help="Teach LiDAR networks from camera images, without labelled LiDAR.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its frames rewrap the examples
    context_settings={"help_option_names": ["-h", "--help"]},
)

Recipe = Annotated[str, typer.Argument(help="Name of a shipped recipe, or path of a YAML file.", metavar="RECIPE")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Settings over the recipe's, e.g. optimizer.lr=0.1", metavar="KEY=VALUE")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run; ends in the same weights.")]
Layout = (
    "Layout: minkowski (a .pt file with a state dict of MinkUNet in it), openpcdet (a .pth file of a detector, or of "
    "its encoder), pointcept or mmdetection3d (a .pth file of MinkUNet)"
)
ToLayout = f"{Layout}, mmdetection3d_spconv or mmdetection3d_minkowski (the same on other libraries)."
FromLayout = f"{Layout}, or slidr_voxelnet (a .pt file with a VoxelNet of SLidR or OLIVINE in it)."
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for a program to read.")]


@app.command(epilog=epilog("demo"))
def demo(overrides: Overrides = None) -> None:
    """The whole story on a simulated world, with a report to look at. Continues where it was stopped."""
    from olivine.demo import DemoConfig, run_demo

    _say(run_demo(_configuration(DemoConfig, "demo", overrides)))


@app.command(epilog=epilog("simulate"))
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder to write; must be new or empty.")],
    overrides: Overrides = None,
    recipe: Annotated[str, typer.Option(help="Name of a shipped recipe, or path of a YAML file.")] = "simulate",
) -> None:
    """Write a simulated dataset, laid out as nuScenes or as KITTI's object benchmark."""
    from olivine.simulate import SimulateConfig
    from olivine.simulate import simulate as write

    _say(write(out, _configuration(SimulateConfig, recipe, overrides), workers=os.cpu_count() or 1))


@app.command(epilog=epilog("check"))
def check(
    data: Annotated[Path, typer.Argument(help="A nuScenes or SemanticKITTI folder, or one of your own.")],
    as_json: AsJson = False,
    pictures: Annotated[Path | None, typer.Option(help="Folder for point-on-image pictures.")] = None,
    own: Annotated[
        str | None, typer.Option("--data", help="Open it as a dataset of your own.", metavar="MODULE:CLASS")
    ] = None,
) -> None:
    """Read a dataset as training would; say what is wrong; draw projections. Exit 2 when there are problems."""
    from olivine.data.check import CheckReport, check_folder
    from olivine.visualize.folder import draw_folder

    try:
        report = check_folder(data, own=own)
    except UserError as error:
        if as_json:
            _say(json.dumps(CheckReport(problems=[str(error)]).as_json()))
        raise
    for picture in draw_folder(data, pictures, own=own) if pictures else ():
        _log.info("drew %s", picture)
    _say(json.dumps(report.as_json()) if as_json else str(report))
    if report.problems:
        raise typer.Exit(2)


@app.command(epilog=epilog("label"))
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


@app.command(epilog=epilog("pretrain"))
def pretrain(recipe: Recipe, overrides: Overrides = None, resume: Resume = False) -> None:
    """Pretrain a backbone from images."""
    from olivine.pretraining.run import PretrainConfig
    from olivine.pretraining.run import pretrain as run

    _say(run(_configuration(PretrainConfig, recipe, overrides), resume=resume))


@app.command(epilog=epilog("segment"))
def segment(recipe: Recipe, overrides: Overrides = None, resume: Resume = False, as_json: AsJson = False) -> None:
    """Fine-tune or linear-probe a backbone on semantic segmentation, then score it."""
    from olivine.segmentation.results import headline
    from olivine.segmentation.segment import SegmentConfig
    from olivine.segmentation.segment import segment as run

    config = _configuration(SegmentConfig, recipe, overrides)
    results = run(config, resume=resume)
    _report(config.out / config.name)
    _say(json.dumps(results) if as_json else headline(results))


@app.command(epilog=epilog("detect"))
def detect(recipe: Recipe, overrides: Overrides = None, resume: Resume = False, as_json: AsJson = False) -> None:
    """Train a detector of objects in KITTI's layout, then score it."""
    from olivine.detection.detect import DetectConfig
    from olivine.detection.detect import detect as run
    from olivine.detection.results import headline

    config = _configuration(DetectConfig, recipe, overrides)
    results = run(config, resume=resume)
    _report(config.out / config.name)
    _say(json.dumps(results) if as_json else headline(results))


@app.command(epilog=epilog("evaluate"))
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
        _report(Path(results.get("folder", run)))
        _say(json.dumps(results) if as_json else headline)
    elif run is None and detections is not None and labels is not None:
        from olivine.detection.kitti import CLASSES, read_class_rules, score_folders

        scores = score_folders(detections, labels, frames, read_class_rules(rules) if rules else CLASSES)
        _say(json.dumps(scores.as_json()) if as_json else scores.table())
    else:
        raise UserError("evaluate takes a run folder, or --detections and --labels and perhaps --frames and --rules")


@app.command(epilog=epilog("compare"))
def compare(recipe: Recipe, overrides: Overrides = None) -> None:
    """Arms × protocols × seeds from one recipe into one table. Continues where it stopped. Exit 1 if a run failed."""
    from olivine.compare import CompareConfig
    from olivine.compare import compare as run

    comparison = run(_configuration(CompareConfig, recipe, overrides))
    _say(comparison)
    for failure in comparison.failures:
        _trouble(str(failure), 1)
    if comparison.failures:
        raise typer.Exit(1)


@app.command(epilog=epilog("export"))
def export(
    run: Annotated[Path, typer.Argument(help="A run folder, or a weights file of one.")],
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    to: Annotated[str, typer.Option("--to", help=ToLayout)],
) -> None:
    """Write a backbone's weights in another project's layout."""
    from olivine.weights.foreign import export_weights

    _say(export_weights(run, to, out))


@app.command("import", epilog=epilog("import"))
def import_(
    file: Annotated[Path, typer.Argument(help="The file to read.")],
    out: Annotated[Path, typer.Argument(help="Folder to write weights to, for weights=... in recipes.")],
    layout: Annotated[str, typer.Option("--from", help=FromLayout)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="What the file does not say, e.g. intensity_max=255", metavar="KEY=VALUE"),
    ] = None,
) -> None:
    """Read a backbone's weights from another project's layout."""
    from olivine.weights.foreign import import_weights

    _say(import_weights(file, layout, out, overrides or []))


@app.command(epilog=epilog("recipes"))
def recipes() -> None:
    """Every shipped recipe, the command that takes it, and what it is for."""
    from olivine.catalog import list_recipes

    _say(list_recipes())


@app.command(epilog=epilog("keys"))
def keys(
    recipe: Recipe,
    prefix: Annotated[str, typer.Argument(help="Only this key and those below it.", metavar="PREFIX")] = "",
) -> None:
    """Every key of a recipe, with its type, its value there, and what it says."""
    from olivine.catalog import list_keys

    _say(list_keys(recipe, prefix))


@app.command(epilog=epilog("doctor"))
def doctor(as_json: AsJson = False) -> None:
    """What this machine has, which kernels are used and why."""
    from olivine.doctor import examine

    report = examine()
    width = max(map(len, report)) + 2
    _say(json.dumps(report) if as_json else "\n".join(f"{key:<{width}}{value}" for key, value in report.items()))


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        _say(__version__)
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """The `olivine` program.

    Args:
        arguments: the words after the program's name; by default those it was started with.

    Returns:
        The exit status. What is no user's mistake, interruption or diverged training is raised.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    command = typer.main.get_command(app)
    with _reporting(sys.stderr):
        try:
            with stoppable():
                status = command.main(words, prog_name="olivine", standalone_mode=False)
        except _UsageError as error:
            return _trouble(cast("Any", error).format_message(), 2)
        except UserError as error:
            return _trouble(str(error), 2)
        except TrainingDiverged as error:
            return _trouble(str(error), 1)
        except Stopped as stop:
            return _trouble(str(stop), stop.status)
        except (MemoryError, RuntimeError) as error:
            hint = exhausted(error)
            if hint is None:
                raise
            return _trouble(hint, 1)
        except BrokenPipeError:  # whoever read our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (KeyboardInterrupt, typer.Abort):  # older typers turn the one into the other, newer into a status
            status = INTERRUPTED
    return _trouble("interrupted", INTERRUPTED) if status == INTERRUPTED else int(status or 0)


class _Printable(logging.Formatter):
    """What is logged, with nothing in it that a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), lines=True)


@contextmanager
def _reporting(stream: TextIO) -> Iterator[None]:
    """Show the package's log and its warnings on `stream`, a line each; nothing but warnings from later processes."""
    handler, level, show = logging.StreamHandler(stream), _log.level, warnings.showwarning
    handler.setFormatter(_Printable())

    def show_line(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
        if issubclass(category, OlivineWarning):
            _log.warning("warning: %s", message)
        else:
            show(message, category, *place, **options)

    _log.addHandler(handler)
    _log.setLevel(logging.WARNING if _rank() else logging.INFO)
    warnings.showwarning = show_line
    try:
        yield
    finally:
        warnings.showwarning = show
        _log.setLevel(level)
        _log.removeHandler(handler)


def _configuration(model: type[C], recipe: str, overrides: list[str] | None) -> C:
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


def _label(recipe: str, overrides: list[str] | None, shard: str, ray: str | None, *, as_json: bool) -> None:
    from olivine.labels.config import LabelConfig
    from olivine.labels.manifest import Shard
    from olivine.labels.ray_run import label_with_ray
    from olivine.labels.run import label as run

    config, share = _configuration(LabelConfig, recipe, overrides), Shard.parse(shard)
    if ray is None:
        summary = run(config, share, progress=not as_json)
    else:
        summary = label_with_ray(config, ray, share, progress=not as_json)
    _say(json.dumps(summary.as_json()) if as_json else summary)
    if summary.failed:
        raise typer.Exit(1)


def _score(recipe: str, overrides: list[str] | None, *, as_json: bool) -> None:
    from olivine.labels.scoring.score import ScoreConfig, format_score, score_masks

    score = score_masks(_configuration(ScoreConfig, recipe, overrides))
    _say(json.dumps(score.as_json()) if as_json else format_score(score))


def _report(folder: Path) -> None:
    """Write the report of a scored run."""
    from olivine.visualize.run_report import report_if_scored

    if _rank() == 0 and (said := report_if_scored(folder)):
        _log.info(said)


def _rank() -> int:
    """Which of the processes of a `torchrun` this is; 0 where there is one."""
    return int(os.environ.get("RANK", "0"))


def _say(text: object) -> None:
    if _rank() == 0:
        typer.echo(printable(text, lines=True))


def _trouble(message: str, status: int) -> int:
    """Say in one line what is wrong; returns `status`."""
    who = f"olivine (process {_rank()})" if _rank() else "olivine"
    sys.stderr.write(f"{who}: {printable(' '.join(message.split()))}\n")
    return status
