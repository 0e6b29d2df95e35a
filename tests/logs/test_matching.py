"""Matching readings by time: the nearest within the gap, little held, scenes, and the beat of keyframes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olivine.logs.matching import Match, Matcher, Rules, Tally

MS = 1_000_000


@dataclass(frozen=True)
class Fake:
    log_ns: int
    name: str


def run(
    rules: Rules, readings: Iterable[tuple[str | None, int, int]], unusable: Any = lambda match: None
) -> tuple[list[Match[Fake]], Tally]:
    """Matches of (key, own time, log time), all in milliseconds and in the order of log times."""
    tally = Tally()
    matcher: Matcher[Fake] = Matcher(rules, {key: key for key in rules.others}, unusable, tally)
    fed = ((key, time * MS, Fake(log * MS, f"{key}@{time}")) for key, time, log in readings)
    return list(matcher.matches(fed)), tally


def recorded(*streams: tuple[str | None, Iterable[int], int]) -> list[tuple[str | None, int, int]]:
    """Readings of streams (key, own times, delay) in the order of recording."""
    return sorted(((key, time, time + late) for key, times, late in streams for time in times), key=lambda one: one[2])


@settings(max_examples=60, deadline=None)
@given(
    scans=st.sets(st.integers(0, 2000), min_size=1, max_size=30),
    images=st.sets(st.integers(0, 2000), max_size=40),
    late=st.integers(0, 300),
    gap=st.integers(1, 200),
)
def test_every_scan_gets_what_a_search_through_all_readings_finds(scans, images, late, gap):
    rules = Rules(("cam",), gap * MS)
    found, tally = run(rules, recorded((None, sorted(scans), 0), ("cam", sorted(images), late)))
    expected = {}
    for scan in sorted(scans):
        nearest = min(sorted(images), key=lambda image: abs(image - scan), default=None)
        if nearest is not None and abs(nearest - scan) <= gap:
            expected[scan] = nearest
    assert {match.time_ns // MS: match.others["cam"][0] // MS for match in found} == expected
    assert tally.kept + sum(tally.rejected.values()) == tally.scans == len(scans)


def test_scans_are_kept_at_the_beat_on_average_though_they_jitter():
    times = (np.arange(600) * 100 + np.random.default_rng(0).integers(-20, 20, 600)).tolist()
    rules = Rules((), MS, period_ns=1e9 / 3, spacing_ns=1e8)
    found, tally = run(rules, recorded((None, times, 0)))
    assert abs(len(found) - 180) <= 1  # 3 a second for 60 s, of scans that come 10 times a second
    assert tally.passed_over == 600 - len(found)


def test_a_beat_whose_scan_has_no_image_takes_the_next_scan():
    images = [time for time in range(0, 3000, 100) if time != 1000]
    rules = Rules(("cam",), 10 * MS, period_ns=1e9, spacing_ns=1e8)
    found, tally = run(rules, recorded((None, range(0, 3000, 100), 0), ("cam", images, 5)))
    assert [match.time_ns // MS for match in found] == [0, 1100, 2000]
    assert dict(tally.rejected) == {"nothing of cam within 10 ms": 1}


def test_scenes_split_at_gaps_and_at_their_longest():
    times = [*range(0, 1000, 100), *range(5000, 6000, 100)]
    found, _ = run(Rules((), MS, spacing_ns=1e8, scene_gap_ns=2000 * MS), recorded((None, times, 0)))
    assert [match.scene for match in found] == [1] * 10 + [2] * 10
    found, _ = run(Rules((), MS, spacing_ns=1e8, scene_ns=500e6), recorded((None, range(0, 1000, 100), 0)))
    assert [match.scene for match in found] == [1] * 5 + [2] * 5


def test_a_scan_without_the_other_sensor_is_kept_where_that_is_allowed():
    readings = recorded((None, (0, 100), 0), ("cam", (0,), 0))
    found, _ = run(Rules(("cam",), 10 * MS, complete=False), readings)
    assert [sorted(match.others) for match in found] == [["cam"], []]


def test_a_second_scan_of_one_time_is_rejected():
    found, tally = run(Rules((), MS), [(None, 5, 5), (None, 5, 6), (None, 7, 7)])
    assert [match.time_ns // MS for match in found] == [5, 7]
    assert sum(tally.rejected.values()) == 1


@pytest.mark.parametrize("dead", ["cam", None])
def test_what_waits_stays_little_when_a_sensor_dies(dead):
    """With one sensor silent, no more is held than is recorded in the time that readings may be late."""
    held = []
    rules = Rules(("cam",), 50 * MS)
    matcher: Matcher[Fake] = Matcher(rules, {"cam": "cam"}, lambda match: None, Tally())

    def feed():
        for time in range(0, 60_000, 100):
            for key in (None, "cam"):
                if key != dead or time < 1000:
                    yield key, time * MS, Fake(time * MS, "")
            held.append(len(matcher._waiting) + len(matcher._near["cam"]))

    list(matcher.matches(feed()))
    assert max(held) <= 14


def test_a_match_that_cannot_be_used_leaves_its_beat_to_the_next():
    unusable = lambda match: "no pose" if match.time_ns < 300 * MS else None  # noqa: E731
    found, tally = run(Rules((), MS, period_ns=1e9, spacing_ns=1e8), recorded((None, range(0, 2000, 100), 0)), unusable)
    assert [match.time_ns // MS for match in found] == [300, 1300]
    assert dict(tally.rejected) == {"no pose": 3}
