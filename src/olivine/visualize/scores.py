"""Scores in words: a mean and its spread, and what a number is worth nothing without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from olivine.engine.kinds import Score
from olivine.engine.statistics import mean_of_known, paired_difference

_MODES = {"finetune": "fine-tuning", "probe": "linear probing"}
_NAMED_SCENES = 4


def score_of(protocol: Mapping[str, Any]) -> Score:
    """Metric and unit of a protocol's scores, as its entry in `protocols.json` says; of earlier versions mIoU."""
    return Score(protocol.get("metric", "mIoU"), None, protocol.get("unit", "%"))


def score_key(name: str, protocol: Mapping[str, Any]) -> str:
    """Where `results.json` keeps the scores of a protocol: `<name>_<metric>`."""
    return f"{name}_{score_of(protocol).key}"


def titled(protocols: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """The head of a table of scores: the metric in the corner, or beside each protocol where they differ."""
    titles = {name: score_of(protocols.get(name, {})).title for name in names}
    one = set(titles.values())
    return [*one, *names] if len(one) == 1 else ["score", *(f"{name}: {titles[name]}" for name in names)]


def what_of_seeds(seeds: int, *, pretrained_once: bool = False) -> str:
    """What a cell of the table is; `pretrained_once` where seeds of an arm start from one and the same pretraining."""
    if seeds == 1:
        return "one seed"
    alone = ", spread of downstream seeds only (each arm is pretrained once)" if pretrained_once else ""
    return f"mean ± standard deviation over {seeds} seeds{alone}"


def gains_in_words(
    scores: Mapping[str, Mapping[str, Sequence[float | None]]],
    baseline: str,
    protocols: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[str]:
    """A sentence per protocol: which arm is furthest above the baseline, by how much, and whether that is certain.

    Args:
        scores: by arm, protocol and seed.
        baseline: the arm to compare with.
        protocols: as in `protocols.json`, for what the scores are.
    """
    lines = []
    for protocol, base in scores[baseline].items():
        found = {arm: paired_difference(by[protocol], base) for arm, by in scores.items() if arm != baseline}
        known = {arm: difference for arm, difference in found.items() if difference is not None}
        if not known:
            continue
        best, gain = max(known.items(), key=lambda item: item[1].mean)
        means = " against ".join(f"{mean_of_known(by):.1f}" for by in (scores[best][protocol], base))
        metric = score_of((protocols or {}).get(protocol, {})).metric
        verb = f"gains {{}} points of {metric} over" if gain.mean >= 0 else f"loses {{}} points of {metric} against"
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
        scores: by arm, protocol and seed.
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
    """`fine-tuning` or `linear probing`, which of a detector is probing; an unknown mode by its name."""
    mode: str = protocol["mode"]
    if mode == "probe" and protocol.get("task") == "detection":
        return "probing"  # what stands behind a detector's encoder is no linear layer
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
