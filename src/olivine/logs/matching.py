"""Which readings of a log belong together: scans of one LiDAR, and of every other sensor what is nearest in time.

Readings come in the order of recording; times are the sensors' own, which may run a little before or behind. A scan
waits until no nearer reading can come, and no longer than readings are late, so that only moments of a log are held.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

PATIENCE_NS = 500_000_000
"""So much later than a scan, beyond the allowed gap, what belongs to it may be recorded."""


class Timed(Protocol):
    """What can be matched."""

    @property
    def log_ns(self) -> int:
        """When it was recorded; never before the reading before it."""
        ...


R = TypeVar("R", bound=Timed)


@dataclass(frozen=True)
class Match(Generic[R]):
    """A scan and what belongs to it.

    Attributes:
        scene: number of its scene, from 1.
        time_ns: of the scan.
        scan: the scan.
        others: time and reading of each other sensor, by its key; those without a reading near enough are not in it.
    """

    scene: int
    time_ns: int
    scan: R
    others: dict[str, tuple[int, R]]


@dataclass(frozen=True)
class Rules:
    """What makes a match.

    Attributes:
        others: keys of the other sensors.
        max_gap_ns: how far from the scan in time one may be.
        complete: refuse a scan for which one of them has nothing.
        period_ns: time between scans that are kept; None keeps all.
        spacing_ns: time between the scans that there are.
        scene_gap_ns: kept scans farther apart belong to two scenes.
        scene_ns: longest scene; None for no limit.
    """

    others: tuple[str, ...]
    max_gap_ns: int
    complete: bool = True
    period_ns: float | None = None
    spacing_ns: float = 0.0
    scene_gap_ns: int = 3_000_000_000
    scene_ns: float | None = None


@dataclass
class Tally:
    """What became of a log's scans.

    Attributes:
        scans: how many there were.
        passed_over: how many lay between those that are kept.
        kept: how many were matched.
        rejected: how many were not usable, by reason.
    """

    scans: int = 0
    passed_over: int = 0
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


class Matcher(Generic[R]):
    """Matches the readings of one log; see the module.

    Args:
        rules: what makes a match.
        names: what a sensor is called where it has nothing, by key.
        unusable: why a match cannot be used, or None where it can; asked before it is kept.
        tally: counts.
    """

    def __init__(
        self,
        rules: Rules,
        names: Mapping[str, str],
        unusable: Callable[[Match[R]], str | None],
        tally: Tally,
    ) -> None:
        self._rules, self._names, self._unusable, self._tally = rules, names, unusable, tally
        self._waiting: deque[tuple[int, R]] = deque()
        self._near: dict[str, deque[tuple[int, R]]] = {key: deque() for key in rules.others}
        self._now_ns = 0
        self._scene = 0
        self._begun_ns = 0
        self._last_ns: int | None = None

    def matches(self, readings: Iterable[tuple[str | None, int, R]]) -> Iterator[Match[R]]:
        """The matches, in the order of the scans.

        Args:
            readings: in the order of recording: key of the sensor (None for the scans), its own time in nanoseconds,
                and the reading.
        """
        for key, time_ns, reading in readings:
            self._now_ns = max(self._now_ns, reading.log_ns)
            if key is None:
                self._tally.scans += 1
                self._waiting.append((time_ns, reading))
            else:
                self._near[key].append((time_ns, reading))
            while self._waiting and self._settled(*self._waiting[0]):
                yield from self._resolve()
            self._forget()
        while self._waiting:
            yield from self._resolve()

    def _settled(self, time_ns: int, scan: R) -> bool:
        """Whether nothing nearer can come: every other sensor has gone past the scan, or is late beyond hope."""
        late = self._now_ns > scan.log_ns + self._rules.max_gap_ns + PATIENCE_NS
        return late or all(near and near[-1][0] >= time_ns for near in self._near.values())

    def _forget(self) -> None:
        """Drop what is too old for every scan that waits or may still come."""
        for near in self._near.values():
            while len(near) > 1 and self._is_old(*near[0]):
                near.popleft()

    def _is_old(self, time_ns: int, reading: R) -> bool:
        if self._waiting:
            return time_ns < self._waiting[0][0] - self._rules.max_gap_ns
        return reading.log_ns < self._now_ns - self._rules.max_gap_ns - PATIENCE_NS

    def _resolve(self) -> Iterator[Match[R]]:
        """The match of the scan that waits longest, if it is to be one."""
        time_ns, scan = self._waiting.popleft()
        if not self._is_due(time_ns):
            self._tally.passed_over += 1
            return
        match = self._matched(time_ns, scan)
        reason = self._lacking(match) or self._unusable(match)
        if reason is not None:
            self._tally.rejected[reason] += 1
            return
        if match.scene > self._scene:
            self._scene, self._begun_ns = match.scene, time_ns
        self._last_ns = time_ns
        self._tally.kept += 1
        yield match

    def _is_due(self, time_ns: int) -> bool:
        """Whether a scan is the first at or after a beat of its scene, give or take half the time between scans."""
        period_ns, slack_ns = self._rules.period_ns, self._rules.spacing_ns / 2
        if period_ns is None or self._last_ns is None or self._apart(time_ns):
            return True
        beats = (self._last_ns - self._begun_ns + slack_ns) // period_ns + 1
        return time_ns >= self._begun_ns + beats * period_ns - slack_ns

    def _apart(self, time_ns: int) -> bool:
        return self._last_ns is None or time_ns - self._last_ns > self._rules.scene_gap_ns

    def _matched(self, time_ns: int, scan: R) -> Match[R]:
        others: dict[str, tuple[int, R]] = {}
        for key, near in self._near.items():
            nearest = min(near, key=lambda one: abs(one[0] - time_ns), default=None)
            if nearest is not None and abs(nearest[0] - time_ns) <= self._rules.max_gap_ns:
                others[key] = nearest
        longest = self._rules.scene_ns
        full = longest is not None and time_ns - self._begun_ns >= longest - self._rules.spacing_ns / 2
        return Match(self._scene + int(full or self._apart(time_ns)), time_ns, scan, others)

    def _lacking(self, match: Match[R]) -> str | None:
        if self._last_ns is not None and match.time_ns // 1000 <= self._last_ns // 1000:
            return "its time is not after that of the scan before it"
        missing = [self._names[key] for key in self._rules.others if key not in match.others]
        if not missing or not self._rules.complete:
            return None
        return f"nothing of {', '.join(missing)} within {self._rules.max_gap_ns / 1e6:g} ms"
