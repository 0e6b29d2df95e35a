"""What is written of each frame: points with classes and confidences, or boxes, in formats that others read.

    label       SemanticKITTI: uint32 per row of the scan's file, the class set's raw ids
    lidarseg    nuScenes: uint8 class 1…C per point, named by the token of the sweep
    pcd ply las points with their class, its confidence and its colour, for viewers
    kitti       text, 16 columns per box, in the terms of a camera
    jsonl       a JSON object per box, in the LiDAR frame

A format is a class and a line in `FORMATS`. Every frame is written by itself, whole or not at all.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
from numpy.typing import NDArray

from olivine.calibration.formats.kitti import KittiCalibration
from olivine.data.frame import Camera, Frame
from olivine.data.kitti_boxes import objects_from_boxes
from olivine.data.kitti_labels import write_objects
from olivine.detection.evaluate import KittiFrames
from olivine.errors import UserError
from olivine.files import write_bytes, write_text
from olivine.inference import ClassifiedPoints, DetectedObjects, Model
from olivine.prediction.config import Format, PredictConfig
from olivine.prediction.sources import Moment, Reading, Source
from olivine.reading import below
from olivine.scans import write_scan
from olivine.segmentation.predictions import (
    LidarTokens,
    Submission,
    nuscenes_path,
    semantickitti_path,
    write_about,
)
from olivine.visualize.predicted import class_colors

Found = ClassifiedPoints | DetectedObjects
"""What a network says of one frame."""


@dataclass(frozen=True)
class Job:
    """What files are written for.

    Attributes:
        out: the folder of predictions.
        source: what is predicted.
        model: by which network.
        config: and how.
    """

    out: Path
    source: Source
    model: Model
    config: PredictConfig


class Writer(ABC):
    """Writes the predictions of frames, from several threads and processes.

    Args:
        job: what for.

    Raises:
        UserError: the source lacks what the format needs.
    """

    detects: ClassVar[bool]
    """Whether it is for boxes; else it is for points."""

    def __init__(self, job: Job) -> None:
        self._job = job

    @abstractmethod
    def files(self, moment: Moment) -> tuple[Path, ...]:
        """The files of a frame, the one that is written last at the end."""

    @abstractmethod
    def write(self, moment: Moment, reading: Reading, found: Found) -> None:
        """Write them.

        Raises:
            UserError: the disk is full, or the frame lacks what the format needs.
        """

    def check(self, frame: Frame) -> None:  # noqa: B027 (most formats need nothing of a frame)
        """Refuse a source by its first frame, before anything is written.

        Raises:
            UserError: it lacks what the format needs.
        """

    def begin(self) -> None:  # noqa: B027 (most formats have nothing beside their frames)
        """Write what stands beside the frames, once the folder is this run's."""

    def _path(self, moment: Moment, ending: str) -> Path:
        return below(self._job.out, f"{moment.name}{ending}", str(self._job.source))


class _PointWriter(Writer):
    detects = False

    def files(self, moment: Moment) -> tuple[Path, ...]:
        path = self._classes_path(moment)
        return (path.with_suffix(".confidence"), path) if self._job.config.confidences else (path,)

    def write(self, moment: Moment, reading: Reading, found: Found) -> None:
        assert isinstance(found, ClassifiedPoints)
        *beside, path = self.files(moment)
        for other in beside:
            write_bytes(other, reading.per_row(found.confidence).astype("<f4").tobytes())
        write_bytes(path, self._rows(reading.per_row(found.classes)).tobytes())

    @abstractmethod
    def _classes_path(self, moment: Moment) -> Path: ...

    @abstractmethod
    def _rows(self, classes: NDArray[np.uint8]) -> NDArray[np.generic]: ...


class LabelWriter(_PointWriter):
    """SemanticKITTI's `.label`: where its benchmark expects it for its own layout, else named by the frame."""

    def _classes_path(self, moment: Moment) -> Path:
        if self._job.source.kind in ("semantickitti", "scribblekitti"):
            return below(self._job.out, semantickitti_path(moment.name), str(self._job.source))
        return self._path(moment, ".label")

    def _rows(self, classes: NDArray[np.uint8]) -> NDArray[np.generic]:
        assert self._job.model.classes is not None
        return self._job.model.classes.train_to_raw[classes].astype("<u4")


