"""Judges the calibration of a camera by how the edges of clouds meet those of its images; no network, no training.

The verdict is `fine`, `off` with what would mend it, or `cannot tell` with the reason: too few edges, several places as
good as each other, or an optimum that is too uncertain. What the thresholds are good for is measured by
`benchmarks/calibration.py` (docs/results/calibration.md). `olivine.checking.cameras` asks of every camera of a dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from olivine.checking.alignment import (
    APART_DEG,
    LEAST_SPEED_MPS,
    Alignment,
    Peak,
    View,
    best_delay,
    best_rotations,
    covariance_deg2,
    refine,
)

FRAMES = 8
"""How many frames of a camera are looked at, spread evenly."""

TOLERANCE_DEG = 0.35
"""Rotations up to this are not called off: published calibrations are no better than this at places."""

FLOOR_DEG = np.array([0.15, 0.15, 0.3])
"""What every optimum is uncertain by in pitch, yaw and roll, whatever tiles say: edges of clouds stand a little beside
those of images."""

FLOOR_OF_SPACING = 0.3
"""Pitch is uncertain by this share of the angle between beams too: what ends between two beams ends anywhere there."""

SURE = 0.95
"""A calibration is called off from this confidence on."""

FEWEST_EDGES = 300
LEAST_CONTRAST = 3.0
"""How far the best score stands above the scores elsewhere, in their standard deviations."""

LEAST_MARGIN = 1.0
"""How far it stands above the next best elsewhere, in the same; and, for a roll to be, above the best without one."""

MOST_UNCERTAIN_DEG = 0.6
LEAST_DELAY_S, DELAY_FLOOR_S, DELAY_FLOOR_M = 0.03, 0.01, 0.08
"""Delays up to the first are not called off; every delay is uncertain by the second, and by how long the vehicle takes
for the third."""

LONGEST_S = 2.5
"""Frames farther apart do not say how the vehicle moves at one of them."""

Word = Literal["fine", "off", "cannot tell"]


@dataclass(frozen=True)
class Findings:
    """What the score of one camera says.

    Attributes:
        edges: number of edges looked at.
        rotation_deg: [3] the best rotation: pitch, yaw, roll in the camera frame, degrees.
        covariance_deg2: [3, 3] of it.
        before: the score as things are.
        after: the score at the best rotation.
        chance: mean and standard deviation of the score elsewhere.
        next_best: the best score of a rotation elsewhere; −infinity where there is none.
        delay: the best time that images are late without a rotation; None where the motion is unknown or too slow.
        speed_mps: how fast the vehicle moves.
    """

    edges: int
    rotation_deg: NDArray[np.float64]
    covariance_deg2: NDArray[np.float64]
    before: float
    after: float
    chance: tuple[float, float] = (0.0, 1.0)
    next_best: float = -np.inf
    delay: Peak | None = None
    speed_mps: float = 0.0

    @property
    def contrast(self) -> float:
        """The best score above the mean of scores elsewhere, in their standard deviations."""
        mean, deviation = self.chance
        return (self.best - mean) / deviation

    @property
    def margin(self) -> float:
        """The best score above the next best elsewhere, in the same; infinite without another."""
        return (self.best - self.next_best) / self.chance[1]

    @property
    def best(self) -> float:
        """The best score, of a rotation or a delay."""
        return self.delay.score if self.delay is not None and self.late_s else self.after

    @property
    def angle_deg(self) -> float:
        """Angle of the best rotation."""
        return float(np.linalg.norm(self.rotation_deg))

    @property
    def uncertain_deg(self) -> float:
        """Standard deviation of the best rotation along itself; where it is 0, that of pitch or yaw, the larger."""
        known = self.covariance_deg2
        if not self.angle_deg:
            return float(np.sqrt(known.diagonal()[:2].max()))
        way = self.rotation_deg / self.angle_deg
        return float(np.sqrt(way @ known @ way))

    @property
    def confidence(self) -> float:
        """Probability that it is off by more than `TOLERANCE_DEG` or `LEAST_DELAY_S`, 0…1; a half without a verdict."""
        return float(ndtr(self.evidence))

    @property
    def evidence(self) -> float:
        """The same as a number of standard deviations, below 0 where it is within the tolerance; 0 for no verdict."""
        if self.doubt is not None:
            return 0.0
        if self.late_s:
            uncertain_s = max(DELAY_FLOOR_S, DELAY_FLOOR_M / self.speed_mps)
            return (abs(self.late_s) - LEAST_DELAY_S) / uncertain_s
        return (self.angle_deg - TOLERANCE_DEG) / self.uncertain_deg

    @property
    def late_s(self) -> float:
        """How late the images are, where that explains more than a rotation does; 0 where it does not."""
        if self.delay is None or self.delay.score <= self.after or abs(self.delay.late_s) < LEAST_DELAY_S:
            return 0.0
        return self.delay.late_s

    @property
    def doubt(self) -> str | None:
        """Why nothing can be told, or None."""
        if self.edges < FEWEST_EDGES:
            return f"only {self.edges} edges in view"
        if self.contrast < LEAST_CONTRAST:
            return "no rotation within 3° makes edges meet better than chance"
        if self.margin < LEAST_MARGIN:
            return "several rotations are about as good as each other"
        if self.late_s:
            return None
        pitch, yaw, _ = np.sqrt(self.covariance_deg2.diagonal())
        if max(pitch, yaw) > MOST_UNCERTAIN_DEG:
            return f"rotations that differ by {max(pitch, yaw):.1f}° are as good as each other"
        return None

    @property
    def word(self) -> Word:
        """The verdict."""
        if self.doubt is not None:
            return "cannot tell"
        return "off" if self.confidence >= SURE else "fine"


def find(views: Sequence[View]) -> Findings:
    """Look for the best rotation of a camera, and the best delay where the vehicle's motion is known.

    Args:
        views: images of one camera with their clouds.
    """
    alignment = Alignment(views)
    if alignment.edges < FEWEST_EDGES:
        return Findings(alignment.edges, np.zeros(3), np.eye(3), 0.0, 0.0)
    peaks, around = best_rotations(alignment)
    best, noise = peaks[0], max(float(around.std()), 1e-9)
    covariance = covariance_deg2(alignment, best) + np.diag(floor_deg(views) ** 2)
    others = [p for p in peaks if np.abs(p.rotation_deg - best.rotation_deg)[:2].max() > APART_DEG]
    level = refine(alignment, Peak(best.rotation_deg * [1, 1, 0], 0.0, 0.0), axes=(0, 1))
    sure = abs(best.rotation_deg[2]) > 2 * np.sqrt(covariance[2, 2])
    if not sure or best.score - level.score < LEAST_MARGIN * noise:
        best = level
    delay = best_delay(alignment) if alignment.speed_mps > LEAST_SPEED_MPS else None
    return Findings(
        alignment.edges,
        best.rotation_deg,
        covariance,
        alignment.score(np.zeros(3)),
        best.score,
        (float(around.mean()), noise),
        max((other.score for other in others), default=-np.inf),
        delay,
        alignment.speed_mps,
    )


def floor_deg(views: Sequence[View]) -> NDArray[np.float64]:
    """[3] what pitch, yaw and roll of these views cannot be known better than, degrees."""
    spacing_deg = float(np.median([view.edges.spacing_deg for view in views]))
    return np.asarray(np.maximum(FLOOR_DEG, [FLOOR_OF_SPACING * spacing_deg, 0, 0]))
