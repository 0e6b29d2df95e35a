"""Means over seeds, their spread, and differences between arms that share their seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def mean_of_known(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are not None, or None."""
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def standard_deviation(values: Sequence[float | None]) -> float | None:
    """Sample standard deviation (n − 1) of the values that are not None; None of fewer than two."""
    known = [value for value in values if value is not None]
    return statistics.stdev(known) if len(known) > 1 else None


def mean_and_spread(values: Sequence[float | None]) -> str:
    """`"17.4 ± 2.4"`; without a spread of one value, `"–"` of none; how many there are where some are missing."""
    mean, spread = mean_of_known(values), standard_deviation(values)
    if mean is None:
        return "–"
    known = sum(value is not None for value in values)
    missing = "" if known == len(values) else f" ({known} of {len(values)})"
    return f"{mean:.1f}" + ("" if spread is None else f" ± {spread:.1f}") + missing


@dataclass(frozen=True)
class Difference:
    """How far one arm is above another, seed by seed.

    Attributes:
        mean: of the differences.
        interval: the ends of the 95 % confidence interval of the mean (Student's t, n − 1 degrees of freedom); None of
            fewer than two differences.
        seeds: n, how many seeds both have.
    """

    mean: float
    interval: tuple[float, float] | None
    seeds: int

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.mean:+.1f} (n = 1, no interval)"
        return f"{self.mean:+.1f} [{self.interval[0]:+.1f}, {self.interval[1]:+.1f}] (n = {self.seeds})"

    @property
    def certain(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"mean": self.mean, "interval_95": self.interval, "seeds": self.seeds}


def paired_difference(values: Sequence[float | None], baseline: Sequence[float | None]) -> Difference | None:
    """The mean difference of two arms over the seeds that both have; None where there is none.

    Args:
        values: [S] scores of an arm by seed, None where a run failed.
        baseline: [S] those of the other, seed by seed the same.
    """
    pairs = zip(values, baseline, strict=True)
    differences = [one - other for one, other in pairs if one is not None and other is not None]
    n = len(differences)
    if n == 0:
        return None
    mean = statistics.mean(differences)
    if n == 1:
        return Difference(mean, None, n)
    from scipy import stats

    half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(differences) / math.sqrt(n)
    return Difference(mean, (mean - half, mean + half), n)
