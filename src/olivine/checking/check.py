"""Reads a dataset as training would and says what is missing, truncated or inconsistent.

`check_folder` finds out which datasets a folder holds and checks each; `check_dataset` checks one. Problems are
collected, not raised, so that one run names them all. What only looks wrong is a warning: frames that are unlike the
others (`olivine.checking.ranking`) and, where it is asked for, calibrations that seem off (`olivine.checking.cameras`).
Pictures of both, and of points on images, are drawn by `olivine.visualize.folder`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.checking.boxes import BoxReport
from olivine.checking.cameras import CameraVerdict, judge_calibration
from olivine.checking.ranking import Ranking, Remark
from olivine.components import import_class, import_path
from olivine.config import validate
from olivine.data.datasets import OwnDatasetConfig, recognise
from olivine.data.frame import Boxes, Camera, Dataset, Frame
from olivine.data.intensity import faint
from olivine.data.masks import UNKNOWN, MaskManifest
from olivine.data.pairs import find_pairs
from olivine.data.splits import SplitConfig
from olivine.errors import UserError, printable

MAX_CAMERA_GAP_US = 250_000
"""A camera image this far from its scan shows another scene; nuScenes keeps within 0.1 s."""

ROTATION_TOLERANCE = 1e-3
"""How far RᵀR may be from the identity; calibration files carry at least five digits."""


@dataclass
class CheckReport:
    """What a check found.

    Attributes:
        frames: number of frames of the dataset, readable or not.
        pairs: number of point-pixel pairs over all frames, by camera name.
        problems: one line each, naming the file or the frame.
        boxes: what annotated boxes there are, or None where no frame is annotated.
        remarks: what looks wrong of frames, images and masks, the worst first.
        calibration: a verdict for each camera, where they were judged.
    """

    frames: int = 0
    pairs: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    boxes: BoxReport | None = None
    remarks: list[Remark] = field(default_factory=list)
    calibration: list[CameraVerdict] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        """What looks wrong and is no problem, a line each, the worst first: calibrations, then frames."""
        off = [verdict.lines()[0] for verdict in self.calibration if verdict.word == "off"]
        return [*off, *(f"{remark.fault}: {remark.text}" for remark in self.remarks)]

    def as_json(self) -> dict[str, Any]:
        """`{"frames": …, "pairs": {camera: count}, "problems": […], "warnings": […], …}`, ready for `json.dumps`.

        `"ranking"` is what `Remark.as_json` says of each remark, the worst first, `"calibration"` what
        `CameraVerdict.as_json` says of each camera. Where frames are annotated, `"boxes"` is what `BoxReport.as_json`
        says.
        """
        return {
            "frames": self.frames,
            "pairs": dict(self.pairs),
            **({} if self.boxes is None else {"boxes": self.boxes.as_json()}),
            "problems": list(self.problems),
            "warnings": self.warnings,
            "ranking": [remark.as_json() for remark in self.remarks],
            "calibration": [verdict.as_json() for verdict in self.calibration],
        }

    def __str__(self) -> str:
        """For people: frames, pairs and calibration of each camera, boxes, then every problem and warning on a line."""
        pairs = [f"{printable(camera)}: {count} pairs" for camera, count in self.pairs.items()]
        pairs += [printable(line) for verdict in self.calibration for line in verdict.lines()]
        pairs += [] if self.boxes is None else self.boxes.lines()
        problems = (
            [f"{_number(len(self.problems), 'problem')}:", *map(printable, self.problems)]
            if self.problems
            else ["no problems"]
        )
        warnings = self.warnings
        strange = (
            [f"{_number(len(warnings), 'warning')}, the worst first:", *map(printable, warnings)] if warnings else []
        )
        return "\n".join([f"{self.frames} frames", *pairs, *problems, *strange])

    def merged(self, other: CheckReport) -> CheckReport:
        """One report of two datasets."""
        pairs = dict(self.pairs)
        for camera, count in other.pairs.items():
            pairs[camera] = pairs.get(camera, 0) + count
        boxes = self.boxes.merged(other.boxes) if self.boxes and other.boxes else self.boxes or other.boxes
        remarks = sorted(self.remarks + other.remarks, key=lambda remark: -remark.severity)
        return CheckReport(
            self.frames + other.frames,
            pairs,
            self.problems + other.problems,
            boxes,
            remarks,
            self.calibration + other.calibration,
        )


def open_any(root: Path, own: str | None = None) -> list[Dataset]:
    """Open every dataset that a folder holds, whole (split `all`).

    Each kind of dataset says whether a folder is one (`olivine.data.datasets.recognise`).

    Args:
        root: the dataset's folder.
        own: import path of a dataset of one's own, which it is then opened as.

    Returns:
        The datasets, at least one.

    Raises:
        UserError: the folder is missing or holds no known dataset, or a file without which it cannot be opened is
            missing or damaged.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    if own is not None:
        return [_open_own(root, own)]
    datasets: list[Dataset] = [found.open(SplitConfig(split="all")) for found in recognise(root)]
    if not datasets:
        raise UserError(
            f"{root}: no dataset recognised; nuScenes has a folder of tables (scene.json, …) here, SemanticKITTI and "
            "ScribbleKITTI sequences/ or dataset/sequences/, KITTI's object benchmark [training/]velodyne and calib, "
            "SemanticSTF train/velodyne, RELLIS-3D 00000/os1_cloud_node_kitti_bin, DAPS-3D data/*/clouds, a "
            "folder of your own calibration.yaml and scans (docs/guide/data.md); "
            "--data module:Class opens one of your own"
        )
    return datasets


