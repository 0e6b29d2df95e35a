"""The report of each run of a comparison."""

from __future__ import annotations

import logging
from pathlib import Path

from olivine.errors import UserError
from olivine.visualize.run_report import report_if_scored

_log = logging.getLogger("olivine")


def write_run_report(folder: Path) -> None:
    """Write `report.html` of a run that is scored; what stands in the way is said, and keeps nothing from running."""
    try:
        said = report_if_scored(folder)
    except UserError as error:
        said = f"no report of {folder.name}: {error}"
    if said is not None:
        _log.info("%s", said)
