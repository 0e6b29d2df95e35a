"""The report of a scored detector: its score, precision over recall, and what was found in some frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from olivine.config import load_recipe
from olivine.data.frame import Boxes, Dataset, Frame
from olivine.data.kitti_calibration import boxes_from_objects
from olivine.data.kitti_labels import read_objects
from olivine.detection.config import DetectConfig
from olivine.detection.evaluate import kitti_frames, score_folder
from olivine.detection.kitti.report import sections
from olivine.detection.results import headline
from olivine.detection.scoring import split_name
from olivine.drawing.report import Picture, Section, write_report
from olivine.drawing.tiles import abreast, png
from olivine.errors import MissingExtraError, UserError
from olivine.visualize.boxes import box_colors, box_tiles, extent_of
from olivine.visualize.projection import spread

SHOWN_SCORE = 0.3
"""Detections of a lower score are not drawn."""

_WIDTH_PX = 900


def report_detections(folder: Path) -> Path:
    """Write `report.html` of a scored detector.

    Args:
        folder: a run of `olivine detect`, or one of its evaluations.

    Returns:
        The report.

    Raises:
        MissingExtraError: matplotlib is not installed.
        UserError: this is no scored run, or a file of it or of the data cannot be read.
    """
    results = _read(folder)
    config = load_recipe(DetectConfig, folder / "config.yaml")
    dataset = config.data.open(config.val_split)
    scores = score_folder(dataset, folder / "predictions", config.scored_classes(), split_name(config))
    said = f"What was found with a score from {SHOWN_SCORE:g} on, and what is labelled."
    frames = Section("Frames", [said], pictures=_pictures(dataset, folder, config), wide=True)
    return write_report(
        folder / "report.html",
        results["name"],
        [
            Section("Score", [headline(results)], note=True),
            *sections(scores),
            *([frames] if config.pictures else []),
            Section("Protocol", listing=json.dumps(results["protocol"], indent=2), folded=True),
        ],
    )


def report_if_scored(folder: Path) -> str | None:
    """Write the report of a folder, if it is one of a scored detector.

    Returns:
        What came of it, in a line; None for another folder.
    """
    if not (folder / "predictions").is_dir() or _task(folder) != "detection":
        return None
    try:
        return f"report: {report_detections(folder)}"
    except MissingExtraError as error:
        return f"no report: {error}"


def _task(folder: Path) -> str | None:
    try:
        return str(_read(folder)["protocol"]["task"])
    except (UserError, LookupError, TypeError):
        return None


def _read(folder: Path) -> dict[str, Any]:
    """The results in a folder."""
    path = folder / "results.json"
    path = path if path.exists() else folder / "evaluation.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not the folder of a scored `olivine detect` run ({error})") from error


def _pictures(dataset: Dataset, folder: Path, config: DetectConfig) -> list[Picture]:
    """What was found and what is labelled in some frames, on the image and from above."""
    classes = config.detector.classes
    pictures = []
    for index in spread(len(dataset), config.pictures):
        frame = dataset[index]
        found = _found(dataset, index, folder)
        there = _labelled(frame, classes)
        colors = box_colors((*classes, *found.names, *there.names), dataset.classes)
        extent = extent_of(frame.points_lidar_m, there)
        parts = [box_tiles(frame, boxes, colors, _WIDTH_PX, extent, what) for boxes, what in
                 ((found, "found"), (there, "labelled"))]  # fmt: skip
        images = [tile for tiles, _ in parts for tile in tiles]
        shown = [*([abreast(images, 1)] if images else []), abreast([above for _, above in parts], 2)]
        pictures += [
            Picture(png(tile), f"Frame {frame.token}: {len(found.names)} found, {len(there.names)} labelled")
            for tile in shown
        ]
    return pictures


def _found(dataset: Dataset, index: int, folder: Path) -> Boxes:
    """The sure detections of a frame, as boxes in the LiDAR frame."""
    objects = read_objects(folder / "predictions" / f"{dataset.token(index)}.txt", scored=True)
    assert objects.score is not None
    sure = objects.take(objects.score >= SHOWN_SCORE)
    return Boxes(boxes_from_objects(sure, kitti_frames(dataset).calibration(index)), sure.names)


def _labelled(frame: Frame, classes: tuple[str, ...]) -> Boxes:
    """The labelled boxes of the detector's classes."""
    if frame.boxes is None:
        return Boxes(np.zeros((0, 7)), ())
    wanted = np.isin(np.array(frame.boxes.names, np.str_), classes)
    return Boxes(frame.boxes.boxes[wanted], tuple(name for name in frame.boxes.names if name in classes))
