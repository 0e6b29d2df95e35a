"""The range of intensities of scans and logs, whose files do not say it: measured over a few of their clouds."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from olivine.errors import UserError
from olivine.inference import Model
from olivine.scans import IntensityRange

LOOKED_AT = 5
"""Clouds that are looked at."""

_log = logging.getLogger(__name__)


def find_top(clouds: Iterable[tuple[NDArray[np.float32] | None, str | None]], model: Model, source: str) -> float:
    """The top of the range that a source's intensities have.

    Args:
        clouds: of some of its clouds the intensities of the returns, and their numpy type where it is known.
        model: the network; where it sees no intensities, none are looked at.
        source: for messages.

    Returns:
        What the values leave no doubt of, else the top that the network was trained on, where no value exceeds it.

    Raises:
        UserError: the values fit neither.
    """
    recorded = model.about.get("intensity_max")
    if not model.sees_intensity:
        return float(recorded or 1.0)
    measured = IntensityRange()
    for values, kind in clouds:
        if values is not None:
            measured.add_values(values, kind)
    if not measured.count:
        return float(recorded or 1.0)
    guess = measured.guess()
    if guess.sure:
        _log.info("intensities taken for 0…%g (%s); intensity_max says another", guess.top, guess.why)
        return guess.top
    if recorded is None or measured.max > recorded:
        raise UserError(f"{source}: the range of its intensities is not clear ({guess.why}); say it by intensity_max")
    _log.info("intensities taken for 0…%g, as in training (%s); intensity_max says another", recorded, guess.why)
    return float(recorded)