class LidarsegWriter(_PointWriter):
    """nuScenes lidarseg as its devkit reads results: `lidarseg/<split>/<token>_lidarseg.bin` and what was used."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        dataset = job.source.dataset
        if dataset is None or not isinstance(dataset, LidarTokens):
            raise UserError(
                f"{job.source}: lidarseg files are named by the sample_data tokens of nuScenes tables, and this is "
                f"{job.source.kind}; use --format label, pcd, ply or las"
            )
        split = job.config.split.split
        external = job.model.about.get("pretrained") is not None
        self._submission = Submission(job.out, dataset, split if isinstance(split, str) else "custom", external)

    def _classes_path(self, moment: Moment) -> Path:
        return nuscenes_path(self._submission, moment.name)

    def begin(self) -> None:
        """Write what the network saw."""
        write_about(self._submission)

    def _rows(self, classes: NDArray[np.uint8]) -> NDArray[np.generic]:
        return classes


class CloudWriter(Writer):
    """Clouds for viewers: the points of the frame with `class`, `confidence` and the colour of the class."""

    detects = False

    def __init__(self, job: Job, ending: str) -> None:
        super().__init__(job)
        assert job.model.classes is not None
        self._ending, self._colors = ending, class_colors(job.model.classes)
        if job.config.confidences:
            raise UserError(f"confidences: a {ending} file has them in it; leave confidences out")

    def files(self, moment: Moment) -> tuple[Path, ...]:
        """One file, named by the frame."""
        return (self._path(moment, self._ending),)

    def write(self, moment: Moment, reading: Reading, found: Found) -> None:
        """Write the points of the frame; rows of the file without a return are no points."""
        assert isinstance(found, ClassifiedPoints)
        (path,) = self.files(moment)
        colors = self._colors[found.classes]
        columns: dict[str, NDArray[Any]] = {"class": found.classes, "confidence": found.confidence, "rgb": colors}
        write_scan(path, reading.frame.points_lidar_m, columns, reading.origin_m)


class KittiWriter(Writer):
    """KITTI's text files of results, in the terms of its calibration, or of a camera of another dataset."""

    detects = True

    def check(self, frame: Frame) -> None:
        """Refuse frames without a camera."""
        if _kitti_frames(self._job.source) is None:
            self._camera(frame)

    def files(self, moment: Moment) -> tuple[Path, ...]:
        """`<name>.txt`."""
        return (self._path(moment, ".txt"),)

    def write(self, moment: Moment, reading: Reading, found: Found) -> None:
        """Write one line per box, best first."""
        assert isinstance(found, DetectedObjects)
        dataset = _kitti_frames(self._job.source)
        if dataset is not None:
            calibration, size = dataset.calibration(moment.place), dataset.image_size(moment.place)
        else:
            camera = self._camera(reading.frame)
            projection = np.column_stack((camera.intrinsics, np.zeros(3)))
            calibration, size = KittiCalibration(projection, camera.camera_from_lidar), camera.size
        boxes, scores = found.boxes.astype(np.float64), found.scores.astype(np.float64)
        write_objects(self.files(moment)[0], objects_from_boxes(boxes, found.names, scores, calibration, size))

    def _camera(self, frame: Frame) -> Camera:
        """The camera whose terms boxes are written in."""
        wanted = self._job.config.camera
        for camera in frame.cameras:
            if wanted in (None, camera.name):
                return camera
        if frame.cameras:
            names = ", ".join(camera.name for camera in frame.cameras)
            raise UserError(f"{self._job.source}: frame {frame.token} has no camera {wanted}; it has {names}")
        raise UserError(
            f"{self._job.source}: frame {frame.token} has no camera, and KITTI's text files are in the terms of one; "
            "use --format jsonl, which is in the LiDAR frame"
        )


class JsonLinesWriter(Writer):
    """JSON lines: a box each, with its frame, so that files can be joined."""

    detects = True

    def files(self, moment: Moment) -> tuple[Path, ...]:
        """`<name>.jsonl`."""
        return (self._path(moment, ".jsonl"),)

    def write(self, moment: Moment, reading: Reading, found: Found) -> None:
        """Write one line per box, best first; the file of a frame without any is empty."""
        assert isinstance(found, DetectedObjects)
        frame = reading.frame
        head = {"frame": moment.name, "scene": frame.scene, "timestamp_us": frame.timestamp_us}
        lines = []
        for box, score, name in zip(found.boxes.tolist(), found.scores.tolist(), found.names, strict=True):
            values = [round(value, 4) for value in box]
            lines.append(json.dumps({**head, "class": name, "score": round(score, 6), "box": values}))
        write_text(self.files(moment)[0], "".join(f"{line}\n" for line in lines))


_CLOUDS = ("pcd", "ply", "las")
_OTHERS: dict[str, type[Writer]] = {
    "label": LabelWriter,
    "lidarseg": LidarsegWriter,
    "kitti": KittiWriter,
    "jsonl": JsonLinesWriter,
}
_LABELLED_SCANS = ("semantickitti", "scribblekitti", "semanticstf", "rellis3d", "daps3d")


def choose_format(job: Job) -> Format:
    """The format that was asked for, or the one that fits: a benchmark's own, else `pcd` or `jsonl`.

    Raises:
        UserError: the network gives nothing to write, or not what the format is of.
    """
    model, asked = job.model, job.config.format
    detects = model.detector is not None
    if not detects and (model.classes is None or model.head is None):
        raise UserError(
            f"{model.path}: predicts neither classes nor boxes; fine-tune or probe it with `olivine segment`, or train "
            "a detector with `olivine detect`"
        )
    if asked is not None:
        for_boxes = asked not in _CLOUDS and _OTHERS[asked].detects
        if for_boxes != detects:
            fitting = [name for name in get_args(Format) if (name in ("kitti", "jsonl")) == detects]
            what = "boxes" if detects else "classes of points"
            raise UserError(f"--format {asked}: {model.path} predicts {what}; use one of {', '.join(fitting)}")
        return asked
    if detects:
        return "jsonl" if _kitti_frames(job.source) is None else "kitti"
    if job.source.kind == "nuscenes":
        return "lidarseg"
    return "label" if job.source.kind in _LABELLED_SCANS else "pcd"


def _kitti_frames(source: Source) -> KittiFrames | None:
    """The dataset, where it is in KITTI's own terms."""
    dataset: object = source.dataset
    return dataset if isinstance(dataset, KittiFrames) else None


def make_writer(job: Job, form: Format) -> Writer:
    """The writer of a format.

    Raises:
        UserError: the source lacks what the format needs.
    """
    return CloudWriter(job, f".{form}") if form in _CLOUDS else _OTHERS[form](job)