def check_dataset(dataset: Dataset, progress: Callable[[int], None] | None = None) -> CheckReport:
    """Read every frame as training would: scan, labels, images, masks, boxes, calibration, pairs.

    Args:
        dataset: an opened dataset.
        progress: called with the number of frames done after each.

    Returns:
        What was found; nothing wrong with a frame is raised.
    """
    report, ranking = CheckReport(frames=len(dataset)), Ranking()
    earlier: dict[str, int] = {}
    lacking: dict[str, list[str]] = {"cameras": [], "labels": []}
    read = 0
    for index in range(len(dataset)):
        try:
            frame = dataset[index]
        except UserError as error:
            report.problems.append(str(error))
        else:
            ranking.add_cloud(index, frame)
            look = partial(ranking.add_image, index, frame)
            report.problems.extend(_frame_problems(frame, dataset, earlier, look))
            _count_boxes(frame, report)
            _count_pairs(frame, report)
            read += 1
            for what, has in (("cameras", bool(frame.cameras)), ("labels", frame.labels is not None)):
                if not has:
                    lacking[what].append(f"{frame.token} of {frame.scene}")
        if progress is not None:
            progress(index + 1)
    report.problems.extend(_lacking_problems(lacking, read))
    if report.boxes is not None:
        report.problems.extend(report.boxes.problems(dataset.name))
    report.remarks.extend(ranking.remarks())
    return report


def _lacking_problems(lacking: dict[str, list[str]], read: int) -> Iterator[str]:
    """What some frames have and others do not: training refuses a mixture, and a score would count only a part."""
    for what, frames in lacking.items():
        if 0 < len(frames) < read:
            few = ", ".join(frames[:3]) + (", …" if len(frames) > 3 else "")
            yield f"{len(frames)} of {read} frames have no {what}, though others have: {few}"


def check_folder(
    root: Path,
    progress: Callable[[int], None] | None = None,
    *,
    own: str | None = None,
    calibration: bool = False,
) -> CheckReport:
    """Check every dataset that a folder holds; see `check_each`."""
    report = CheckReport()
    for _, found in check_each(root, progress, own=own, calibration=calibration):
        report = report.merged(found)
    return report


def check_each(
    root: Path,
    progress: Callable[[int], None] | None = None,
    *,
    own: str | None = None,
    calibration: bool = False,
) -> list[tuple[Dataset, CheckReport]]:
    """Every dataset that a folder holds with what a check of it finds; see `open_any` and `check_dataset`.

    Args:
        root: the folder.
        progress: called with the number of frames done after each.
        own: import path of a dataset of one's own, which it is then opened as.
        calibration: whether the calibration of cameras is judged too, which takes some seconds for each.
    """
    checked = []
    for dataset in open_any(root, own):
        report = check_dataset(dataset, progress)
        if calibration:
            report.calibration.extend(judge_calibration(dataset))
        checked.append((dataset, report))
    return checked


def _open_own(root: Path, path: str) -> Dataset:
    """A dataset of one's own, whole; what else its configuration has is at its defaults."""
    try:
        own = import_class(path, OwnDatasetConfig)  # type: ignore[type-abstract]
    except UserError as error:
        raise UserError(f"--data {path}: {error}") from error
    return validate(own, {"name": import_path(own), "root": str(root)}, f"--data {path}").open(SplitConfig(split="all"))


_Look = Callable[[Camera, NDArray[np.uint8], NDArray[np.uint8] | None], None]


def _frame_problems(frame: Frame, dataset: Dataset, earlier: dict[str, int], look: _Look) -> Iterator[str]:
    """Problems of one frame; `earlier` keeps the last time seen in each scene, `look` is shown every sound image."""
    where = _name(frame)
    yield from _cloud_problems(frame, len(dataset.classes.names), where)
    if frame.boxes is not None:
        yield from _box_problems(frame.boxes, where)
    before = earlier.get(frame.scene)
    if before is not None and frame.timestamp_us <= before:
        yield f"{where}: its time {frame.timestamp_us} µs is not after the frame before it ({before} µs)"
    earlier[frame.scene] = frame.timestamp_us
    if frame.global_from_lidar is not None and not _is_rigid(frame.global_from_lidar):
        yield f"{where}: its pose is not a rigid transform"
    for camera in frame.cameras:
        yield from _camera_problems(camera, frame, dataset.manifest, look)


