"""Which mask belongs to which image: one image, one mask, by the image's path below its channel.

`samples/CAM_FRONT/run1/000.jpg` has the mask `CAM_FRONT/run1/000.png`. An image that does not lie in
`samples/<channel>` keeps its whole path below the channel. Two images whose masks would be one file, also on a file
system that does not tell capitals from small letters, are refused.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from olivine.errors import UserError

_ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".pnm")


def mask_name(channel: str, image: str) -> str:
    """Path of an image's mask below the folder of masks.

    Args:
        channel: of the camera, e.g. `"CAM_FRONT"`.
        image: path of the image below the dataset's root.
    """
    path = PurePosixPath(image)
    parts = path.parts[2:] if path.parts[:2] == ("samples", channel) and len(path.parts) > 2 else path.parts
    # A name may hold dots without having an ending: frame.000001 and frame.000002 are two images.
    stem = path.stem if path.suffix.lower() in _ENDINGS else path.name
    return PurePosixPath(channel, *parts[:-1], f"{stem}.png").as_posix()


def flat_name(channel: str, image: str) -> str:
    """Path that a mask had before names had folders in them: the channel and the image's stem."""
    return f"{channel}/{PurePosixPath(image).stem}.png"


def check_camera_names(names: Iterable[str], source: str) -> None:
    """Refuse cameras whose names are no names of folders, which their masks are to lie in.

    Args:
        names: of the cameras.
        source: the file that gives them, for messages.

    Raises:
        UserError: a name is empty, `.` or `..`, or has a slash, a backslash or a NUL.
    """
    for name in names:
        if name in ("", ".", "..") or any(mark in name for mark in "/\\\0"):
            raise UserError(f"{source}: the camera {name!r} has no name that a folder can have; rename it")


def folded(name: str) -> str:
    """The same for all names that some file system takes for one."""
    return unicodedata.normalize("NFC", name).casefold()


def check_mask_names(channels: Sequence[str], files: NDArray[np.bytes_]) -> frozenset[str]:
    """Refuse images of which two would have one mask.

    Args:
        channels: [C] the cameras.
        files: [F, C] path of each image below the root; empty where there is none.

    Returns:
        The flat names (`flat_name`) that several images share.

    Raises:
        UserError: two images would have one mask; both are named.
    """
    flat: Counter[str] = Counter()
    for channel, column in zip(channels, files.T, strict=True):
        image_of: dict[str, str] = {}
        for image in (file.decode() for file in np.unique(column).tolist() if file):
            flat[flat_name(channel, image)] += 1
            name = mask_name(channel, image)
            other = image_of.setdefault(folded(name), image)
            if PurePosixPath(other) != PurePosixPath(image):
                raise UserError(
                    f"{image} and {other} would share the mask {name}: one image has one mask; rename one of them"
                )
    return frozenset(name for name, images in flat.items() if images > 1)
