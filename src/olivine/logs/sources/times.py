"""When files were taken: by their names, or by a list of times beside them.

Names that are times: nanoseconds (19 digits), microseconds (16), milliseconds (13) or seconds with a fraction
(`1581624663_149`, `1581624663.149`), all since 1970, with anything around them. Lists: `timestamps.txt` as KITTI's raw
recordings have it, a date and a time a line.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from olivine.errors import UserError
from olivine.reading import TEXT_BYTES, read_file

ASSUMED_STEP_NS = 100_000_000
"""Time between files whose names only say which belong together: a tenth of a second, as LiDARs turn."""

ASSUMED_START_NS = 946_684_800_000_000_000
"""Their first time, the year 2000."""

_EARLIEST_S, _LATEST_S = 631_152_000, 4_102_444_800  # 1990 to 2100
_WHOLE = re.compile(r"(?<!\d)(\d{19}|\d{16}|\d{13})(?!\d)")
_FRACTION = re.compile(r"(?<!\d)(\d{9,10})[._-](\d{1,9})(?!\d)")


def time_of_name(stem: str) -> int | None:
    """Nanoseconds since 1970 that the name of a file says, or None where it says none."""
    whole = _WHOLE.search(stem)
    if whole:
        time_ns = int(whole[1]) * 10 ** (19 - len(whole[1]))
        return time_ns if _EARLIEST_S <= time_ns / 1e9 <= _LATEST_S else None
    fraction = _FRACTION.search(stem)
    if fraction and _EARLIEST_S <= int(fraction[1]) <= _LATEST_S:
        digits = fraction[2]
        # A fraction, as ROS's tools and RELLIS-3D write it; nine digits are nanoseconds either way.
        return int(fraction[1]) * 1_000_000_000 + int(digits.ljust(9, "0"))
    return None


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
        moment, _, fraction = line.strip().partition(".")
        try:
            whole = datetime.datetime.strptime(moment, "%Y-%m-%d %H:%M:%S").replace(tzinfo=datetime.timezone.utc)
            times.append(int(whole.timestamp()) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or 0))
        except ValueError as error:
            raise UserError(f"{path}: line {number} is no date and time: {line.strip()[:60]!r}") from error
    return times
