"""Times in names, dates and numbers."""

import pytest

from olivine.data.file_times import time_of_date, time_of_name, time_of_number

AT = 1_700_000_000_123_456_789


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1700000000.123456789", AT),
        ("1700000000.123456", AT - 789),
        ("1700000000", 1_700_000_000 * 10**9),
        ("1700000000123", AT - 456_789),
        ("1700000000123.5", AT - 456_789 + 500_000),
        ("1700000000123456", AT - 789),
        ("1700000000123456789", AT),
        ("0.103736", 103_736_000),
        ("17", 17 * 10**9),
        ("x", None),
        ("-1", None),
        ("1e9", None),
        ("nan", None),
        ("", None),
        ("9" * 5000, None),
    ],
)
def test_the_unit_of_a_time_is_told_by_its_size(text, time_ns):
    assert time_of_number(text) == time_ns


@pytest.mark.parametrize(
    ("stem", "time_ns"),
    [
        ("1700000000123456789", AT),
        ("frame000104-1700000000_123", AT - 456_789),
        ("cam_1700000000.5", 1_700_000_000_500_000_000),
        ("front-1700000000123456-x", AT - 789),
        ("000001", None),
        ("0000000123", None),  # KITTI's numbers of frames have ten digits, too
        ("0000000001_12", None),
        ("9999999999999999999", None),
    ],
)
def test_a_name_says_a_time_or_none(stem, time_ns):
    assert time_of_name(stem) == time_ns


def test_dates_are_utc():
    assert time_of_date("2023-11-14 22:13:20.123456789") == AT
    assert time_of_date("2023-11-14 22:13:20") == 1_700_000_000 * 10**9
    assert time_of_date("2023-11-14") is None
