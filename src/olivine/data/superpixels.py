"""Superpixels on disk: one 16-bit PNG per camera image, laid out as weak-label masks are, and a manifest.

`olivine label` writes them (SLIC, or a network's segments). Segments are numbered from 0 in each image and mean
nothing beyond their image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from olivine.data.images import UNREADABLE
from olivine.data.masks import check_lossless
from olivine.errors import UserError


class _ManifestFile(msgspec.Struct):
    """The keys of `manifest.json` that are read."""

    kind: Literal["segments"]
    labeller: str


def read_superpixel_manifest(folder: Path) -> str:
    """Who made the superpixels of a folder, from `folder/manifest.json`.

    Raises:
        UserError: no manifest, not valid, or one of masks that hold classes.
    """
    path = folder / "manifest.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=_ManifestFile).labeller
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: superpixels need the manifest that olivine label writes when all images are done; "
            "run e.g. `olivine label label_slic data.root=... out=...` to its end"
        ) from error
    except (OSError, msgspec.DecodeError) as error:
        raise UserError(f"{path}: not the manifest of a folder of superpixels ({error})") from error


def read_segments(path: Path, size: tuple[int, int]) -> NDArray[np.int32]:
    """Read the superpixels of one image.

    Args:
        path: 16-bit single-channel PNG.
        size: (width, height) of the image it belongs to.

    Returns:
        [H, W] int32 number of the segment each pixel lies in, from 0.

    Raises:
        UserError: missing, unreadable, not 16-bit, or not of the image's size.
    """
    try:
        with Image.open(path) as file:
            check_lossless(file, path, "a file of superpixels")
            if file.mode not in ("I;16", "I"):
                raise UserError(f"{path}: superpixels are a 16-bit single-channel PNG, this one has mode {file.mode}")
            segments = np.asarray(file).astype(np.int32)
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot read these superpixels ({error})") from error
    if segments.shape != (size[1], size[0]):
        raise UserError(
            f"{path}: superpixels are {segments.shape[1]}×{segments.shape[0]} but their image is {size[0]}×{size[1]}"
        )
    return segments
