"""Scores in words: a mean and its spread, and what a number is worth nothing without."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MODES = {"finetune": "fine-tuning", "probe": "linear probing"}
_NAMED_SCENES = 4


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


def what_of_seeds(seeds: int, *, pretrained_once: bool = False) -> str:
    """What a cell of the table is; `pretrained_once` where seeds of an arm start from one and the same pretraining."""
    if seeds == 1:
        return "one seed"
    alone = ", spread of downstream seeds only (each arm is pretrained once)" if pretrained_once else ""
    return f"mean ± standard deviation over {seeds} seeds{alone}"


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


def gains_in_words(scores: Mapping[str, Mapping[str, Sequence[float | None]]], baseline: str) -> list[str]:
    """A sentence per protocol: which arm is furthest above the baseline, by how much, and whether that is certain.

    Args:
        scores: percent by arm, protocol and seed.
        baseline: the arm to compare with.
    """
    lines = []
    for protocol, base in scores[baseline].items():
        found = {arm: paired_difference(by[protocol], base) for arm, by in scores.items() if arm != baseline}
        known = {arm: difference for arm, difference in found.items() if difference is not None}
        if not known:
            continue
        best, gain = max(known.items(), key=lambda item: item[1].mean)
        means = " against ".join(f"{mean_of_known(by):.1f}" for by in (scores[best][protocol], base))
        verb = "gains {} points of mIoU over" if gain.mean >= 0 else "loses {} points of mIoU against"
        text = f"{protocol}: {best} {verb.format(f'{abs(gain.mean):.1f}')} {baseline} ({means})"
        if gain.interval is None:
            text += "; one seed, so nothing says how certain this is"
        else:
            low, high = gain.interval
            sure = "" if gain.certain else ", which holds 0: seeds may explain it"
            text += f"; 95 % interval over {gain.seeds} paired seeds: {low:+.1f} to {high:+.1f}{sure}"
        lines.append(f"{text}.")
    return lines


def differences_table(scores: Mapping[str, Mapping[str, Sequence[float | None]]], baseline: str) -> list[list[str]]:
    """Rows of cells: the head, then every arm but the baseline, its difference by protocol; none without other arms.

    Args:
        scores: percent by arm, protocol and seed.
        baseline: the arm to compare with.
    """
    others = [arm for arm in scores if arm != baseline]
    if not others:
        return []
    rows = [[f"difference to {baseline}", *scores[baseline]]]
    for arm in others:
        cells = (paired_difference(scores[arm][name], base) for name, base in scores[baseline].items())
        rows.append([arm, *("–" if cell is None else str(cell) for cell in cells)])
    return rows


DIFFERENCES = "differences are paired over the seeds, with the 95 % t-interval of their mean"
"""What a table of differences says below it."""


def explanations(protocols: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line per protocol (mode, labelled scans, data, scored split) and one with the versions.

    Args:
        protocols: as in the `protocols.json` of a comparison; a protocol without a result is left out.
    """
    done = {name: protocol for name, protocol in protocols.items() if "train" in protocol}
    lines = [f"{name}: {protocol_in_words(protocol)}" for name, protocol in done.items()]
    codes: dict[str, set[str]] = {}
    for number, code in (version for protocol in done.values() for version in protocol["versions"]):
        codes.setdefault(number, set()).add(code)
    return lines + [f"olivine {number}, code {', '.join(sorted(those))}" for number, those in sorted(codes.items())]


def mode_in_words(protocol: Mapping[str, Any]) -> str:
    """`fine-tuning` or `linear probing`; an unknown mode by its name."""
    mode: str = protocol["mode"]
    return _MODES.get(mode, mode)


def protocol_in_words(protocol: Mapping[str, Any]) -> str:
    """E.g. `linear probing on 4 labelled scans of nuscenes train (1 scan in 25), scored on 40 scans of …`."""
    train, scored = protocol["train"], protocol["scored"]
    learned, held = f"{_count(train, 'labelled ')}{_split(train)}", f"{_count(scored, '')}{_split(scored)}"
    return f"{mode_in_words(protocol)} on {learned}, scored on {held}{_marks(protocol)}"


def _marks(protocol: Mapping[str, Any]) -> str:
    """The classes of the mean, and what a reader must know of the scored frames."""
    marks = []
    classes = protocol.get("miou_classes")
    if classes:
        rule = ", 100 for absent ones (reference-compatible)" if protocol.get("reference_compatible") else ""
        marks.append(f"mIoU over {len(classes)} classes{rule}: {', '.join(classes)}")
    coverage = protocol.get("coverage")
    if coverage and coverage["labelled_frames"] < coverage["frames"]:
        marks.append(f"{coverage['labelled_frames']} of {coverage['frames']} scored scans have labels")
    if protocol.get("shared_scenes") or protocol.get("shared_frames"):
        marks.append("a test of memory: scored on what was trained on")
    if protocol.get("pretraining_scenes_scored"):
        seen = len(protocol["pretraining_scenes_scored"])
        marks.append(f"pretraining saw {seen} of the scored scenes without labels")
    return "".join(f"; {mark}" for mark in marks)


def _count(split: Mapping[str, Any], kind: str) -> str:
    return f"{split['frames']} {kind}scan{'' if split['frames'] == 1 else 's'} of {split['dataset']} "


def _split(split: Mapping[str, Any]) -> str:
    """The split by name, or its scenes; and how it is thinned out."""
    named = split["split"]
    if not isinstance(named, str):
        named = ", ".join(named) if len(named) <= _NAMED_SCENES else f"{named[0]} … {named[-1]}, {len(named)} in all"
    unit = f"{split['unit']} " if split["unit"] else ""
    return str(named) if split["every"] == 1 else f"{named} (1 {unit}in {split['every']})"
