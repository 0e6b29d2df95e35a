"""When files were taken: by their names, or by a list of times beside them.

Which names are times says `olivine.data.file_times`. Lists: `timestamps.txt` as KITTI's raw recordings have it, a date
and a time a line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from olivine.data.file_times import time_of_date
from olivine.errors import UserError
from olivine.reading import TEXT_BYTES, read_file

ASSUMED_STEP_NS = 100_000_000
"""Time between files whose names only say which belong together: a tenth of a second, as LiDARs turn."""

ASSUMED_GAP_NS = 60_000_000_000
"""Time between recordings of such files."""

ASSUMED_START_NS = 946_684_800_000_000_000
"""Their first time, the year 2000."""


def assumed_times(names: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, list[int]] | None:
    """Times by the order of names, the same for files of one name of several sensors; recordings follow one another.

    Args:
        names: recording and name of each file, in order, by sensor.

    Returns:
        Nanoseconds since 1970 of each file; None where sensors have no names in common.
    """
    if len(names) > 1 and not set.intersection(*map(set, names.values())):
        return None
    times: dict[tuple[str, str], int] = {}
    time_ns, before = ASSUMED_START_NS, None
    for one in sorted({one for of_one in names.values() for one in of_one}, key=lambda one: tuple(map(_counted, one))):
        time_ns += ASSUMED_STEP_NS if one[0] == before else ASSUMED_GAP_NS
        times[one], before = time_ns, one[0]
    return {name: [times[one] for one in of_one] for name, of_one in names.items()}


def read_timestamps(path: Path) -> list[int]:
    """Nanoseconds since 1970 of the lines of a `timestamps.txt`, dates taken for UTC.

    Raises:
        UserError: missing, or a line is no date and time.
    """
    text = read_file(path, "these times", limit=TEXT_BYTES).decode("utf-8", errors="replace")
    times = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        time_ns = time_of_date(line)
        if time_ns is None:
            raise UserError(f"{path}: line {number} is no date and time: {line.strip()[:60]!r}")
        times.append(time_ns)
    return times


def _counted(name: str) -> list[tuple[bool, int, str]]:
    """A name as it is sorted: its numbers by their values."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"([0-9]+)", name)]
