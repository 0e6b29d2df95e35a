"""What one scene of a simulated world contributes to the whole: counts for the manifests and the summary, and rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = dict[str, Any]
Tables = dict[str, list[Row]]


@dataclass(frozen=True)
class MaskCounts:
    """What the masks of some images hold, C classes.

    Attributes:
        true_pixels: [C + 1] int64 pixels of each class, then those that show none.
        weak_pixels: [C + 1] int64 pixels of each weak label, then those without one.
        labelled: how many of the pixels that show a class have a weak label.
        correct: how many of them have the right one.
    """

    true_pixels: NDArray[np.int64]
    weak_pixels: NDArray[np.int64]
    labelled: int
    correct: int

    def __add__(self, other: MaskCounts) -> MaskCounts:
        """Both together."""
        return MaskCounts(
            self.true_pixels + other.true_pixels,
            self.weak_pixels + other.weak_pixels,
            self.labelled + other.labelled,
            self.correct + other.correct,
        )


@dataclass(frozen=True)
class SceneResult:
    """What one scene contributes.

    Attributes:
        name: of the scene.
        points: [C + 1] int64 LiDAR returns per class, 0 = none.
        masks: what its masks hold.
        tables: rows for the files that describe the whole data set, by a name that its layout knows.
    """

    name: str
    points: NDArray[np.int64]
    masks: MaskCounts
    tables: Tables
