"""When files were taken: by their names, or by a list of times beside them.

Which names are times says `olivine.data.file_times`. Lists: `timestamps.txt` as KITTI's raw recordings have it, a date
and a time a line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from olivine.data.file_times import time_of_date, time_of_name
from olivine.errors import UserError
from olivine.reading import TEXT_BYTES, read_file

ASSUMED_STEP_NS = 100_000_000
"""Time between files whose names only say which belong together: a tenth of a second, as LiDARs turn."""

ASSUMED_START_NS = 946_684_800_000_000_000
"""Their first time, the year 2000."""


def times_of_names(paths: Sequence[Path]) -> list[int] | None:
    """The times that the names of all files say, or None where one says none or two say the same."""
    times = [time_of_name(path.stem) for path in paths]
    known = [time for time in times if time is not None]
    return known if len(known) == len(times) == len(set(known)) else None


def assumed_times(folders: Mapping[str, Sequence[Path]]) -> dict[str, list[int]] | None:
    """Times by the order of names, the same for files of one name in several folders; None where no names agree."""
    stems = {name: [path.stem for path in paths] for name, paths in folders.items()}
    if any(len(set(of_one)) < len(of_one) for of_one in stems.values()):
        return None
    if len(stems) > 1 and not set.intersection(*map(set, stems.values())):
        return None
    every = sorted({stem for of_one in stems.values() for stem in of_one})
    time = {stem: ASSUMED_START_NS + place * ASSUMED_STEP_NS for place, stem in enumerate(every)}
    return {name: [time[stem] for stem in of_one] for name, of_one in stems.items()}


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
