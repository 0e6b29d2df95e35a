"""The page of a check: the calibration of every camera before and after, and what looks wrong, the worst first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from olivine.checking.cameras import CameraVerdict
from olivine.checking.check import CheckReport
from olivine.checking.ranking import Remark
from olivine.data.frame import Camera, Dataset, Frame
from olivine.data.pairs import find_pairs
from olivine.drawing.report import Picture, Section, write_report
from olivine.drawing.tiles import RGB, abreast, below, png, titled
from olivine.errors import UserError
from olivine.geometry import transform_points
from olivine.visualize.projection import depth_colors, depth_scale, draw_labels, draw_points, mask_palette, resized

MOST = 24
"""So many remarks are shown; `--json` has all of them."""

_TILE_PX = 1240
_SMALL_PX = 480
_ABOVE_M = 40.0


def draw_checked(dataset: Dataset, report: CheckReport, folder: Path) -> list[Path]:
    """Write `check.html`, the page of a checked dataset, pictures included.

    Args:
        dataset: the dataset.
        report: what a check of it found.
        folder: where it goes, made if missing.

    Returns:
        The page; nothing where there is nothing to show.

    Raises:
        UserError: a file cannot be written.
    """
    sections = [*_calibration(dataset, report), *_worst(dataset, report)]
    return [write_report(folder / "check.html", f"Check of {dataset.name}", sections)] if sections else []


def before_and_after(dataset: Dataset, verdict: CameraVerdict) -> RGB:
    """The points of a frame on a camera's image as they fall now, and below as the verdict would have them.

    Raises:
        UserError: the frame or its image cannot be read.
    """
    frame = dataset[verdict.index]
    camera = next(each for each in frame.cameras if each.name == verdict.camera)
    found = verdict.findings
    titles = (f"before: edges meet to {found.before:.2f}", f"after: edges meet to {found.best:.2f}")
    tiles = [titled(_points(frame, camera), f"{verdict.camera}, frame {verdict.token}, {titles[0]}")]
    if verdict.word == "off":
        tiles.append(titled(_points(frame, replace(camera, camera_from_lidar=verdict.suggested)), titles[1]))
    return below([*tiles, depth_scale()])


def _calibration(dataset: Dataset, report: CheckReport) -> Iterator[Section]:
    order = {"off": 0, "cannot tell": 1, "fine": 2}
    for verdict in sorted(report.calibration, key=lambda each: order[each.word]):
        try:
            pictures = [Picture(png(before_and_after(dataset, verdict)), verdict.lines()[0])]
        except UserError:  # it was readable when it was judged
            pictures = []
        listing = "\n".join(verdict.lines()[1:])
        yield Section(f"Calibration of {verdict.camera}: {verdict.word}", pictures=pictures, listing=listing, wide=True)


def _worst(dataset: Dataset, report: CheckReport) -> Iterator[Section]:
    if report.remarks:
        shown = report.remarks[:MOST]
        pictures = [Picture(png(_look(dataset, each)), f"{each.fault}: {each.text}") for each in shown]
        text = f"{len(report.remarks)} remarks" + (
            f", of which {MOST} are shown." if len(report.remarks) > MOST else "."
        )
        yield Section("Worst first", [text], pictures=pictures)


def _look(dataset: Dataset, remark: Remark) -> RGB:
    """What a remark is about: an image with its points, with its mask where that is meant, or a cloud from above."""
    frame = dataset[remark.index]
    if remark.camera is None:
        return titled(_from_above(frame), f"frame {frame.token} from above")
    camera = next(each for each in frame.cameras if each.name == remark.camera)
    tiles = [titled(_points(frame, camera, _SMALL_PX), f"{camera.name}, frame {frame.token}")]
    if "mask" in remark.fault and dataset.manifest is not None:
        palette = mask_palette(dataset.manifest.classes, dataset.classes)
        nothing = np.zeros((0, 2))
        label = np.zeros(0, np.uint8)
        tiles.append(titled(draw_labels(camera, nothing, nothing[:, 0], label, palette, _SMALL_PX), "its mask"))
    return abreast(tiles, 2)


def _points(frame: Frame, camera: Camera, width: int = _TILE_PX) -> RGB:
    alone = replace(frame, cameras=(camera,))
    pairs = find_pairs(alone, labels=False)
    depth_m = transform_points(camera.camera_from_lidar, frame.points_lidar_m[pairs.point])[:, 2]
    image, uv = resized(camera.image(), pairs.uv, min(width, camera.size[0]))
    # As small as can be: dense clouds would hide the image that they are to be compared with.
    return draw_points(image, uv, depth_colors(depth_m), depth_m, radius=0)


def _from_above(frame: Frame) -> RGB:
    """[480, 480, 3] the points within 40 m, x to the right and y upwards, by their distance."""
    points_m = frame.points_lidar_m[np.isfinite(frame.points_lidar_m).all(axis=1)]
    points_m = points_m[np.abs(points_m[:, :2]).max(axis=1, initial=0) < _ABOVE_M]
    place = (points_m[:, :2] * [1, -1] + _ABOVE_M) / (2 * _ABOVE_M) * (_SMALL_PX - 1)
    range_m = np.maximum(np.linalg.norm(points_m, axis=1), 2.0)
    blank = np.full((_SMALL_PX, _SMALL_PX, 3), 255, np.uint8)
    return draw_points(blank, place, depth_colors(range_m), range_m, radius=0)
