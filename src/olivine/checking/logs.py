"""A log checked like a dataset: some of it is converted into a folder that is thrown away afterwards."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from olivine.data.datasets import recognise
from olivine.logs.convert import convert
from olivine.logs.opening import open_log
from olivine.logs.opening import recognise as recognise_log
from olivine.logs.told import told_recipe

SECONDS, KEYFRAMES_HZ = 60.0, 2.0
"""How much of a log is looked at, and how closely."""

_log = logging.getLogger(__name__)


@contextmanager
def checkable(source: Path, own: str | None = None) -> Iterator[Path]:
    """The folder of the dataset to check: a dataset's own, or one made of a log for as long as it is needed.

    Args:
        source: a dataset's folder, or a log as `olivine convert` takes it, of which the first minute is converted by
            the recipe that it offers.
        own: import path of a dataset of one's own, which the folder is then taken for.

    Raises:
        UserError: the log is damaged, or it offers no recipe that can be followed (no calibration, no points).
        MissingExtraError: a library that a log needs is not installed (extra `logs`).
    """
    if own is not None or (source.is_dir() and recognise(source)) or recognise_log(source) is None:
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="olivine-check-") as folder, open_log(source) as log:
        settings = [f"stop_s={SECONDS}", f"keyframe_hz={KEYFRAMES_HZ}"]
        made = convert(log, Path(folder) / "dataset", told_recipe(log, overrides=settings))
        _log.info(
            "%s: %s; looking at %d frames of its first %g s; `olivine convert` makes a dataset of it",
            source,
            log.form,
            made.keyframes,
            SECONDS,
        )
        yield Path(folder) / "dataset"
