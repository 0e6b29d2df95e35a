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

from olivine.data.images import read_index_png
from olivine.errors import UserError
from olivine.reading import TEXT_BYTES, read_file

_NO_MANIFEST = (
    "superpixels need the manifest that olivine label writes when all images are done; "
    "run e.g. `olivine label label_slic data.root=... out=...` to its end"
)


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
        content = read_file(path, "this manifest", limit=TEXT_BYTES, missing=_NO_MANIFEST)
        return msgspec.json.decode(content, type=_ManifestFile).labeller
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: not the manifest of a folder of superpixels ({error})") from error


def read_segments(path: Path, size: tuple[int, int]) -> NDArray[np.int32]:
    """Read the superpixels of one image.

    Args:
        path: 16-bit single-channel PNG.
        size: (width, height) of the image it belongs to.

    Returns:
        [H, W] int32 number of the segment each pixel lies in, from 0.

    Raises:
        UserError: missing, damaged, no 16-bit PNG by its content, or not of the image's size.
    """
    return read_index_png(path, size, "segments").astype(np.int32)
