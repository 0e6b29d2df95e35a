"""The program: the list of its commands, and how it ends."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, TextIO, cast

import typer

from olivine import __version__
from olivine.cli.about import doctor, keys, recipes
from olivine.cli.common import log, rank, say, trouble
from olivine.cli.data import check, convert, label, simulate
from olivine.cli.looking import explore
from olivine.cli.networks import export, import_, predict
from olivine.cli.training import compare, demo, detect, evaluate, pretrain, segment
from olivine.errors import OlivineWarning, TrainingDiverged, UserError, printable
from olivine.examples import epilog
from olivine.processes import Stopped, exhausted, stoppable

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

# What typer raises for a wrong option or argument; it exports only this branch of them by name.
_UsageError = cast("type[Exception]", typer.BadParameter.__base__)

COMMANDS = (
    demo,
    simulate,
    convert,
    check,
    label,
    pretrain,
    segment,
    detect,
    evaluate,
    predict,
    explore,
    compare,
    export,
    import_,
    recipes,
    keys,
    doctor,
)
"""Every command, in the order of `olivine --help`."""

app = typer.Typer(
    help="Teach LiDAR networks from camera images, without labelled LiDAR.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its frames rewrap the examples
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in COMMANDS:
    _name = _command.__name__.rstrip("_")
    app.command(_name, epilog=epilog(_name))(_command)


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        say(__version__)
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
            return trouble(cast("Any", error).format_message(), 2)
        except UserError as error:
            return trouble(str(error), 2)
        except TrainingDiverged as error:
            return trouble(str(error), 1)
        except Stopped as stop:
            return trouble(str(stop), stop.status)
        except (MemoryError, RuntimeError) as error:
            hint = exhausted(error)
            if hint is None:
                raise
            return trouble(hint, 1)
        except BrokenPipeError:  # whoever read our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (KeyboardInterrupt, typer.Abort):  # older typers turn the one into the other, newer into a status
            status = INTERRUPTED
    return trouble("interrupted", INTERRUPTED) if status == INTERRUPTED else int(status or 0)


class _Printable(logging.Formatter):
    """What is logged, with nothing in it that a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), lines=True)


@contextmanager
def _reporting(stream: TextIO) -> Iterator[None]:
    """Show the package's log and its warnings on `stream`, a line each; nothing but warnings from later processes."""
    handler, level, show = logging.StreamHandler(stream), log.level, warnings.showwarning
    handler.setFormatter(_Printable())

    def show_line(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
        if issubclass(category, OlivineWarning):
            log.warning("warning: %s", message)
        else:
            show(message, category, *place, **options)

    log.addHandler(handler)
    log.setLevel(logging.WARNING if rank() else logging.INFO)
    warnings.showwarning = show_line
    try:
        yield
    finally:
        warnings.showwarning = show
        log.setLevel(level)
        log.removeHandler(handler)
