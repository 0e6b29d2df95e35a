"""Logs among what is to be looked at: their first minute is made a dataset, for as long as it is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from olivine.checking.logs import checkable
from olivine.errors import UserError
from olivine.explorer.subject.opening import is_run
from olivine.logs.opening import recognise as recognise_log


@contextmanager
def datasets_of_logs(things: Sequence[Path], own: str | None = None) -> Iterator[list[Path]]:
    """What is to be looked at, each log by a folder with the dataset of its first minute, two frames a second.

    Such a folder is gone afterwards. A folder that is a dataset where it lies is shown as it is.

    Args:
        things: datasets, logs, runs, weights, comparisons.
        own: import path of a dataset of one's own, which folders are taken for.

    Raises:
        UserError: a log is damaged, or it offers no recipe that can be followed; said with the command that tells more.
        MissingExtraError: a library that a log needs is not installed (extra `logs`).
    """
    with ExitStack() as kept:
        found = list[Path]()
        for thing in things:
            if not thing.exists() or is_run(thing) or recognise_log(thing) is None:
                found.append(thing)
                continue
            try:
                found.append(kept.enter_context(checkable(thing, own)))
            except UserError as error:
                raise UserError(f"{error}; `olivine convert {thing} --list` says what the log holds") from error
        yield found
