"""How reports lead to the explorer: the command that opens a view, and its address where the explorer runs already.

What a view is, the explorer knows; here it is words and their values.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import urlencode

EXPLORER_HOST, EXPLORER_PORT = "127.0.0.1", 8090
"""Where the explorer listens unless it is told otherwise."""


def view_of(words: Iterable[tuple[str, object]]) -> str:
    """A view as the query of an address, from words and their values (see `olivine.explorer.view`)."""
    return urlencode([(name, str(value)) for name, value in words])


def explorer_address(view: str) -> str:
    """The address of a view where the explorer runs on this machine."""
    return f"http://{EXPLORER_HOST}:{EXPLORER_PORT}/?{view}"


def explorer_command(
    things: Sequence[Path], view: str = "", *, split: str | None = None, own: str | None = None
) -> str:
    """The command that opens a view, ready to be pasted into a shell.

    Args:
        things: what is looked at, as `olivine explore` takes it.
        view: the query of its address; empty for the usual one.
        split: which frames, where others than usual.
        own: import path of a dataset of one's own.
    """
    words = ["olivine", "explore", *map(str, things)]
    words += ["--split", split] if split else []
    words += ["--data", own] if own else []
    words += ["--view", view] if view else []
    return shlex.join(words)
