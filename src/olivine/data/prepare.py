"""From a frame to what a network sees: pairs, augmentation, voxels.

`Prepare` is a picklable callable that loader processes run once per sample; it does only what it was asked for.
`olivine.data.collate` joins what it makes into a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from olivine.data.augment import (
    CloudAugment,
    Cut,
    ImageAugment,
    cloud_transform,
    cuboid_keep,
    draw_cuts,
    drop_points,
)
from olivine.data.frame import Frame
from olivine.data.needs import Needs
from olivine.data.pairs import PairConfig, Pairs, find_pairs
from olivine.data.second_view import ViewConfig, cut_view, same_places, same_rows, voxel_matches
from olivine.data.thinning import thinned
from olivine.data.voxelize import CartesianVoxels, CylindricalVoxels, Voxels, input_intensity, voxel_features, voxelize
from olivine.errors import UserError
from olivine.geometry import invert, transform_points, turned_boxes


@dataclass(frozen=True)
class PreparedCloud:
    """One view of one cloud, voxelised. N points, V voxels.

    Attributes:
        points_m: [N, 3] float32 augmented points, metres.
        row: [N] int64 row of the frame's cloud that each point is, ascending.
        augmented_from_lidar: [3, 3] float32 how they were augmented.
        voxels: their voxels.
        features: [V, C] float32 input features.
        labels: [N] uint8 training classes, or None.
        intensity: [N] float32 intensities in the range of the features, or None.
    """

    points_m: NDArray[np.float32]
    row: NDArray[np.int64]
    augmented_from_lidar: NDArray[np.float32]
    voxels: Voxels
    features: NDArray[np.float32]
    labels: NDArray[np.uint8] | None
    intensity: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class PreparedBoxes:
    """The boxes of a sample. M boxes.

    Attributes:
        values: [M, 7] float64, augmented like the points.
        label: [M] int64 class 1…C.
        difficulty: [M] int64.
    """

    values: NDArray[np.float64]
    label: NDArray[np.int64]
    difficulty: NDArray[np.int64]


@dataclass(frozen=True)
class PreparedSecond:
    """The second view of a sample.

    Attributes:
        cloud: the view.
        second_from_first: [4, 4] float64 transform between the LiDAR frames; NaN where a frame has no pose.
        match: [Q, 2] int64 voxels (of the first view, of this one) that hold the same point, or None.
    """

    cloud: PreparedCloud
    second_from_first: NDArray[np.float64]
    match: NDArray[np.int64] | None


@dataclass(frozen=True)
class Prepared:
    """One sample, ready to be collated. P pairs.

    Attributes:
        token: the frame's token.
        cloud: the cloud.
        images: [cameras, H, W, 3] uint8, or None.
        segments: [cameras, H, W] int32 superpixels, or None.
        pairs: the pairs, or None; every pair's point lies in a voxel.
        range_m: [P] float32 horizontal range of each pair's point before augmentation, metres, or None.
        second: another view, or None.
        boxes: the boxes, or None.
    """

    token: str
    cloud: PreparedCloud
    images: NDArray[np.uint8] | None = None
    segments: NDArray[np.int32] | None = None
    pairs: Pairs | None = None
    range_m: NDArray[np.float32] | None = None
    second: PreparedSecond | None = None
    boxes: PreparedBoxes | None = None


@dataclass(frozen=True)
class _Seen:
    """What the cameras see of a frame: the points that are kept, the images and the pairs."""

    row: NDArray[np.int64]
    images: NDArray[np.uint8]
    segments: NDArray[np.int32] | None
    pairs: Pairs


@dataclass(frozen=True)
class Augmentation:
    """How samples vary from one epoch to the next.

    Attributes:
        cloud: of the clouds, or None for none.
        images: of the images, and their size.
        pairs: which points pair with pixels.
        views: how two views of a frame come about.
    """

    cloud: CloudAugment | None = None
    images: ImageAugment = field(default_factory=ImageAugment)
    pairs: PairConfig = field(default_factory=PairConfig)
    views: ViewConfig = field(default_factory=ViewConfig)


@dataclass(frozen=True)
class Prepare:
    """Turn frames into samples.

    Attributes:
        voxels: the grid.
        augment: how samples vary.
        needs: what they must hold.
    """

    voxels: CylindricalVoxels | CartesianVoxels
    augment: Augmentation = field(default_factory=Augmentation)
    needs: Needs = field(default_factory=Needs)

    def __call__(self, frame: Frame, rng: np.random.Generator, other: Frame | None = None) -> Prepared:
        """Prepare one frame.

        Args:
            frame: the frame.
            rng: the generator keyed by (seed, epoch, sample).
            other: with a second view, the frame that it shows; None is `frame` itself.

        Raises:
            UserError: images are wanted and the frame has no camera; an image, a mask or superpixels are missing,
                unreadable or of the wrong size; labels are wanted and hold ids of no class; boxes are wanted and the
                frame has none annotated; a point is not finite or
                too far away for the grid; matches are wanted between frames without poses; beams are to be dropped and
                nothing tells which point is of which.
        """
        _check_finite(frame)
        if self.needs.labels and frame.label_fault is not None:
            raise UserError(frame.label_fault)
        other = None if other is None or other is frame else self._thinned(other, rng)
        frame = self._thinned(frame, rng)
        matrix = self._matrix(rng)
        seen = self._look(frame, rng, self.augment.images, matrix) if self.needs.images else None
        row = np.arange(len(frame.points_lidar_m)) if seen is None else seen.row
        cloud = self._cloud(frame, row, rng, matrix)
        second = None if self.needs.second is None else self._second(frame, other or frame, cloud, rng)
        boxes = None if self.needs.boxes is None else _boxes(frame, self.needs.boxes, matrix)
        if seen is None:
            return Prepared(frame.token, cloud, second=second, boxes=boxes)
        pairs = seen.pairs if len(cloud.row) == len(row) else drop_points(np.isin(row, cloud.row), seen.pairs)
        pairs = pairs.select(cloud.voxels.point_voxel[pairs.point] >= 0)
        range_m = np.hypot(*frame.points_lidar_m[cloud.row[pairs.point], :2].T)
        return Prepared(frame.token, cloud, seen.images, seen.segments, pairs, range_m, second, boxes)

    def _thinned(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """What is left of a frame; without beams or intensities to drop, the frame itself and no draw."""
        cloud = self.augment.cloud
        return frame if cloud is None else thinned(frame, rng, cloud.beams, cloud.intensity_dropout)

    def _matrix(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """[3, 3] how a view of a cloud is rotated, mirrored and scaled."""
        return np.eye(3, dtype=np.float32) if self.augment.cloud is None else cloud_transform(rng, self.augment.cloud)

    def _cloud(
        self, frame: Frame, row: NDArray[np.int64], rng: np.random.Generator, matrix: NDArray[np.float32]
    ) -> PreparedCloud:
        """One view of some rows of a frame's cloud: cut where there are two views, augmented, voxelised."""
        if self.needs.second is not None:
            row = row[cut_view(frame.points_lidar_m[row], rng, self.augment.views)]
        shown = _rows(frame, row)
        points_m = shown.points_lidar_m if self.augment.cloud is None else shown.points_lidar_m @ matrix.T
        try:
            voxels = voxelize(points_m, self.voxels)
        except UserError as error:
            raise UserError(f"frame {frame.token!r}: {error}") from error
        features = voxel_features(shown, points_m, voxels, self.voxels)
        labels = shown.labels if self.needs.labels else None
        intensity = input_intensity(shown, self.voxels) if self.needs.intensities else None
        return PreparedCloud(points_m, row, matrix, voxels, features, labels, intensity)

    def _second(self, frame: Frame, other: Frame, first: PreparedCloud, rng: np.random.Generator) -> PreparedSecond:
        """The second view, and what it has in common with the first."""
        if other is not frame:
            _check_finite(other)
        cloud = self._cloud(other, np.arange(len(other.points_lidar_m)), rng, self._matrix(rng))
        second_from_first = _between(frame, other)
        if not self.needs.match:
            return PreparedSecond(cloud, second_from_first, None)
        if other is frame:
            points = same_rows(first.row, cloud.row)
        else:
            points = self._same_places(frame.points_lidar_m[first.row], other.points_lidar_m[cloud.row],
                                       second_from_first, other.token)  # fmt: skip
        match = voxel_matches(points, first.voxels.point_voxel, cloud.voxels.point_voxel)
        return PreparedSecond(cloud, second_from_first, match)

    def _same_places(
        self,
        first_m: NDArray[np.float32],
        second_m: NDArray[np.float32],
        second_from_first: NDArray[np.float64],
        token: str,
    ) -> NDArray[np.int64]:
        if not np.isfinite(second_from_first).all():
            raise UserError(
                f"frame {token!r} or its neighbour has no pose, and matching two frames needs both; add poses to the "
                "data, or choose a method that learns from one scan (depthcontrast, or one that is taught by images)"
            )
        moved_m = transform_points(second_from_first, first_m)
        return same_places(moved_m, second_m.astype(np.float64), self.augment.views.match_m)

    def _look(self, frame: Frame, rng: np.random.Generator, config: ImageAugment, matrix: NDArray[np.float32]) -> _Seen:
        """Pairs and images, augmented together with the cloud, which `matrix` is going to turn."""
        if not frame.cameras:
            raise UserError(
                f"frame {frame.token} of {frame.scene} has no camera images, and learning from images needs them; "
                "leave its scene out of train_split"
            )
        pairs = find_pairs(
            frame,
            labels=self.needs.weak_labels,
            min_depth_m=self.augment.pairs.min_depth_m,
            border_px=self.augment.pairs.border_px,
            occlusion_m=self.augment.pairs.occlusion_m,
        )
        kept = self.voxels.reaches(frame.points_lidar_m)
        if self.augment.pairs.drop_unseen:
            seen = np.zeros(len(kept), np.bool_)
            seen[pairs.point] = True
            kept = kept & seen
        row, pairs = np.flatnonzero(kept), drop_points(kept, pairs)
        points_m = frame.points_lidar_m[row]
        turned_m = points_m @ matrix.T if config.cuboid == "published" else points_m
        keep = cuboid_keep(turned_m, pairs, len(frame.cameras), rng, config)
        row, pairs = row[keep], drop_points(keep, pairs)
        cuts = draw_cuts([camera.size for camera in frame.cameras], pairs, rng, config)
        images = np.stack([cut.image(camera.image()) for cut, camera in zip(cuts, frame.cameras, strict=True)])
        segments = _segments(frame, cuts) if self.needs.segments else None
        parts = [cut.pairs(pairs.select(pairs.camera == index)) for index, cut in enumerate(cuts)]
        return _Seen(row, images, segments, Pairs.concatenate(parts))


