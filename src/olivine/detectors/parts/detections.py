"""What every detector finds in a frame."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Detections:
    """The objects found in one frame, best first. K objects.

    Attributes:
        boxes: [K, 7] float (x, y, z, dx, dy, dz, yaw) in the frame of the cloud, metres and radians, the centre at the
            geometric centre, dx along the heading; yaw counter-clockwise from +x, in no particular period.
        scores: [K] float in 0…1.
        labels: [K] int64 class 1…C, in the order of the detector's classes.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def cpu(self) -> Detections:
        """The same on the CPU."""
        return Detections(self.boxes.cpu(), self.scores.cpu(), self.labels.cpu())
