"""The command line: parse, call, print; no logic.

Exit status 0 only on success; 2 for a user's mistake, with one line and no traceback; 1 for anything else. Modules are
imported inside the commands so that `olivine --help` answers at once.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from olivine import __version__
from olivine.config import C, load_recipe
from olivine.errors import UserError

app = typer.Typer(
    help="Teach LiDAR networks from camera images, without human labels.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Recipe = Annotated[str, typer.Argument(help="Name of a shipped recipe, or path of a YAML file.", metavar="RECIPE")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Settings over the recipe's, e.g. optimizer.lr=0.1", metavar="[KEY=VALUE]...")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run; ends in the same weights.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for a program to read.")]


@app.command()
def demo(overrides: Overrides = None) -> None:
    """The whole story on a simulated world, with a report to look at. Continues where it was stopped."""
    from olivine.demo import DemoConfig, run_demo

    typer.echo(run_demo(_configuration(DemoConfig, "demo", overrides)))


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder to write; must be new or empty.")], overrides: Overrides = None
) -> None:
    """Write a simulated dataset in the nuScenes format."""
    from olivine.simulate import SimulateConfig
    from olivine.simulate import simulate as write

    typer.echo(write(out, _configuration(SimulateConfig, "simulate", overrides)))


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="A nuScenes or SemanticKITTI folder.")],
    as_json: AsJson = False,
    pictures: Annotated[Path | None, typer.Option(help="Folder for point-on-image pictures.")] = None,
) -> None:
    """Read a dataset as training would; say what is wrong; draw projections. Exit 2 when there are problems."""
    from olivine.data.check import check_folder
    from olivine.visualize.projection import draw_folder

    report = check_folder(data)
    for picture in draw_folder(data, pictures) if pictures else ():
        typer.echo(picture, err=True)
    typer.echo(json.dumps(report.as_json()) if as_json else str(report))
    if report.problems:
        raise typer.Exit(2)


@app.command()
def pretrain(recipe: Recipe, overrides: Overrides = None, resume: Resume = False) -> None:
    """Pretrain a backbone from images."""
    from olivine.engine.pretrain import PretrainConfig
    from olivine.engine.pretrain import pretrain as run

    typer.echo(run(_configuration(PretrainConfig, recipe, overrides), resume=resume))


@app.command()
def segment(recipe: Recipe, overrides: Overrides = None, resume: Resume = False, as_json: AsJson = False) -> None:
    """Fine-tune or linear-probe a backbone on semantic segmentation, then score it."""
    from olivine.segmentation.segment import SegmentConfig
    from olivine.segmentation.segment import segment as run

    results = run(_configuration(SegmentConfig, recipe, overrides), resume=resume)
    _print_results(results, as_json=as_json)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder of `olivine segment`.")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Score a fine-tuned or probed network again, perhaps on another split."""
    from olivine.segmentation.segment import evaluate_run

    _print_results(evaluate_run(run, overrides or []), as_json=as_json)


@app.command()
def compare(recipe: Recipe, overrides: Overrides = None) -> None:
    """Run arms × protocols × seeds from one recipe into one table. Continues where it was stopped."""
    from olivine.compare import CompareConfig
    from olivine.compare import compare as run

    typer.echo(run(_configuration(CompareConfig, recipe, overrides)))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder, or a weights file of one.")],
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    to: Annotated[str, typer.Option("--to", help="Layout: minkowski (a .pt state dict with Minkowski names).")],
) -> None:
    """Write a backbone's weights in another project's layout."""
    from olivine.interop import export_weights

    typer.echo(export_weights(run, to, out))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """What this machine has, which kernels are used and why."""
    from olivine.doctor import examine

    report = examine()
    typer.echo(json.dumps(report) if as_json else "\n".join(f"{key:<24}{value}" for key, value in report.items()))


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point of the `olivine` program."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        app()
    except UserError as error:
        _stop(str(error), 2)
    except KeyboardInterrupt:
        _stop("interrupted", 130)


def _configuration(model: type[C], recipe: str, overrides: list[str] | None) -> C:
    return load_recipe(model, recipe, overrides or [])


def _print_results(results: dict[str, Any], *, as_json: bool) -> None:
    typer.echo(json.dumps(results) if as_json else f"mIoU {results['miou']:.2f} %")


def _stop(message: str, status: int) -> None:
    sys.stderr.write(f"olivine: {' '.join(message.split())}\n")
    sys.exit(status)
