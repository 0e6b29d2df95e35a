"""Scores in words: a mean and its spread, and what a number is worth nothing without."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
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


def what_of_seeds(seeds: int) -> str:
    """What a cell of the table is."""
    return "one seed" if seeds == 1 else f"mean ± standard deviation over {seeds} seeds"


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
    return f"{mode_in_words(protocol)} on {learned}, scored on {held}"


def _count(split: Mapping[str, Any], kind: str) -> str:
    return f"{split['frames']} {kind}scan{'' if split['frames'] == 1 else 's'} of {split['dataset']} "


def _split(split: Mapping[str, Any]) -> str:
    """The split by name, or its scenes; and how it is thinned out."""
    named = split["split"]
    if not isinstance(named, str):
        named = ", ".join(named) if len(named) <= _NAMED_SCENES else f"{named[0]} … {named[-1]}, {len(named)} in all"
    unit = f"{split['unit']} " if split["unit"] else ""
    return str(named) if split["every"] == 1 else f"{named} (1 {unit}in {split['every']})"
