"""What training does to a scan with objects before it is voxelised, and to its boxes after: sampling, order, range.

Flips, rotation and scaling are those of every cloud (`olivine.data.augment`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from olivine.data.frame import Dataset, Frame
from olivine.data.prepare import Prepare, Prepared, PreparedBoxes
from olivine.data.thinning import with_rings
from olivine.detection.annotated import annotated_boxes
from olivine.detection.sampling import ObjectSampler
from olivine.errors import UserError
from olivine.geometry import limit_period

TRIES = 100
"""Frames that are drawn in place of one without objects, before a split is taken for one without any."""


@dataclass(frozen=True)
class PrepareTraining:
    """Makes training samples of frames with boxes.

    Attributes:
        prepare: turns the cloud and its boxes, and voxelises; it is asked for the boxes of the classes.
        dataset: the split, of which another frame is taken where one has no objects left.
        sampler: pastes objects; None pastes none.
        bounds_m: x_min, y_min, z_min, x_max, y_max, z_max; boxes whose centre lies outside are not learned.
    """

    prepare: Prepare
    dataset: Dataset
    sampler: ObjectSampler | None
    bounds_m: tuple[float, float, float, float, float, float]

    def __call__(self, frame: Frame, rng: np.random.Generator, other: Frame | None = None) -> Prepared:  # noqa: ARG002
        """The sample of a frame, or, where no object of the classes is left in it, of another one.

        Args:
            frame: the frame.
            rng: the generator keyed by (seed, epoch, sample), which draws the other frame too.
            other: not looked at.

        Raises:
            UserError: a frame has no annotated boxes, or damaged ones; or no frame with objects was found.
        """
        for _ in range(TRIES):
            sample = self._sample(frame, rng)
            if sample.boxes is not None and len(sample.boxes.label):
                return sample
            frame = self.dataset[int(rng.integers(len(self.dataset)))]
        raise UserError(
            f"none of {TRIES} frames drawn from train_split has an object of "
            f"{', '.join(self.prepare.needs.boxes or ())} within voxels.bounds_m; look at the labels with "
            "`olivine check`"
        )

    def _sample(self, frame: Frame, rng: np.random.Generator) -> Prepared:
        annotated_boxes(frame)
        cloud = self.prepare.augment.cloud
        thins = cloud is not None and cloud.beams is not None
        # The order of the points, which may tell their beams, is lost below.
        frame = with_rings(frame) if thins else replace(frame, rings=None)
        if self.sampler is not None:
            frame = self.sampler(frame, rng)
        # Their order decides which points and voxels the limits of the grid leave out.
        sample = self.prepare(shuffled(frame, rng), rng)
        assert sample.boxes is not None
        boxes = sample.boxes
        values = boxes.values.copy()
        values[:, 6] = limit_period(values[:, 6], 0.5, 2 * np.pi)
        inside = centres_in_range(values, self.bounds_m)
        kept = PreparedBoxes(values[inside], boxes.label[inside], boxes.difficulty[inside])
        return replace(sample, boxes=kept)


def shuffled(frame: Frame, rng: np.random.Generator) -> Frame:
    """The frame with its points in a random order."""
    return frame.take(rng.permutation(len(frame.points_lidar_m)))


def centres_in_range(
    boxes: NDArray[np.float64], bounds_m: tuple[float, float, float, float, float, float]
) -> NDArray[np.bool_]:
    """[M] which boxes [M, 7] have their centre in x_min, y_min, z_min, x_max, y_max, z_max, borders included."""
    low, high = np.array(bounds_m).reshape(2, 3)
    return np.asarray(((boxes[:, :3] >= low) & (boxes[:, :3] <= high)).all(axis=1))
