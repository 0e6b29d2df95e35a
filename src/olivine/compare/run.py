"""Run a comparison: plan, run what is not done, gather, write the table, the plot and the report."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from olivine.compare.config import CompareConfig
from olivine.compare.jobs import run_in_turn, run_side_by_side
from olivine.compare.plan import check_starts, plan
from olivine.compare.reports import write_run_report
from olivine.compare.results import Comparison, gather
from olivine.config import dump, load_recipe
from olivine.drawing.report import write_report
from olivine.engine.distribution import Distribution
from olivine.errors import MissingExtraError, UserError
from olivine.files import write_bytes, write_text
from olivine.visualize.comparison import comparison_sections, label_plot

_log = logging.getLogger("olivine")


def compare(config: CompareConfig) -> Comparison:
    """Run or continue a comparison.

    A run that fails does not keep the others from running; the failures are in what is returned.

    Args:
        config: what is compared.

    Returns:
        The scores; also written to `<out>/<name>/`: `results.json`, `protocols.json`, `table.txt`, `table.md`,
        `plot.png` where protocols differ in their share of labels, and `report.html`.

    Raises:
        UserError: a recipe is wrong or does not fit its data, the folder or a run in it was made with other settings,
            or jobs are asked for of one of several processes; in one of several processes also what makes a run fail.
        TrainingDiverged: in one of several processes, a loss became NaN or infinite.
    """
    processes = Distribution.start()
    runs = plan(config)
    if config.jobs > 1 and processes.world > 1:
        raise UserError(f"jobs={config.jobs} are processes of their own; leave torchrun away, or set jobs=1")
    if not _settings_path(config).exists():
        check_starts(runs)
    threads = _claim(config, write=processes.main)
    for run in runs:
        run.check()
    failures = (
        run_in_turn(runs, threads, alone=processes.world == 1)
        if config.jobs == 1
        else run_side_by_side(runs, config.jobs, threads)
    )
    processes.wait()
    comparison = gather(config, runs, failures)
    if processes.main:
        for run in runs:
            if run.done and not (run.path / "report.html").exists():  # of a run that was stopped after its last step
                write_run_report(run.path)
        _write(comparison)
    return comparison


def check_recipes(config: CompareConfig) -> None:
    """Read every recipe of a comparison, and write nothing.

    Raises:
        UserError: a recipe is wrong, or two runs would have one name.
    """
    plan(config)


def _write(comparison: Comparison) -> None:
    """Everything that is left for people; pictures only where matplotlib is there to draw them."""
    comparison.write()
    folder = comparison.path
    try:
        plot = label_plot(folder)
        if plot is not None:
            write_bytes(folder / "plot.png", plot)
        write_report(folder / "report.html", f"Comparison {folder.name}", comparison_sections(folder))
    except MissingExtraError as error:
        _log.info("no report.html: %s", error)


def _settings_path(config: CompareConfig) -> Path:
    return config.out / config.name / "compare.yaml"


def _claim(config: CompareConfig, *, write: bool) -> int:
    """Write the comparison's configuration, or refuse a folder that belongs to another; returns the threads of a run.

    Raises:
        UserError: the folder holds a comparison with other settings.
    """
    path = _settings_path(config)
    threads = config.threads or max(1, torch.get_num_threads() // config.jobs)
    if path.exists():
        before = load_recipe(CompareConfig, path)
        _check_same(path, before, config)
        threads = config.threads or before.threads or threads
    if write:
        write_text(path, dump(config.model_copy(update={"threads": threads})))
    return threads


def _check_same(path: Path, before: CompareConfig, now: CompareConfig) -> None:
    free = {"out", "jobs", "threads", "baseline"}
    old, new = (config.model_dump(mode="json", exclude=free) for config in (before, now))
    differing = [key for key in new if old[key] != new[key]]
    if differing:
        raise UserError(
            f"{path}: this folder holds a comparison with other settings; choose another name or remove it "
            f"({', '.join(differing)} differ)"
        )
