"""Whether a scan's intensities are in the range of its format: what check, training and prediction ask alike.

A network answers to intensities of another range too, only worse, and nothing in its answer shows it.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from olivine.data.frame import Frame
from olivine.errors import OlivineWarning, UserError


def range_of(frame: Frame) -> float | None:
    """Top of the range of a frame's intensities, as weights record it; None where it has none."""
    return None if frame.intensity is None else frame.intensity_max


def range_text(top: float | None) -> str:
    """A range for people, after "intensities of"."""
    return "no range, as there are none" if top is None else f"0…{top:g}"


def check_intensity(frame: Frame) -> NDArray[np.float32]:
    """Refuse a cloud without intensities, or with some outside the data's range.

    Returns:
        [N] float32, the intensities.

    Raises:
        UserError: there are none; some are below 0, above `intensity_max`, or no numbers; or `intensity_max` is no top
            of a range.
    """
    if frame.intensity is None:
        raise UserError(
            f"{_name(frame)}: its points have no intensity, and the network is to see one; leave intensity out of "
            "voxels.features (say, voxels.features=[x,y,z,range]), or use a network that was trained without"
        )
    if not frame.intensity_max > 0:
        raise UserError(f"{_name(frame)}: intensity_max is {frame.intensity_max:g}; the top of a range lies above 0")
    outside = ~((frame.intensity >= 0) & (frame.intensity <= frame.intensity_max))
    if outside.any():
        raise UserError(
            f"{_name(frame)}: {int(outside.sum())} of {len(outside)} intensities lie outside "
            f"0…{frame.intensity_max:g}, e.g. {float(frame.intensity[outside][0]):g}; scale them to that range"
        )
    return frame.intensity


def faint(frame: Frame) -> str | None:
    """What is strange about intensities that keep within 0…1 in fractions, where the format's range is far larger."""
    values, top = frame.intensity, frame.intensity_max
    if values is None or not (1 < top < np.inf and len(values)) or values.max() > 1 or not (values % 1 > 0).any():
        return None
    return f"no intensity exceeds {float(values.max()):g}, in a format of 0…{top:g}; were they scaled to 0…1?"


def warn_if_faint(frame: Frame) -> None:
    """Say so as a warning."""
    strange = faint(frame)
    if strange is not None:
        warnings.warn(f"{_name(frame)}: {strange}", OlivineWarning, stacklevel=2)


def _name(frame: Frame) -> str:
    return f"frame {frame.token}" if frame.token else "intensity"
