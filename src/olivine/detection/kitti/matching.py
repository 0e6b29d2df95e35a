"""Which detection an object is met by: KITTI's greedy choice, for many score thresholds at once.

Objects choose in file order among the detections of their frame that overlap them enough, reach the threshold and
were not chosen before. Frames do not depend on one another, so the first objects of all frames choose together, then
the second ones, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olivine.detection.kitti.frames import Rows

NONE = -1
"""In place of a detection: the object is met by none."""

_CELLS = 1 << 24
"""Object × candidate × threshold that are looked at together."""


@dataclass(frozen=True)
class Candidates:
    """What objects may choose among.

    Attributes:
        truth: [G] rows of objects with at least one candidate, ascending.
        turn: [G] whether it is the first (0), second, … of those in its frame.
        ranked: [G, K] rows of detections, the most wanted first; `NONE` behind the last.
    """

    truth: Rows
    turn: Rows
    ranked: Rows

    @classmethod
    def of(cls, truth: Rows, detection: Rows, rank: Rows, frame_of_truth: Rows) -> Candidates:
        """From pairs.

        Args:
            truth: [P] object of each pair.
            detection: [P] its detection.
            rank: [P] what an object wants most has the least.
            frame_of_truth: [M] frame of every object.
        """
        order = np.lexsort((rank, truth))
        rows, first, count = np.unique(truth[order], return_index=True, return_counts=True)
        ranked = np.full((len(rows), count.max(initial=0)), NONE)
        place = np.arange(len(order)) - np.repeat(first, count)
        ranked[np.repeat(np.arange(len(rows)), count), place] = detection[order]
        frame = frame_of_truth[rows]
        starts = np.flatnonzero(np.diff(frame, prepend=-1))
        turn = np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))
        return cls(rows, turn, ranked)


def choose(candidates: Candidates, score: NDArray[np.float64], thresholds: NDArray[np.float64]) -> Rows:
    """Let objects choose, once for every threshold.

    Args:
        candidates: of G objects.
        score: [D] of all detections.
        thresholds: [T]; a detection with a lower score is not there.

    Returns:
        [G, T] int64 row of the chosen detection, or `NONE`.
    """
    used, column = np.unique(candidates.ranked, return_inverse=True)
    ranked: Rows = column.reshape(candidates.ranked.shape)
    free = (score[used][:, None] >= thresholds) & (used != NONE)[:, None]
    chosen = np.full((len(ranked), len(thresholds)), NONE)
    for turn in range(candidates.turn.max(initial=-1) + 1):
        rows = np.flatnonzero(candidates.turn == turn)
        size = max(1, _CELLS // (ranked.shape[1] * max(1, len(thresholds))))
        for part in np.split(rows, range(size, len(rows), size)):
            open_to = free[ranked[part]]  # [R, K, T]
            best = np.take_along_axis(ranked[part], open_to.argmax(1), axis=1)  # [R, T]
            at, threshold = np.nonzero(open_to.any(1))
            taken = best[at, threshold]
            chosen[part[at], threshold] = used[taken]
            free[taken, threshold] = False
    return chosen
