"""The mistakes of a run without a screen: a page for people, and the same as JSON for programs."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from olivine.drawing.confusion import draw_confusion
from olivine.drawing.report import Picture, Section, write_report
from olivine.drawing.tiles import png
from olivine.errors import MissingExtraError, UserError
from olivine.explorer.asked import asked
from olivine.explorer.coloring import VERSUS
from olivine.explorer.mistakes.closeup import closeup
from olivine.explorer.mistakes.clusters import Cluster
from olivine.explorer.mistakes.confusion import NONE, Confusion
from olivine.explorer.mistakes.inquiries import Tally
from olivine.explorer.mistakes.survey import Survey
from olivine.explorer.mistakes.versus import FIRST, LEGEND, SECOND, Versus, opponent
from olivine.explorer.stage import Stage
from olivine.explorer.subject.networks import Network, may_predict
from olivine.explorer.view import View
from olivine.files import check_folder, write_bytes, write_json

CELLS, PICTURES = 12, 12
"""So many cells and pictures of clusters are on the page."""

WRITTEN = 10
"""So many frames and clusters of each cell are in the JSON."""

AGREEMENT = "agreement"
_SECONDS_BETWEEN_LINES = 5.0
_log = logging.getLogger("olivine")


def write_mistakes(stage: Stage, view: View, out: Path, opened: str = "olivine explore") -> list[Path]:
    """Go through the whole dataset and write what a network gets wrong; where two are compared, which beats which.

    Args:
        stage: what makes views concrete.
        view: names the network, and by `against` or the colouring `versus` one that it is compared with.
        out: a folder, made if missing.
        opened: the command that opens what is looked at, to which `--view` is added.

    Returns:
        `mistakes.json`, `confusion.png` where matplotlib is installed, and `mistakes.html`, which needs nothing beside
        it.

    Raises:
        UserError: there is no network, it predicts no classes, or no frame can be read and has labels; or a file cannot
            be written.
    """
    check_folder(out)
    network = judge(stage, view)
    if network is None:
        raise UserError("no network, no mistakes; name a run of `olivine segment`")
    table, second = Confusion(stage.moments, network), None
    if view.against or view.color == VERSUS:
        second = opponent(stage.moments, network, view.against)
        duel = Versus(stage.moments, network, second)
    survey = gone_through(stage, [network], table)
    if not table.labelled:
        why = f": frame {survey.troubles[0][0]}: {survey.troubles[0][1]}" if survey.troubles else ""
        raise UserError(f"{stage.moments.dataset.name}: no frame has labels to be wrong about{why}")
    found = {"open": opened, **_described(stage, network, table, survey)}
    sections, written = [_about(stage, network, table, survey, opened)], list[Path]()
    sections += _matrix(table, out, written)
    sections += [_worst_cells(stage, network, table)]
    if second is not None:
        gone_through(stage, [network, second], duel)
        found["versus"] = _described_duel(stage, network, second, duel)
        sections += _duel_sections(stage, network, second, duel)
    write_json(out / "mistakes.json", found)
    title = f"Mistakes of {network.run.name}"
    return [out / "mistakes.json", *written, write_report(out / "mistakes.html", title, sections)]


def judge(stage: Stage, view: View) -> Network | None:
    """The network that judges all frames: the one that a view names, else the first that may predict classes.

    Raises:
        UserError: the view names one that there is not, or its weights cannot be read.
    """
    predicting = (name for name, network in stage.moments.networks.items() if may_predict(network))
    return asked(stage, View(network=view.network or next(predicting, "")))


def gone_through(stage: Stage, networks: Sequence[Network], table: Tally) -> Survey[Any]:
    """Go through all frames, saying now and then how far it is.

    Args:
        stage: what makes views concrete.
        networks: those that are asked.
        table: what is found is added to it.

    Returns:
        The survey, which is through.

    Raises:
        UserError: the weights of a network cannot be read.
    """
    survey: Survey[Any] = Survey(stage.moments, networks, table.look)
    said = time.monotonic()
    for place, found in survey:
        table.add(place, found)
        if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            _log.info("frame %d of %d", survey.done, survey.total)
    for place, reason in survey.troubles[:1]:
        _log.warning(
            "warning: %d of %d frames could not be looked at; frame %d: %s", survey.failed, survey.total, place, reason
        )
    return survey


def _described(stage: Stage, network: Network, table: Confusion, survey: Survey[Any]) -> dict[str, Any]:
    view = View(color=AGREEMENT, network=network.run.name)
    cells = [
        {
            "true": table.name(cell.truth),
            "predicted": table.name(cell.predicted),
            "points": cell.points,
            "share": round(cell.share, 6),
            "frames": [
                {**_frame(stage, each.frame), "points": each.points, "of": each.of,
                 "view": replace(view, frame=each.frame).address()}
                for each in table.worst_frames(cell.truth, cell.predicted)[:WRITTEN]
            ],
            "clusters": [
                _cluster(stage, each, view) for each in table.worst_clusters(cell.truth, cell.predicted)[:WRITTEN]
            ],
        }
        for cell in table.cells()
    ]  # fmt: skip
    return {
        "dataset": stage.moments.dataset.name,
        "network": network.run.name,
        "path": str(network.run.path),
        "labels": "weak" if table.weak else "true",
        "coverage": {
            "frames": table.frames,
            "labelled_frames": table.labelled,
            "points": table.points,
            "labelled_points": int(table.counts.sum()),
            "unreadable_frames": survey.failed,
        },
        "unreadable": [{"frame": place, "reason": reason} for place, reason in survey.troubles],
        "confusion": {
            "rows_true": list(table.names),
            "columns_predicted": [NONE, *table.names],
            "counts": table.counts.tolist(),
        },
        "cells": cells,
    }


def _described_duel(stage: Stage, first: Network, second: Network, table: Versus) -> dict[str, Any]:
    view = View(color=VERSUS, network=first.run.name, against=second.run.name)
    sides = {
        name: {
            "frames": [
                {**_frame(stage, each.frame), "ahead": each.ahead, "points": each.points, "lost": each.lost,
                 "view": replace(view, frame=each.frame).address()}
                for each in table.best_frames(side)[:WRITTEN]
            ],
            "clusters": [_cluster(stage, each, view) for each in table.best_clusters(side)[:WRITTEN]],
        }
        for name, side in (("first", FIRST), ("second", SECOND))
    }  # fmt: skip
    counts = {
        name: dict(zip(("both", "first", "second", "neither"), row, strict=True))
        for name, row in zip(table.names, table.counts.tolist(), strict=True)
    }
    return {"first": first.run.name, "second": second.run.name, "points": counts, "right_alone": sides}


def _frame(stage: Stage, place: int) -> dict[str, Any]:
    dataset = stage.moments.dataset
    return {"frame": place, "scene": dataset.scene(place), "token": dataset.token(place)}


def _cluster(stage: Stage, cluster: Cluster, view: View) -> dict[str, Any]:
    return {
        **_frame(stage, cluster.frame),
        "points": cluster.points,
        "confidence": round(cluster.confidence, 4),
        "center_m": list(cluster.center_m),
        "extent_m": list(cluster.extent_m),
        "view": cluster.seen(view).address(),
    }


def _about(stage: Stage, network: Network, table: Confusion, survey: Survey[Any], opened: str) -> Section:
    counts = table.counts
    right = int(counts[:, 1:].diagonal().sum())
    lines = [
        f"{network.run.path} on {table.labelled} labelled frames of {stage.moments.dataset.name}: {right:,} of "
        f"{counts.sum():,} labelled points are right, {100 * right / counts.sum():.1f} %."
    ]
    lines.append(f"Every view is opened by the words below it: {opened} --view '?frame=…'")
    if table.weak:
        lines.append("There are no labels of points: weak labels are what is compared with.")
    if survey.failed:
        place, reason = survey.troubles[0]
        lines.append(f"{survey.failed} frames could not be looked at. Frame {place}: {reason}")
    return Section("What was looked at", lines)


def _matrix(table: Confusion, out: Path, written: list[Path]) -> list[Section]:
    path = out / "confusion.png"
    try:
        write_bytes(path, b"")  # makes the folder
        draw_confusion(table.counts, table.names, path)
    except MissingExtraError as error:
        path.unlink()
        return [Section("Confusion matrix", [f"Not drawn: {error}"])]
    written.append(path)
    return [Section("Confusion matrix", pictures=[Picture(path.read_bytes(), "Share of each true class")], wide=True)]


def _worst_cells(stage: Stage, network: Network, table: Confusion) -> Section:
    """The worst cells, and of each its worst cluster."""
    view, rows, pictures = View(color=AGREEMENT, network=network.run.name), [], list[Picture]()
    for cell in table.cells()[:CELLS]:
        truth, predicted = (_words(table.name(each)) for each in (cell.truth, cell.predicted))
        frames, found = (
            table.worst_frames(cell.truth, cell.predicted),
            table.worst_clusters(cell.truth, cell.predicted),
        )
        places = ", ".join(f"{each.frame} ({each.points:,})" for each in frames[:5])
        rows.append((truth, predicted, f"{cell.points:,}", f"{100 * cell.share:.1f}", places))
        if found and len(pictures) < PICTURES:
            title = f"{truth}, predicted as {predicted}: {_about_cluster(found[0])}. ?{found[0].seen(view).address()}"
            pictures.append(Picture(png(closeup(stage, found[0], view)), title))
    head = ("true", "predicted", "points", "% of the class", "frames with most points")
    text = ["Green is right, red is wrong, grey is not known."]
    return Section("The worst cells", text, (head, *rows), pictures, wide=True)


def _duel_sections(stage: Stage, first: Network, second: Network, table: Versus) -> list[Section]:
    names, view = (first.run.name, second.run.name), View(color=VERSUS, network=first.run.name, against=second.run.name)
    head = ("class", "both right", f"only {names[0]}", f"only {names[1]}", "both wrong")
    rows = [
        (_words(name), *(f"{value:,}" for value in row))
        for name, row in zip(table.names, table.counts.tolist(), strict=True)
        if sum(row)
    ]
    sections = [Section(f"{names[0]} against {names[1]}: points that are right", table=(head, *rows))]
    for side, (name, other) in ((FIRST, names), (SECOND, names[::-1])):
        ahead = [
            (f"{each.frame}", f"{each.ahead:,}", f"{each.points:,}", f"{each.lost:,}",
             f"?{replace(view, frame=each.frame).address()}")
            for each in table.best_frames(side)[:5]
        ]  # fmt: skip
        pictures = [
            Picture(
                png(closeup(stage, each, view)),
                f"{LEGEND[side].name}: {_about_cluster(each)}. ?{each.seen(view).address()}",
            )
            for each in table.best_clusters(side)[: PICTURES // 3]
        ]
        head = ("frame", "ahead by", f"only {name}", f"only {other}", "view")
        colors = "Blue: only the first is right. Orange: only the second. Dim green: both. Dim red: neither."
        sections.append(Section(f"Where {name} is ahead", [colors], (head, *ahead), pictures, wide=True))
    return sections


def _about_cluster(cluster: Cluster) -> str:
    return f"{cluster.points:,} points of frame {cluster.frame}, probability {cluster.confidence:.2f}"


def _words(name: str) -> str:
    return name.replace("_", " ")
