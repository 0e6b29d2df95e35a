"""Object sampling: objects of other scans pasted into a scan, so that it holds more to learn from.

It comes from SECOND (Yan, Mao & Li, Sensors 2018, section 3.2.2). The published code draws one order of a class's
objects and consumes it in chunks, scan after scan, so that what a scan is given depends on which scans a process saw
before. Here every scan draws an order of its own, of which it takes the first: the same chances for one scan, whatever
process sees it, before or after a resume.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from olivine.config import Config
from olivine.data.beams import beams_like
from olivine.data.frame import Boxes, Frame
from olivine.data.intensity import range_of, range_text
from olivine.detection.annotated import annotated_boxes
from olivine.detection.database import ObjectDatabase, points_of_objects
from olivine.errors import UserError
from olivine.geometry.overlap import bev_overlap

PUBLISHED_COUNTS = {"Car": 20, "Pedestrian": 15, "Cyclist": 15}
"""Objects of each class that a scan is filled up to, as published for SECOND."""

_ROUNDING_M2 = 1e-9  # a smaller shared area is none


class SamplingConfig(Config):
    """Which objects of a database are pasted into each scan, and how many."""

    counts: dict[str, NonNegativeInt] = PUBLISHED_COUNTS
    """How many objects of each category; with `fill` less those that are there. For SECOND are published Car 20,
    Pedestrian 15 and Cyclist 15, for PV-RCNN 15, 10 and 10."""

    fill: bool = True
    """Count the objects that are already there, as published for SECOND; off: paste `counts` however many are there,
    as published for PV-RCNN."""

    min_points: NonNegativeInt = 5
    """Objects of fewer points are not pasted."""

    rated_only: bool = True
    """Leave out objects that the dataset's rule of difficulty says nothing about (KITTI: too small, too truncated or
    too occluded); nothing where it has no such rule."""

    road_planes: bool = False
    """Move objects onto the ground of the scan, as published, which needs a plane for each frame. Off: objects keep
    the height at which they stood in their own scan, so on slopes they may hang or sink."""

    database: Path | None = None
    """Folder of the database, made where it is empty; null is one of this split's own below `<out>/databases`."""

    rebuild: bool = False
    """Make the database anew, e.g. after labels changed."""


