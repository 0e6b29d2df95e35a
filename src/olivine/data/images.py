"""Camera images: the one place where they are decoded, for training, labelling, checking and pictures alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from olivine.errors import UserError

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow lets out of damaged files, of text chunks that unpack to megabytes, and of far too many pixels."""

_DEEP = ("I", "F")
"""First letters of the modes whose numbers do not fit 8 bits."""


def read_image(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode a camera image.

    Images with more than 8 bits a sample in one channel are refused: the file does not say whether 10, 12 or 16 of them
    are used, and a guess would turn the image black or white. (16-bit colour PNGs are decoded by their high bytes.)

    Args:
        path: the file, in any format that Pillow knows.
        size: (width, height) in pixels, as the dataset states it.

    Returns:
        [H, W, 3] uint8 RGB.

    Raises:
        UserError: the file is missing, unreadable, deeper than 8 bits, or not of the stated size.
    """
    try:
        with Image.open(path) as file:
            if file.mode.startswith(_DEEP):
                raise UserError(
                    f"{path}: an image of mode {file.mode}, with more than 8 bits a pixel; scale it by the range that "
                    "the camera really uses and save it with 8 bits"
                )
            if file.size != size:
                raise UserError(f"{path}: image is {file.width}×{file.height} but the dataset says {size[0]}×{size[1]}")
            return np.asarray(file.convert("RGB"))
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot read this image ({error})") from error
