"""Scans as other sensors would see them: with fewer beams, fewer points, without intensity.

In training it is drawn how each scan is thinned (`augment.beams`, `augment.intensity_dropout`). That is done to the
frame before anything else, so labels, pairs of points and pixels, and second views are of the points that are left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from olivine.config import Config
from olivine.data.beams import beams_of
from olivine.data.frame import Frame


class BeamDropout(Config):
    """How the scans of a training are thinned, so that a network learns less of one sensor's beams."""

    probability: float = Field(default=0.5, ge=0, le=1)
    """Probability that a scan loses whole beams."""

    every: tuple[Annotated[int, Field(ge=2, le=16)], ...] = Field(default=(2, 4), min_length=1)
    """A scan that loses beams keeps every n-th of them: n is one of these, all as likely, and it is drawn at which beam
    to begin. Of a sensor of 64 beams 2 and 4 make one of 32 and of 16."""

    drop_points: float = Field(default=0.0, ge=0, lt=1)
    """Beside that every scan loses a share of its points, uniform in 0…this; 0 loses none."""


def thinned(frame: Frame, rng: np.random.Generator, beams: BeamDropout | None, intensity_dropout: float) -> Frame:
    """Draw what a frame loses.

    Args:
        frame: the frame, its points in file order unless it has rings.
        rng: the sample's generator.
        beams: how beams and points are dropped, or None.
        intensity_dropout: probability that all intensities are 0.

    Returns:
        The frame with the points that are left, in their order; the frame as it is where nothing would be left.

    Raises:
        UserError: beams are to be dropped, and nothing tells which point is of which.
    """
    if beams is not None:
        frame = _of_points(frame, _kept(frame, rng, beams))
    if intensity_dropout > 0 and rng.random() < intensity_dropout and frame.intensity is not None:
        frame = replace(frame, intensity=np.zeros_like(frame.intensity))
    return frame


def with_rings(frame: Frame) -> Frame:
    """The frame with the beam of each point, found while its points are still in file order.

    Raises:
        UserError: nothing tells which point is of which beam.
    """
    return frame if frame.rings is not None else replace(frame, rings=beams_of(frame).astype(np.uint16))


def trained_without(intensity_dropout: float, *, reads_intensity: bool) -> list[str]:
    """Which fields of points a network can do without, as its weights record under `trained_without`.

    Args:
        intensity_dropout: the share of its training scans that had none.
        reads_intensity: whether it is shown intensities at all.

    Returns:
        `["intensity"]` or nothing.
    """
    return ["intensity"] if intensity_dropout > 0 or not reads_intensity else []


def does_without(about: Mapping[str, Any], field: str) -> bool:
    """Whether a trained network can be given points that lack a field, whose values are then 0.

    Args:
        about: what its weights say of themselves.
        field: e.g. `"intensity"`.

    Returns:
        As recorded; of weights that were written before that was, whether its voxels show it no such field.
    """
    recorded = about.get("trained_without")
    if recorded is not None:
        return field in recorded
    voxels = about.get("voxels")
    return "detector" not in about and isinstance(voxels, dict) and field not in voxels.get("features", [field])


def _kept(frame: Frame, rng: np.random.Generator, config: BeamDropout) -> NDArray[np.bool_]:
    """[N] which points are kept; the same number of draws whatever comes of them, but for those of points."""
    loses, which, first, share = rng.random(4)
    kept = np.ones(len(frame.points_lidar_m), np.bool_)
    if loses < config.probability:
        every = config.every[int(which * len(config.every))]
        kept = (beams_of(frame) + int(first * every)) % every == 0
    if config.drop_points > 0:
        kept &= rng.random(len(kept)) >= share * config.drop_points
    return kept


def _of_points(frame: Frame, kept: NDArray[np.bool_]) -> Frame:
    return frame if kept.all() or not kept.any() else frame.take(np.flatnonzero(kept))