@dataclass(frozen=True)
class ObjectSampler:
    """Pastes objects into frames.

    Attributes:
        database: the objects.
        counts: how many of each category, in the order in which they are placed.
        fill: as of `SamplingConfig`, and so are the others.
        road_planes: see there.
        rows: by category, the objects that may be pasted.
    """

    database: ObjectDatabase
    counts: Mapping[str, int]
    fill: bool
    road_planes: bool
    rows: Mapping[str, NDArray[np.int64]]

    @staticmethod
    def of(database: ObjectDatabase, config: SamplingConfig) -> ObjectSampler:
        """A sampler of the objects that are fit to be pasted.

        Raises:
            UserError: no category has an object that is.
        """
        fit = database.counts >= config.min_points
        if config.rated_only and database.difficulty is not None:
            fit &= database.difficulty >= 0
        names = np.array(database.names, np.str_)
        rows = {name: np.flatnonzero(fit & (names == name)) for name, count in config.counts.items() if count}
        if not any(map(len, rows.values())):
            had = ", ".join(f"{np.count_nonzero(names == name)} {name}" for name in rows)
            raise UserError(
                f"sampling.counts: the database {database.folder} has no object that is fit to be pasted ({had} before "
                "sampling.min_points and sampling.rated_only); set sampling=null"
            )
        return ObjectSampler(database, dict(config.counts), config.fill, config.road_planes, rows)

    @property
    def missing(self) -> tuple[str, ...]:
        """Categories of which nothing can be pasted, as may happen where few frames are labelled."""
        return tuple(name for name, found in self.rows.items() if len(found) == 0)

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """Paste objects into a frame.

        Objects that would overlap an object of the frame, of whatever category, or each other, seen from above, are
        not pasted: of two that collide neither is.

        Args:
            frame: the frame, with boxes.
            rng: the generator keyed by (seed, epoch, sample).

        Returns:
            The frame with the objects' points before its own, those of its own that lie in a pasted box, or
            up to 1 cm beside it, removed, and the pasted boxes after its own; without images and labels of points,
            which no longer fit it.

        Raises:
            UserError: the frame has no boxes, or no road plane where one is needed, or intensities of another range.
        """
        present = annotated_boxes(frame)
        self._check(frame)
        taken, chosen = present.boxes, np.zeros(0, np.int64)
        for name, candidates in self.rows.items():
            wanted = self.counts[name] - (present.names.count(name) if self.fill else 0)
            drawn = rng.permutation(candidates)[: max(0, wanted)]
            boxes = self.database.boxes[drawn]
            free = _free(boxes, taken)
            taken = np.concatenate([taken, boxes[free]])
            chosen = np.concatenate([chosen, drawn[free]])
        return self._pasted(frame, present, chosen)

    def _check(self, frame: Frame) -> None:
        if range_of(frame) != self.database.intensity_max:
            raise UserError(
                f"frame {frame.token!r}: intensities of {range_text(range_of(frame))}, and the objects of "
                f"{self.database.folder} have {range_text(self.database.intensity_max)}; choose a database of this "
                "dataset"
            )
        if self.road_planes and frame.ground_lidar is None:
            raise UserError(
                f"frame {frame.token!r}: no road plane, and sampling.road_planes=true needs one for every frame; get "
                "the planes, or set sampling.road_planes=false"
            )

    def _pasted(self, frame: Frame, present: Boxes, chosen: NDArray[np.int64]) -> Frame:
        """The frame with the chosen objects in it."""
        boxes = self.database.boxes[chosen].copy()
        if self.road_planes and frame.ground_lidar is not None:
            boxes[:, 2] = _ground_z(frame.ground_lidar, boxes) + boxes[:, 5] / 2
        objects = [self.database.points(int(row)) for row in chosen]
        moved = [points[:, :3] + box[:3] for points, box in zip(objects, boxes, strict=True)]
        outside = np.flatnonzero(~points_of_objects(frame.points_lidar_m, boxes).any(axis=0))
        points_m = np.concatenate([*moved, frame.points_lidar_m[outside]])
        own = None if frame.intensity is None else frame.intensity[outside]
        intensity = None if own is None else np.concatenate([*(points[:, 3] for points in objects), own])
        return replace(
            frame,
            points_lidar_m=points_m.astype(np.float32),
            intensity=None if intensity is None else intensity.astype(np.float32),
            cameras=(),
            labels=None,
            label_fault=None,
            rings=None if frame.rings is None else _rings(frame, points_m[: len(points_m) - len(outside)], outside),
            boxes=Boxes(
                np.concatenate([present.boxes, boxes]),
                (*present.names, *(self.database.names[row] for row in chosen)),
                self._difficulty(present, chosen),
            ),
        )

    def _difficulty(self, present: Boxes, chosen: NDArray[np.int64]) -> NDArray[np.int64] | None:
        if present.difficulty is None or self.database.difficulty is None:
            return None
        return np.concatenate([present.difficulty, self.database.difficulty[chosen]])


def _rings(frame: Frame, pasted_m: NDArray[np.float64], outside: NDArray[np.int64]) -> NDArray[np.uint16]:
    """The beams of pasted points, as of what the frame has about them, and of those of its own that are left."""
    assert frame.rings is not None
    own = frame.rings.astype(np.int64)
    pasted = beams_like(pasted_m.astype(np.float32), frame, own)
    return np.concatenate([pasted, own[outside]]).astype(np.uint16)


def _free(boxes: NDArray[np.float64], taken: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[K] which boxes overlap, seen from above, neither a taken one nor each other."""
    own = bev_overlap(torch.from_numpy(boxes), torch.from_numpy(boxes)).fill_diagonal_(0)
    others = bev_overlap(torch.from_numpy(boxes), torch.from_numpy(taken))
    return np.asarray(~((own > _ROUNDING_M2).any(dim=1) | (others > _ROUNDING_M2).any(dim=1)).numpy())


def _ground_z(plane: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """[K] height of the plane a·x + b·y + c·z + d = 0 below or above the centres of boxes."""
    a, b, c, d = plane
    return np.asarray(-(a * boxes[:, 0] + b * boxes[:, 1] + d) / c)