def _segments(frame: Frame, cuts: Sequence[Cut]) -> NDArray[np.int32]:
    """[cameras, H, W] superpixels of a frame's images, cut like them."""
    parts = []
    for camera, cut in zip(frame.cameras, cuts, strict=True):
        numbers = camera.segments()
        if numbers is None:
            raise UserError(f"{camera.image_path}: has no superpixels; make them with olivine label label_slic")
        parts.append(cut.segments(numbers))
    return np.stack(parts)


def _boxes(frame: Frame, names: tuple[str, ...], matrix: NDArray[np.float32]) -> PreparedBoxes:
    """The boxes of some categories, turned like the cloud."""
    if frame.boxes is None:
        raise UserError(f"frame {frame.token!r}: no annotated boxes, and learning to detect needs them")
    label = np.array([names.index(name) + 1 if name in names else 0 for name in frame.boxes.names], np.int64)
    wanted = label > 0
    difficulty = frame.boxes.difficulty
    return PreparedBoxes(
        turned_boxes(matrix, frame.boxes.boxes[wanted]),
        label[wanted],
        np.full(int(wanted.sum()), -1, np.int64) if difficulty is None else difficulty[wanted],
    )


def _between(first: Frame, second: Frame) -> NDArray[np.float64]:
    """[4, 4] second_from_first of the frames' LiDARs; NaN where a pose is unknown."""
    if first is second:
        return np.eye(4)
    if first.global_from_lidar is None or second.global_from_lidar is None:
        return np.full((4, 4), np.nan)
    return invert(second.global_from_lidar) @ first.global_from_lidar


def _check_finite(frame: Frame) -> None:
    """Refuse a scan with NaN or infinite points: their voxel is undefined, and one spoils its whole neighbourhood."""
    x, y, z = np.isfinite(frame.points_lidar_m).T
    finite = x & y & z
    if frame.intensity is not None:
        finite = finite & np.isfinite(frame.intensity)
    if not finite.all():
        raise UserError(
            f"frame {frame.token!r}: {int((~finite).sum())} of {len(finite)} points are not finite (position or "
            "intensity); remove them from the scan"
        )


def _rows(frame: Frame, row: NDArray[np.int64]) -> Frame:
    """The frame with some of its points."""
    return frame if len(row) == len(frame.points_lidar_m) else frame.take(row)
