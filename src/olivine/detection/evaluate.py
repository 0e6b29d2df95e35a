"""Predictions of a detector over a split, as KITTI text files, and their score by KITTI's rules.

A score is of the files, as anybody else would score them: every process writes those of its frames, and when all are
there they are read back. Labels and predictions are in the rectified camera frame of KITTI's benchmark, so only
datasets in that layout can be scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from olivine.calibration.formats.kitti import KittiCalibration
from olivine.data.frame import Dataset
from olivine.data.kitti_boxes import objects_from_boxes
from olivine.data.kitti_labels import ObjectLabels, read_objects, write_objects
from olivine.data.loader import Loader
from olivine.detection.kitti import KittiScores, average_precision
from olivine.detection.kitti.rules import ClassRule
from olivine.detection.task import DetectionTask
from olivine.detectors.parts.detections import Detections
from olivine.errors import UserError


@runtime_checkable
class KittiFrames(Protocol):
    """A dataset in the layout of KITTI's object benchmark."""

    def objects(self, index: int) -> ObjectLabels:
        """The labels of the frame at `index`, areas without labels included."""
        ...

    def calibration(self, index: int) -> KittiCalibration:
        """The calibration of the frame at `index`."""
        ...

    def image_size(self, index: int) -> tuple[int, int]:
        """(width, height) of the image of the frame at `index`, pixels."""
        ...


def kitti_frames(dataset: Dataset) -> KittiFrames:
    """The dataset, if it can be scored.

    Raises:
        UserError: its labels are not in KITTI's terms.
    """
    if not isinstance(dataset, KittiFrames):
        raise UserError(
            f"data: detections are scored by KITTI's rules, which need image boxes, truncation and occlusion of every "
            f"label, and {dataset.name} has none; use data.name=kitti_object"
        )
    return dataset


def predict_split(
    task: DetectionTask, loader: Loader, dataset: Dataset, folder: Path, *, device: torch.device | str = "cpu"
) -> None:
    """Write what a detector finds in this process's share of a split, a text file per frame.

    Args:
        task: the trained task; put in evaluation mode, and back as it was afterwards.
        loader: unshuffled batches of the split.
        dataset: the split.
        folder: where `<token>.txt` go; it exists.
        device: where the task is.

    Raises:
        UserError: a file cannot be written, or the network gives what is not finite.
    """
    frames = kitti_frames(dataset)
    training = task.training
    task.eval()
    try:
        for batch in loader.batches(epoch=0):
            for index, found in zip(batch.samples.tolist(), task.predict(batch.to(device)), strict=True):
                objects = as_objects(found, task.detector.classes, frames, index)
                write_objects(folder / f"{dataset.token(index)}.txt", objects)
    finally:
        task.train(training)


def as_objects(found: Detections, classes: tuple[str, ...], frames: KittiFrames, index: int) -> ObjectLabels:
    """What was found in a frame, in KITTI's terms.

    Args:
        found: the detections.
        classes: names of the detector's classes.
        frames: the split.
        index: place of the frame in it.
    """
    names = [classes[label - 1] for label in found.labels.tolist()]
    return objects_from_boxes(
        found.boxes.double().numpy(),
        names,
        found.scores.double().numpy(),
        frames.calibration(index),
        frames.image_size(index),
    )


def score_folder(dataset: Dataset, folder: Path, classes: Sequence[str | ClassRule], split: str) -> KittiScores:
    """Score the text files of a whole split against its labels.

    Args:
        dataset: the split.
        folder: with `<token>.txt` of every frame.
        classes: what is scored, as of `olivine.detection.kitti.average_precision`.
        split: what the split is called in the scores.

    Raises:
        UserError: a file is missing or damaged, or KITTI has no rule for a class.
    """
    frames = kitti_frames(dataset)
    truth = [frames.objects(index) for index in range(len(dataset))]
    found = [read_objects(folder / f"{dataset.token(index)}.txt", scored=True) for index in range(len(dataset))]
    return average_precision(truth, found, classes, split=split)
