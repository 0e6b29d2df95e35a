"""The objects of many frames in one table, so that they are compared without a loop over frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olivine.data.kitti_labels import DONT_CARE, ObjectLabels

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class ObjectTable:
    """The objects of F frames, frame by frame and in file order.

    Attributes:
        start: [F + 1] int64, the first row of each frame, and the number of rows.
        kind: [M] type in lower case; the benchmark does not tell `car` from `Car`.
        truncation: [M] as in `ObjectLabels`, like all below.
        occlusion: [M].
        alpha_rad: [M].
        image_box: [M, 4].
        boxes: [M, 7] x, y, z of the centre, dx along the heading, dy, dz, yaw in a frame with x forward, y left, z up.
        score: [M]; empty of labels.
    """

    start: Rows
    kind: NDArray[np.str_]
    truncation: NDArray[np.float64]
    occlusion: NDArray[np.int64]
    alpha_rad: NDArray[np.float64]
    image_box: NDArray[np.float64]
    boxes: NDArray[np.float64]
    score: NDArray[np.float64]

    @classmethod
    def of(cls, frames: Sequence[ObjectLabels]) -> ObjectTable:
        """The table of some frames."""
        empty = ObjectLabels.empty()
        together = [*frames, empty]
        scores = [frame.score for frame in frames if frame.score is not None]
        return cls(
            start=np.concatenate([[0], np.cumsum([len(frame) for frame in frames], dtype=np.int64)]).astype(np.int64),
            kind=np.array([name.lower() for frame in frames for name in frame.names], np.str_),
            truncation=np.concatenate([frame.truncation for frame in together]),
            occlusion=np.concatenate([frame.occlusion for frame in together]),
            alpha_rad=np.concatenate([frame.alpha_rad for frame in together]),
            image_box=np.concatenate([frame.image_box for frame in together]),
            boxes=np.concatenate([_boxes(frame) for frame in together]),
            score=np.concatenate([*scores, np.empty(0)]),
        )

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def frame(self) -> Rows:
        """[M] int64, the frame of each object."""
        return np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))

    @property
    def height_px(self) -> NDArray[np.float64]:
        """[M] height in the image."""
        return np.abs(self.image_box[:, 3] - self.image_box[:, 1])

    @property
    def is_dont_care(self) -> NDArray[np.bool_]:
        """[M] bool, areas without labels."""
        return np.asarray(self.kind == DONT_CARE.lower())

    @property
    def has_box(self) -> NDArray[np.bool_]:
        """[M] bool, which have a box in space."""
        return np.asarray((self.boxes[:, 3:6] >= 0).all(1))


def _boxes(objects: ObjectLabels) -> NDArray[np.float64]:
    """Boxes [M, 7] about their centres, in camera 0's place with x forward, y left, z up.

    The axes of KITTI's camera are renamed without the few millimetres and tenths of a degree to the LiDAR: overlaps do
    not depend on where from they are looked at, and KITTI takes them along the camera's own axes.
    """
    x, y, z = objects.location_m.T
    height, width, length = objects.size_hwl_m.T
    yaw_rad = -objects.rotation_y_rad - np.pi / 2
    return np.stack([z, -x, height / 2 - y, length, width, height, yaw_rad], axis=1)
