"""Weak-label masks on disk: one PNG per camera image and a manifest that says what the numbers mean.

A mask folder holds `<camera>/<image stem>.png` (or the dataset's own sub-folders) and `manifest.json` with `classes`
(names in index order), `unknown` (the pixel value that means "nobody knows") and `labeller` (who made them). The
number of classes is always read from the manifest; a mask folder without one is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from olivine.errors import UserError

UNKNOWN = 255


class _ManifestFile(msgspec.Struct):
    """The keys of `manifest.json` that are read; others (thresholds, counts, notes) are provenance for people."""

    classes: list[str]
    unknown: int
    labeller: str


@dataclass(frozen=True)
class MaskManifest:
    """What the masks of a folder mean.

    Attributes:
        classes: class names in index order.
        labeller: who or what made the masks.
        path: the manifest file.
    """

    classes: tuple[str, ...]
    labeller: str
    path: Path


def read_manifest(folder: Path) -> MaskManifest:
    """Read `folder/manifest.json`.

    Raises:
        UserError: no manifest, not valid, more than 255 classes, or an `unknown` value other than 255.
    """
    path = folder / "manifest.json"
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_ManifestFile)
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: masks need a manifest that names their classes; write "
            '{"classes": [...], "unknown": 255, "labeller": "..."}'
        ) from error
    except (OSError, msgspec.DecodeError) as error:
        raise UserError(f"{path}: cannot read this mask manifest ({error})") from error
    if content.unknown != UNKNOWN:
        raise UserError(f"{path}: unknown must be {UNKNOWN}, not {content.unknown}")
    if not 0 < len(content.classes) <= UNKNOWN:
        raise UserError(f"{path}: classes must name 1 to {UNKNOWN} classes, not {len(content.classes)}")
    return MaskManifest(tuple(content.classes), content.labeller, path)


def read_mask(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Read one mask.

    Args:
        path: 8-bit single-channel (or palette) PNG.
        size: (width, height) of the image it belongs to.

    Returns:
        [H, W] uint8 class index, 255 unknown.

    Raises:
        UserError: missing, unreadable, more than one channel, or not of the image's size.
    """
    try:
        with Image.open(path) as file:
            if file.mode not in ("L", "P"):
                raise UserError(f"{path}: a mask is an 8-bit single-channel PNG, this one has mode {file.mode}")
            mask = np.asarray(file)
    except (OSError, SyntaxError) as error:
        raise UserError(f"{path}: cannot read this mask ({error})") from error
    if mask.shape != (size[1], size[0]):
        raise UserError(f"{path}: mask is {mask.shape[1]}×{mask.shape[0]} but its image is {size[0]}×{size[1]}")
    return mask
