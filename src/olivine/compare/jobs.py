"""How the runs of a comparison are run: one after another in this process, or several at a time in their own.

A run that fails does not keep the others from running; what needs it is not run.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from olivine import host
from olivine.compare.plan import Run
from olivine.compare.reports import write_run_report
from olivine.config import dump
from olivine.errors import TrainingDiverged, UserError
from olivine.files import write_text, writing
from olivine.processes import exhausted

_SECONDS_BETWEEN_LOOKS = 0.05
_SECONDS_TO_END = 10.0

_log = logging.getLogger("olivine")


@dataclass(frozen=True)
class Failure:
    """A run that did not run to its end.

    Attributes:
        name: of the run.
        message: one line that says why.
        log: where more is said, or None.
    """

    name: str
    message: str
    log: Path | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.message}" + (f" (see {self.log})" if self.log else "")


def run_in_turn(runs: Sequence[Run], threads: int, *, alone: bool) -> list[Failure]:
    """Run all, one after another, in this process.

    Args:
        runs: all runs, each after what it needs.
        threads: CPU threads of each.
        alone: whether this process is the only one. Of several that train together one alone may fail, and the others
            would wait for it for ever; so the first failure is raised.

    Raises:
        UserError: a run failed for a reason of its own, and this process is one of several.
        TrainingDiverged: likewise, a loss became NaN or infinite.
    """
    failures: dict[Path, Failure] = {}
    for number, run in enumerate(runs, start=1):
        if run.needs in failures:
            continue
        _log.info("[%d/%d] %s%s", number, len(runs), run, " (done)" if run.done else "")
        if not run.done:
            with host.threads(threads):
                failure = _attempt(run, alone=alone)
            if failure is not None:
                failures[run.path] = failure
                _log.warning("failed: %s", failure)
    return _with_what_they_cost(failures, runs)


def run_side_by_side(runs: Sequence[Run], jobs: int, threads: int) -> list[Failure]:
    """Run all, several at a time, each in a process of its own; the pretrainings first, since others wait for them.

    Whatever ends this process ends those it started.

    Args:
        runs: all runs.
        jobs: how many at a time.
        threads: CPU threads of each.
    """
    waiting = sorted((run for run in runs if not run.done), key=lambda run: run.protocol is not None)
    _log.info(
        "%d of %d runs are done; %d at a time, %d threads each", len(runs) - len(waiting), len(runs), jobs, threads
    )
    failures: dict[Path, Failure] = {}
    running: dict[int, _Job] = {}
    try:
        while waiting or running:
            for slot in sorted(set(range(jobs)) - set(running)):
                run = _take(waiting, failures)
                if run is not None:
                    running[slot] = _Job.start(run, slot, threads)
                    _log.info("started: %s", run)
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            for slot in [slot for slot, job in running.items() if job.process.poll() is not None]:
                job = running.pop(slot)
                failure = job.outcome()
                if failure is not None:
                    failures[job.run.path] = failure
                left = len(waiting) + len(running)
                _log.info("%s: %s; %d left", "finished" if failure is None else "failed", failure or job.run, left)
    finally:
        for job in running.values():
            job.tell()
        for job in running.values():
            job.end()
    return _with_what_they_cost(failures, runs)


def _take(waiting: list[Run], failures: dict[Path, Failure]) -> Run | None:
    """Take the first run out of `waiting` that can start, and all that never can."""
    waiting[:] = [run for run in waiting if run.needs not in failures]
    for run in waiting:
        if run.needs is None or (run.needs / "weights.json").exists():
            waiting.remove(run)
            return run
    return None


def _with_what_they_cost(failures: dict[Path, Failure], runs: Sequence[Run]) -> list[Failure]:
    """Say of a failed pretraining how many runs could not start."""
    cost = {path: sum(run.needs == path and not run.done for run in runs) for path in failures}
    return [
        replace(failure, message=f"{failure.message}; {cost[path]} runs need it") if cost[path] else failure
        for path, failure in failures.items()
    ]


def _attempt(run: Run, *, alone: bool) -> Failure | None:
    """Run in this process, and say what went wrong; of several processes, raise it."""
    try:
        run.kind.perform(run.settings)
    except (UserError, TrainingDiverged) as error:
        if not alone:
            raise
        return Failure(run.path.name, " ".join(str(error).split()))
    except Exception as error:
        if not alone:
            raise
        hint = exhausted(error)
        if hint is not None:
            return Failure(run.path.name, hint)
        log = _log_file(run)
        write_text(log, traceback.format_exc())
        return Failure(run.path.name, f"{type(error).__name__}: {' '.join(str(error).split())}", log)
    if alone:
        write_run_report(run.path)
    return None


def _log_file(run: Run) -> Path:
    return run.path.parent / "jobs" / f"{run.path.name}.log"


@dataclass(frozen=True)
class _Job:
    """A run in a process of its own."""

    run: Run
    process: subprocess.Popen[bytes]

    @staticmethod
    def start(run: Run, slot: int, threads: int) -> _Job:
        log = _log_file(run)
        recipe = log.with_suffix(".yaml")
        write_text(recipe, dump(run.settings))
        with writing(log), log.open("wb") as output:
            # Standard input is how the job learns that this process has ended (see `worker`).
            process = subprocess.Popen(
                job_command(run, recipe, threads),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=job_environment(slot, threads),
            )
        return _Job(run, process)

    def outcome(self) -> Failure | None:
        """What went wrong in an ended job."""
        self.end()
        status, log = self.process.returncode, _log_file(self.run)
        if status == 0 or self.run.done:
            return None
        if status < 0:
            hint = "; the system may have run out of memory" if -status == signal.SIGKILL else ""
            return Failure(self.run.path.name, f"ended by signal {-status}{hint}", log)
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return Failure(self.run.path.name, said[-1] if said else f"exit status {status}", log)

    def tell(self) -> None:
        """Let the process know that nobody waits for it any more."""
        if self.process.stdin is not None:
            self.process.stdin.close()

    def end(self) -> None:
        """End the process, if it has not ended, and wait until it has."""
        self.tell()
        try:
            self.process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def job_command(run: Run, recipe: Path, threads: int) -> list[str]:
    """The command line of a job.

    Args:
        run: what it runs.
        recipe: its resolved recipe, a file.
        threads: its CPU threads.
    """
    return [sys.executable, "-m", "olivine.compare.worker", run.settings.kind, str(recipe), str(threads)]


def job_environment(slot: int, threads: int) -> dict[str, str]:
    """The environment of a job: its threads, and where there are GPUs, its own as long as there are enough.

    It looks for modules where this process does, and so finds the same components of one's own.

    Args:
        slot: place of the job among those that run at a time, from 0.
        threads: its CPU threads.
    """
    places = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
    changes = {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": places}
    if torch.cuda.is_available():
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = named.split(",") if named else [str(index) for index in range(torch.cuda.device_count())]
        changes["CUDA_VISIBLE_DEVICES"] = devices[slot % len(devices)]
    return {**os.environ, **changes}
