"""The process of one job of a comparison: `python -m olivine.compare.worker KIND RECIPE THREADS`.

What it says goes to its log; the last line of a failed one says why. It ends with the comparison that started it,
whatever ended that: its standard input is a pipe that nobody writes to, and closes with the other process.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Sequence

import torch

from olivine.compare.plan import perform
from olivine.config import load_recipe
from olivine.engine.pretrain import PretrainConfig
from olivine.errors import TrainingDiverged, UserError
from olivine.segmentation.segment import SegmentConfig

RECIPES: dict[str, type[PretrainConfig] | type[SegmentConfig]] = {"pretrain": PretrainConfig, "segment": SegmentConfig}
"""The kinds of runs."""

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
    try:
        perform(load_recipe(RECIPES[kind], recipe))
    except (UserError, TrainingDiverged) as error:
        logging.getLogger("olivine").error("%s", " ".join(str(error).split()))
        return FAILED
    return 0


def _end_with_the_comparison() -> None:
    """Wait until the other end of standard input is closed, then end at once: every file of a run bears that."""
    # Not through `sys.stdin`, whose lock the interpreter wants back when it shuts down.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(FAILED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
