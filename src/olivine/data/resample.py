"""Scans resampled to fewer beams, to score a network on a sensor that it did not learn from (`eval_beams`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from olivine.data.beams import beams_of
from olivine.data.frame import Frame
from olivine.data.loader import PrepareFrame
from olivine.data.prepare import Prepared
from olivine.errors import UserError

_ROUGHLY = 0.15  # how far a number of beams may be from a whole multiple, as some beams see nothing but sky


def resampled(frame: Frame, beams: int) -> Frame:
    """A frame as a sensor of fewer beams would see it: every n-th beam, from the first.

    Args:
        frame: the frame, its points in file order unless it has rings.
        beams: about how many are left; the scan has a multiple of them.

    Raises:
        UserError: nothing tells which point is of which beam, or the scan has no multiple of so many.
    """
    beam = beams_of(frame)
    count = int(beam.max(initial=-1)) + 1
    every = round(count / beams)
    if every < 1 or abs(count / beams - every) > _ROUGHLY * every:
        raise UserError(
            f"frame {frame.token!r}: eval_beams={beams}, but the scan has {count} beams, of which all, every second, "
            "every third, … can be kept; choose one of these numbers"
        )
    return frame if every == 1 else frame.take(np.flatnonzero(beam % every == 0))


@dataclass(frozen=True)
class Resample:
    """Makes samples of frames as a sensor of fewer beams would see them.

    Attributes:
        prepare: makes the samples.
        beams: as of `resampled`.
    """

    prepare: PrepareFrame
    beams: int

    def __call__(self, frame: Frame, rng: np.random.Generator, other: Frame | None = None) -> Prepared:
        """The sample of a frame; raises as `resampled` and `prepare` do."""
        return self.prepare(resampled(frame, self.beams), rng, other)
