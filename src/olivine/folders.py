"""Where files that belong to this machine and user are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder of the cache: `$OLIVINE_CACHE`, else `$XDG_CACHE_HOME/olivine`, else `~/.cache/olivine`."""
    own = os.environ.get("OLIVINE_CACHE")
    if own:
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "olivine"


def existing(folder: Path) -> Path | None:
    """The folder if it is there, else None: for what a dataset may or may not have."""
    return folder if folder.is_dir() else None
