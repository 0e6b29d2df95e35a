"""What doubts labels in tests: frames with few points, and a network that is of another mind in a part of each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from olivine.explorer.mistakes import candidates
from olivine.explorer.subject.networks import Network

AHEAD_M = 5.0


def doubt(patch):
    """Networks know the labels, but farther ahead than `AHEAD_M` they see the class after the labelled one.

    Things may be of two points, which may be metres apart.
    """
    honest = Network.answer

    def answer(self, frame):
        said, count = honest(self, frame), len(frame.points_lidar_m)
        classes = said.classes.count
        if frame.labels is None:
            return said
        labels = np.maximum(frame.labels.astype(int), 1)
        seen = np.where(frame.points_lidar_m[:, 0] > AHEAD_M, labels % classes, labels - 1)
        probabilities = np.full((count, classes), 0.2 / (classes - 1), np.float32)
        probabilities[np.arange(count), seen] = 0.8
        return replace(said, probabilities=probabilities * said.inside[:, None])

    patch.setattr(Network, "answer", answer)
    patch.setattr(candidates, "CELL_M", 5.0)
    patch.setattr(candidates, "LEAST", 2)
