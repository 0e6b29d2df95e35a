"""Weak-label masks on disk: one PNG per camera image and a manifest that says what the numbers mean.

A mask folder holds `<camera>/<image stem>.png` (or the dataset's own sub-folders) and `manifest.json` with `classes`
(names in index order), `unknown` (the pixel value that means "nobody knows") and `labeller` (who made them). The
number of classes is always read from the manifest; a mask folder without one is refused. Folders that this package
writes say more: from which settings they were made (`sealed`) and what they hold (`count_classes`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from olivine.data.images import read_index_png
from olivine.errors import UserError
from olivine.reading import TEXT_BYTES, read_file

UNKNOWN = 255

_NO_MANIFEST = (
    'masks need a manifest that names their classes; write {"classes": [...], "unknown": 255, "labeller": "..."}'
)


class _ManifestFile(msgspec.Struct):
    """The keys of `manifest.json` that are read; others (thresholds, counts, notes) are provenance for people."""

    classes: list[str]
    unknown: int
    labeller: str
    kind: Literal["classes", "segments"] = "classes"


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
        UserError: no manifest, not valid, one of superpixels, more than 255 classes, or an `unknown` value other than
            255.
    """
    path = folder / "manifest.json"
    try:
        content = msgspec.json.decode(
            read_file(path, "this mask manifest", limit=TEXT_BYTES, missing=_NO_MANIFEST), type=_ManifestFile
        )
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: cannot read this mask manifest ({error})") from error
    if content.kind == "segments":
        raise UserError(
            f"{path}: these masks hold segments, not classes; give their folder as data.superpixels, and one of "
            "classes as data.masks"
        )
    if content.unknown != UNKNOWN:
        raise UserError(f"{path}: unknown must be {UNKNOWN}, not {content.unknown}")
    if not 0 < len(content.classes) <= UNKNOWN:
        raise UserError(f"{path}: classes must name 1 to {UNKNOWN} classes, not {len(content.classes)}")
    return MaskManifest(tuple(content.classes), content.labeller, path)


def read_mask(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Read one mask.

    Args:
        path: 8-bit single-channel PNG, or a palette PNG, whose indices are taken whatever its colours.
        size: (width, height) of the image it belongs to.

    Returns:
        [H, W] uint8 class index, 255 unknown.

    Raises:
        UserError: missing, damaged, no PNG by its content, grey samples of other than 8 bits, more than one channel,
            or not of the image's size.
    """
    return np.asarray(read_index_png(path, size, "classes"), np.uint8)


def sealed(settings: dict[str, Any]) -> dict[str, Any]:
    """What decided the masks of a folder, as the head of their manifest.

    Args:
        settings: what JSON can hold.

    Returns:
        The same as plain JSON, and `settings_sha256`: their digest, by which the folder is recognised.
    """
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return {**plain, "settings_sha256": digest}


def count_classes(images: int, classes: Sequence[str], pixels: Sequence[int]) -> dict[str, Any]:
    """What masks hold, as the `counts` of their manifest.

    Args:
        images: number of masks.
        classes: [C] names in index order.
        pixels: [C + 1] pixels of each class, then of unknown ones, over all masks.
    """
    return {
        "images": images,
        "pixels": dict(zip(classes, pixels[:-1], strict=True)),
        "unknown_pixels": pixels[-1],
    }
