"""The masks of an image: its true classes to `truth`, and spoiled ones, which pretraining may see, to `camseg`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from olivine.data.labels import IGNORED, load_class_set
from olivine.data.masks import UNKNOWN
from olivine.simulate.config import WeakLabelConfig
from olivine.simulate.results import MaskCounts
from olivine.simulate.sensors import View
from olivine.simulate.weak_labels import spoil

MASK_FOLDERS = ("truth", "camseg")
"""Folders of the two kinds of masks, below the data set's root."""


def write_masks(root: Path, name: str, view: View, config: WeakLabelConfig, rng: np.random.Generator) -> MaskCounts:
    """Write both masks of an image.

    Args:
        root: folder of the data set, its mask folders made.
        name: path of the masks below those folders.
        view: the image.
        config: how weak labels err.
        rng: source of the errors.

    Returns:
        What the masks hold.
    """
    classes = load_class_set("nuscenes")
    learned = classes.learn(view.category)
    truth = np.where(learned == IGNORED, UNKNOWN, learned - 1).astype(np.uint8)
    weak = spoil(truth, view.owner, classes.names, config, rng)
    for folder, mask in zip(MASK_FOLDERS, (truth, weak), strict=True):
        Image.fromarray(mask).save(root / folder / name, compress_level=3)
    shown = truth != UNKNOWN
    right = shown & (weak == truth)
    return MaskCounts(
        _pixels(truth, classes.count),
        _pixels(weak, classes.count),
        int((shown & (weak != UNKNOWN)).sum()),
        int(right.sum()),
    )


def no_masks() -> MaskCounts:
    """The counts before any image."""
    empty = np.zeros(load_class_set("nuscenes").count + 1, np.int64)
    return MaskCounts(empty, empty, 0, 0)


def _pixels(mask: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """[C + 1] pixels of each class, then unknown ones."""
    pixels = np.bincount(mask.ravel(), minlength=UNKNOWN + 1)
    return np.append(pixels[:classes], pixels[UNKNOWN])
