"""Likely label errors without a browser: a file for programs, and a page with pictures of the first."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from olivine.drawing.report import Picture, Section, write_report
from olivine.drawing.tiles import below, png, titled
from olivine.errors import UserError
from olivine.explorer.mistakes.closeup import closeup
from olivine.explorer.mistakes.marks import stretches
from olivine.explorer.mistakes.report import gone_through, judge
from olivine.explorer.mistakes.suspects import LabelErrors, Suspect
from olivine.explorer.stage import Stage
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.networks import Network
from olivine.explorer.view import View
from olivine.files import check_folder, write_text

PICTURED = 20
"""So many are shown on the page."""

ABOUT = (
    "A label is doubted where the network and the masks contradict it. A network that learned from these very labels "
    "until it fits them has learned their errors, too: better let it rank frames that it did not learn from. What is "
    "listed is to be looked at, not to be believed: the network may be what is wrong."
)


def seen(suspect: Suspect, network: Network) -> View:
    """The view that shows a suspect and its label."""
    return suspect.candidate.cluster.seen(View(color="truth", network=network.run.name))


def describe(moments: Moments, suspect: Suspect, network: Network) -> dict[str, Any]:
    """A suspect in words and numbers, as JSON."""
    thing, dataset = suspect.candidate, moments.dataset
    names, best = dataset.classes.names, suspect.proposed
    most, manifest = np.argsort(-thing.masks, kind="stable"), dataset.manifest
    words = {} if manifest is None else {manifest.classes[place]: int(thing.masks[place]) for place in most}
    frame = thing.cluster.frame
    return {
        "score": round(suspect.score, 4),
        "frame": frame,
        "token": dataset.token(frame),
        "scene": dataset.scene(frame),
        "given": names[thing.given - 1],
        "proposed": names[best - 1],
        "points": len(thing.rows),
        "dissent": round(thing.dissent, 3),
        "probability": {"given": _share(thing.mean[thing.given - 1]), "proposed": _share(thing.mean[best - 1])},
        "masks": {name: count for name, count in words.items() if count},
        "evidence": {"network": round(suspect.network, 3), "masks": round(suspect.masks, 3)},
        "centre_m": list(thing.cluster.center_m),
        "rows": [list(ends) for ends in stretches(thing.rows)],
        "view": seen(suspect, network).address(),
    }


def write_label_errors(stage: Stage, view: View, out: Path, opened: str = "olivine explore") -> list[Path]:
    """Go through the whole dataset and write its likely label errors, the likeliest first.

    Args:
        stage: what makes views concrete.
        view: names the network.
        out: a folder, made if missing.
        opened: the command that opens what is looked at, to which `--view` is added.

    Returns:
        `label_errors.json`, and `label_errors.html`, which needs nothing beside it.

    Raises:
        UserError: there is no network, it predicts no classes, no frame can be read and has labels, or a file cannot be
            read or written.
    """
    check_folder(out)
    network, moments = judge(stage, view), stage.moments
    if network is None:
        raise UserError("nothing that doubts a label; name a run of `olivine segment`")
    marks = stage.marks
    marks.all()  # what is wrong with them is said before all frames are gone through
    table = LabelErrors(moments, network)
    survey = gone_through(stage, [network], table)
    if not table.frames:
        why = f": frame {survey.troubles[0][0]}: {survey.troubles[0][1]}" if survey.troubles else ""
        raise UserError(f"{moments.dataset.name}: no frame has labels to doubt{why}")
    suspects = table.ranked()
    entries = [{"rank": rank, **describe(moments, one, network)} for rank, one in enumerate(suspects, start=1)]
    for entry, suspect in zip(entries, suspects, strict=True):
        mark = marks.of(moments.dataset.name, entry["token"], entry["given"], suspect.candidate.rows)
        entry["mark"] = None if mark is None else mark.model_dump(include={"label", "better", "time"})
    about = {
        "open": opened,
        "dataset": moments.dataset.name,
        "network": network.run.name,
        "path": str(network.run.path),
        "marks": str(marks.path),
        "coverage": {"frames": table.frames, "unreadable_frames": survey.failed},
        "unreadable": [{"frame": place, "reason": reason} for place, reason in survey.troubles],
    }
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    path = out / "label_errors.json"
    write_text(path, f'{json.dumps(about, ensure_ascii=False)[:-1]}, "label_errors": [\n{lines}\n]}}\n')
    first = zip(entries[:PICTURED], suspects, strict=False)
    pictures = [_picture(stage, entry, suspect, network) for entry, suspect in first]
    title = f"Likely label errors of {moments.dataset.name}"
    return [path, write_report(out / "label_errors.html", title, _sections(about, entries, pictures))]


def _picture(stage: Stage, entry: dict[str, Any], suspect: Suspect, network: Network) -> Picture:
    """The labels above, what the network says below, beside the bare image."""
    view, cluster = seen(suspect, network), suspect.candidate.cluster
    above = titled(closeup(stage, cluster, view), f"labels; of this: {entry['given']}")
    under = closeup(stage, cluster, replace(view, color="prediction", dots=0.0))
    marked = "" if entry["mark"] is None else f" The label was marked {entry['mark']['label']}."
    words = f"{entry['rank']}. {sentence(entry)}{marked} --view '{entry['view']}'"
    return Picture(png(below([above, titled(under, f"{network.run.name}; perhaps {entry['proposed']}")])), words)


def sentence(entry: dict[str, Any]) -> str:
    """What `describe` says, in a sentence."""
    masks, probability = entry["masks"], entry["probability"]
    seen = f"; masks: {', '.join(f'{name} {count}' for name, count in list(masks.items())[:3])}" if masks else ""
    return (
        f"Labelled {entry['given']}, perhaps {entry['proposed']}: {entry['points']} points, "
        f"{100 * entry['dissent']:.0f} % seen otherwise, {probability['proposed']:.2f} against "
        f"{probability['given']:.2f}{seen}. {entry['scene']}, {entry['token']}."
    )


def _sections(about: dict[str, Any], entries: list[dict[str, Any]], pictures: list[Picture]) -> list[Section]:
    frames, bad = about["coverage"]["frames"], about["coverage"]["unreadable_frames"]
    looked = f"{about['network']} ({about['path']}) looked at {frames} frames; {bad} could not be looked at."
    troubles = [f"Frame {each['frame']}: {each['reason']}" for each in about["unreadable"]]
    opened = f"{about['open']} --view '…' shows one in the browser."
    head = ["rank", "score", "labelled", "perhaps", "points", "frame", "scene"]
    rows = [[str(entry[key]) for key in ("rank", "score", "given", "proposed", "points", "frame", "scene")]
            for entry in entries[:100]]  # fmt: skip
    return [
        Section("What this is", [ABOUT, looked, *troubles, opened], note=True),
        Section("The first ones", pictures=pictures, wide=True),
        Section("The first hundred", ["All that are listed are in label_errors.json."], table=[head, *rows]),
    ]


def _share(value: np.floating) -> float:
    return round(float(value), 3)