def _cloud_problems(frame: Frame, classes: int, where: str) -> Iterator[str]:
    points = len(frame.points_lidar_m)
    if not points:
        yield f"{where}: the scan has no points"
        return
    finite = np.isfinite(frame.points_lidar_m).all(1)
    if not finite.all():
        yield f"{where}: {int((~finite).sum())} of {points} points are not finite"
    values = frame.intensity
    if values is not None and not ((values >= 0) & (values <= frame.intensity_max)).all():
        yield f"{where}: intensity leaves 0…{frame.intensity_max:g}"
    strange = faint(frame)
    if strange is not None:
        yield f"{where}: {strange}"
    if frame.label_fault is not None:
        yield frame.label_fault
    if frame.labels is not None and len(frame.labels) != points:
        yield f"{where}: {len(frame.labels)} labels for {points} points"
    elif frame.labels is not None and int(frame.labels.max()) > classes:
        yield f"{where}: label {int(frame.labels.max())} but there are {classes} classes"


def _box_problems(boxes: Boxes, where: str) -> Iterator[str]:
    if len(boxes.boxes) != len(boxes.names):
        yield f"{where}: {len(boxes.boxes)} boxes but {len(boxes.names)} names"
    if not np.isfinite(boxes.boxes).all():
        yield f"{where}: a box is not finite"
    elif (boxes.boxes[:, 3:6] <= 0).any():
        yield f"{where}: a box has a side that is not positive"


def _count_boxes(frame: Frame, report: CheckReport) -> None:
    """Add the frame's boxes to the report, unless they are a problem themselves."""
    if frame.boxes is None or any(_box_problems(frame.boxes, "")):
        return
    report.boxes = report.boxes or BoxReport()
    report.problems.extend(report.boxes.add(frame, _name(frame)))


def _name(frame: Frame) -> str:
    return f"frame {frame.token} of {frame.scene}"


def _camera_problems(camera: Camera, frame: Frame, manifest: MaskManifest | None, look: _Look) -> Iterator[str]:
    where = str(camera.image_path)
    gap_us = abs(camera.timestamp_us - frame.timestamp_us)
    if gap_us > MAX_CAMERA_GAP_US:
        yield f"{where}: taken {gap_us / 1e6:.2f} s from its scan {frame.token}"
    if not _is_rigid(camera.camera_from_lidar):
        yield f"{where}: camera_from_lidar is not a rigid transform; check the calibration"
    if not _is_pinhole(camera):
        yield f"{where}: the camera matrix does not fit a {camera.size[0]}×{camera.size[1]} image"
    pixels: NDArray[np.uint8] | None = None
    try:
        pixels = camera.image()
    except UserError as error:
        yield str(error)
    try:
        mask = camera.mask()
    except UserError as error:
        yield str(error)
        return
    if pixels is not None:
        look(camera, pixels, mask)
    if mask is not None and manifest is not None:
        used = np.flatnonzero(np.bincount(mask.ravel(), minlength=UNKNOWN + 1))
        unnamed = [int(value) for value in used if len(manifest.classes) <= value < UNKNOWN]
        if unnamed:
            named = len(manifest.classes)
            yield f"{camera.mask_path}: holds {unnamed}, but {manifest.path} names the {named} classes 0…{named - 1}"


def _count_pairs(frame: Frame, report: CheckReport) -> None:
    """Add the frame's pairs to the report; a camera that sees no point is a problem."""
    with np.errstate(invalid="ignore"):  # points that are not finite are a problem already
        counts = find_pairs(frame, labels=False).per_camera(len(frame.cameras))
    for camera, count in zip(frame.cameras, counts.tolist(), strict=True):
        report.pairs[camera.name] = report.pairs.get(camera.name, 0) + count
        if not count:
            report.problems.append(f"{camera.image_path}: no point of its scan {frame.token} falls into this image")


def _is_rigid(transform: NDArray[np.float64]) -> bool:
    rotation = transform[:3, :3]
    orthonormal = np.abs(rotation.T @ rotation - np.eye(3)).max() < ROTATION_TOLERANCE
    return bool(np.isfinite(transform).all() and orthonormal and np.linalg.det(rotation) > 0)


def _is_pinhole(camera: Camera) -> bool:
    """Positive focal lengths, and an optical axis that meets the image."""
    matrix, (width, height) = camera.intrinsics, camera.size
    centred = 0 < matrix[0, 2] < width and 0 < matrix[1, 2] < height
    return bool(matrix[0, 0] > 0 and matrix[1, 1] > 0 and centred and np.allclose(matrix[2], [0, 0, 1]))


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
