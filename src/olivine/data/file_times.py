"""When files were taken: what their names say, or a list of times beside them.

Names that are times: nanoseconds (19 digits), microseconds (16), milliseconds (13) or seconds with a fraction
(`1581624663_149`, `1581624663.149`), all since 1970, with anything around them.
"""

from __future__ import annotations

import datetime
import re

_EARLIEST_S, _LATEST_S = 631_152_000, 4_102_444_800  # 1990 to 2100
_WHOLE = re.compile(r"(?<!\d)(\d{19}|\d{16}|\d{13})(?!\d)")
_FRACTION = re.compile(r"(?<!\d)(\d{9,10})[._-](\d{1,9})(?!\d)")
_UNITS = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3))
"""Whole numbers below each of these are seconds, milliseconds, microseconds, in nanoseconds; larger ones nanoseconds.
Times since 1970 lie a factor of fifty or more below each."""


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


def time_of_date(text: str) -> int | None:
    """Nanoseconds since 1970 of a date and a time, `2011-09-26 13:02:25.594`, in UTC; None where it is none."""
    moment, _, fraction = text.strip().partition(".")
    try:
        whole = datetime.datetime.strptime(moment, "%Y-%m-%d %H:%M:%S").replace(tzinfo=datetime.timezone.utc)
        return int(whole.timestamp()) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or 0)
    except ValueError:
        return None


def time_of_number(text: str) -> int | None:
    """Nanoseconds of a number of seconds, milliseconds, microseconds or nanoseconds, told apart by its size."""
    found = re.fullmatch(r"([0-9]{1,19})(?:\.([0-9]*))?", text.strip())
    if found is None:
        return None
    whole, fraction = int(found[1]), found[2] or ""
    unit = next((per for limit, per in _UNITS if whole < limit), 1)
    return whole * unit + int(fraction.ljust(9, "0")[:9]) * unit // 10**9
