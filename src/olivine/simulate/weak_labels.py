"""Weak labels: the true class of every pixel, spoiled so that it errs as a vision foundation model does.

Such models draw whole segments with soft boundaries, take a segment for something similar, overlook small things and
leave parts of the image unlabelled. All of that is drawn here from a generator; nothing is learned. The sky has no
class and stays unknown.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from olivine.data.masks import UNKNOWN
from olivine.simulate.config import WeakLabelConfig
from olivine.simulate.taxonomy import CONFUSED_WITH

U8 = NDArray[np.uint8]
_JITTER_CELL_PX = 8
_BLOB_CELL_PX = 24
_SURROUND_PX = 4


def spoil(
    truth: U8, segment: NDArray[np.int32], classes: tuple[str, ...], config: WeakLabelConfig, rng: np.random.Generator
) -> U8:
    """Weak labels of one image.

    Args:
        truth: [H, W] class index, 255 where there is none.
        segment: [H, W] number of the thing each pixel shows; one class each.
        classes: class names in index order.
        config: how much of each kind of error.
        rng: source of the errors.

    Returns:
        [H, W] class index, 255 unknown.
    """
    labels = _mistake_segments(truth, segment, classes, config, rng)
    labels = _coarsen(_jitter(labels, config.jitter_px, rng), config.block_px)
    if config.unknown > 0:
        blobs = _smooth_field(truth.shape, _BLOB_CELL_PX, rng)
        labels[blobs > np.quantile(blobs, 1 - config.unknown)] = UNKNOWN
    return labels


def _mistake_segments(
    truth: U8, segment: NDArray[np.int32], classes: tuple[str, ...], config: WeakLabelConfig, rng: np.random.Generator
) -> U8:
    """Give whole segments another class, leave them out, or let their surroundings swallow them."""
    _, first, inverse, area = np.unique(segment, return_index=True, return_inverse=True, return_counts=True)
    new = truth.ravel()[first].copy()
    inverse = inverse.reshape(truth.shape)
    missed = rng.random(len(new)) < np.where(area < config.small_px, config.missed_small, config.missed)
    swallowed = missed & (rng.random(len(new)) < 0.5)
    confused = rng.random(len(new)) < config.confusion
    choice = rng.random(len(new))
    for index in np.flatnonzero((missed | confused) & (new != UNKNOWN)):
        others = CONFUSED_WITH.get(classes[new[index]], ())
        if missed[index]:
            new[index] = _surroundings(truth, inverse == index) if swallowed[index] else UNKNOWN
        elif others:
            new[index] = classes.index(others[int(choice[index] * len(others))])
    return np.asarray(new[inverse])


def _surroundings(truth: U8, inside: NDArray[np.bool_]) -> int:
    """The commonest label in the frame around a segment."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    window = (
        slice(max(rows[0] - _SURROUND_PX, 0), rows[-1] + _SURROUND_PX + 1),
        slice(max(columns[0] - _SURROUND_PX, 0), columns[-1] + _SURROUND_PX + 1),
    )
    around = truth[window][~inside[window]]
    return int(np.bincount(around).argmax()) if len(around) else UNKNOWN


def _jitter(labels: U8, strength_px: float, rng: np.random.Generator) -> U8:
    """Read every pixel a little beside itself, smoothly varying over the image, so that boundaries wander."""
    height, width = labels.shape
    rows = np.arange(height)[:, None] + strength_px * _smooth_field(labels.shape, _JITTER_CELL_PX, rng)
    columns = np.arange(width)[None] + strength_px * _smooth_field(labels.shape, _JITTER_CELL_PX, rng)
    return labels[
        np.clip(np.rint(rows).astype(np.int64), 0, height - 1), np.clip(np.rint(columns).astype(np.int64), 0, width - 1)
    ]


def _coarsen(labels: U8, block_px: int) -> U8:
    """One label per block: that of the pixel at its centre."""
    height, width = labels.shape
    rows = np.minimum(np.arange(height) // block_px * block_px + block_px // 2, height - 1)
    columns = np.minimum(np.arange(width) // block_px * block_px + block_px // 2, width - 1)
    return labels[np.ix_(rows, columns)]


def _smooth_field(shape: tuple[int, ...], cell_px: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A random field of about unit deviation that varies over `cell_px` pixels."""
    coarse = rng.normal(size=(shape[0] // cell_px + 2, shape[1] // cell_px + 2)).astype(np.float32)
    smooth = Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(smooth, np.float32)
