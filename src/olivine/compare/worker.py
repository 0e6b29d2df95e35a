"""The process of one job of a comparison: `python -m olivine.compare.worker KIND RECIPE THREADS`.

What it says goes to its log; the last line of a failed one says why. It ends with the comparison that started it,
whatever ended that: its standard input is a pipe that nobody writes to, and closes with the other process.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

import torch

from olivine.compare.kinds import kind_named
from olivine.compare.reports import write_run_report
from olivine.config import load_recipe
from olivine.errors import TrainingDiverged, UserError
from olivine.processes import Stopped, exhausted, stoppable

SECONDS_TO_SAVE = 8.0
"""How long a job may take over its last step and checkpoint when its comparison has ended."""

FAILED = 2
"""Exit status after a mistake of the user's or a diverged training."""


def main(arguments: Sequence[str]) -> int:
    """Run one job.

    Args:
        arguments: the kind of recipe, its file, and the number of threads.

    Returns:
        The exit status.
    """
    kind, recipe, threads = arguments
    threading.Thread(target=_end_with_the_comparison, daemon=True).start()
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    logging.getLogger("olivine").setLevel(logging.INFO)
    torch.set_num_threads(int(threads))
    log = logging.getLogger("olivine")
    try:
        with stoppable():
            what = kind_named(kind)
            config = load_recipe(what.config, recipe)
            what.perform(config)
            write_run_report(config.out / config.name)
    except (UserError, TrainingDiverged) as error:
        log.error("%s", " ".join(str(error).split()))
        return FAILED
    except Stopped as stop:
        log.error("%s", stop)
        return stop.status
    except (MemoryError, RuntimeError) as error:
        hint = exhausted(error)
        if hint is None:
            raise
        log.error("%s", hint)
        return FAILED
    return 0


def _end_with_the_comparison() -> None:
    """Wait until the other end of standard input is closed, then end: after the step, or soon."""
    # Not through `sys.stdin`, whose lock the interpreter wants back when it shuts down.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # a training saves and ends
    time.sleep(SECONDS_TO_SAVE)
    os._exit(FAILED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
