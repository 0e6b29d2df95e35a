"""What scored detectors have to show: scores, precision over recall, and what was found in some frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from olivine.config import kind_of, load_recipe, read_recipe
from olivine.data.frame import Boxes, Dataset, Frame
from olivine.data.kitti_boxes import boxes_from_objects
from olivine.data.kitti_labels import read_objects
from olivine.detection.config import DetectConfig
from olivine.detection.evaluate import kitti_frames, score_folder
from olivine.detection.kitti.report import sections
from olivine.detection.results import headline
from olivine.detection.scoring import split_name
from olivine.drawing.links import view_of
from olivine.drawing.report import Picture, Section
from olivine.drawing.tiles import abreast, png
from olivine.visualize.boxes import SHOWN_SCORE, box_colors, box_tiles, extent_of
from olivine.visualize.explored import explored
from olivine.visualize.gallery import box_pictures
from olivine.visualize.projection import spread

_WIDTH_PX = 900


def detection_sections(folder: Path, results: dict[str, Any]) -> list[Section]:
    """The parts of a report.

    Args:
        folder: a run of `olivine detect`, or one of its evaluations.
        results: what it scored.

    Raises:
        MissingExtraError: matplotlib is not installed.
        UserError: a file of the run or of its data cannot be read.
    """
    config = load_recipe(DetectConfig, folder / "config.yaml")
    dataset = config.data.open(config.val_split)
    scores = score_folder(dataset, folder / "predictions", config.scored_classes(), split_name(config))
    said = f"What was found with a score from {SHOWN_SCORE:g} on, and what is labelled."
    frames = Section(
        "Frames", [said], pictures=_pictures(dataset, folder, config), wide=True, explored=explored(folder)
    )
    return [
        Section("Score", [headline(results)], note=True),
        *sections(scores),
        *([frames] if config.pictures else []),
    ]


def compared_frames(title: str, runs: Mapping[str, Path]) -> Section | None:
    """What the detectors of a comparison found in some frames, and what is labelled.

    Args:
        title: of the section.
        runs: a scored run of each arm, all on the same data.

    Returns:
        A section with as many frames as the first run's `pictures` says; None where that is 0, or these runs detect
        nothing.

    Raises:
        UserError: a file of a run or of its data cannot be read.
    """
    first = next(iter(runs.values()))
    recipe = first / "config.yaml"
    if not recipe.is_file() or read_recipe(recipe).get("kind") != kind_of(DetectConfig):
        return None
    config = load_recipe(DetectConfig, first / "config.yaml")
    dataset = config.data.open(config.val_split)
    pictures = []
    for index in spread(len(dataset), config.pictures):
        frame = dataset[index]
        there = {"labelled": _labelled(frame, config.detector.classes)}
        boxes = there | {arm: _found(dataset, index, run) for arm, run in runs.items()}
        names = (name for each in boxes.values() for name in each.names)
        view = view_of([("frame", index), ("beside", "all")])
        drawn = box_pictures(frame, boxes, box_colors((*config.detector.classes, *names), dataset.classes))
        pictures += [replace(picture, view=view) for picture in drawn]
    said = f"What each arm found with a score from {SHOWN_SCORE:g} on, and what is labelled."
    return Section(title, [said], pictures=pictures, wide=True, explored=list(runs.values())) if pictures else None


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
        said, view = f"{len(found.names)} found, {len(there.names)} labelled", view_of([("frame", index)])
        pictures += [Picture(png(tile), f"Frame {frame.token}: {said}", view) for tile in shown]
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
