"""Pictures of a log's cameras: raw images of the usual encodings and compressed ones, as RGB.

Encodings of 8 bits a sample that say what their samples are become RGB. Others are refused by name: of 16 bits, no
message says how many the camera uses, and `8UC3` does not say which colour comes first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.data.images import MAX_PIXELS, content_size, decode_image
from olivine.errors import MissingExtraError, UserError, printable

_RGB_ORDER = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
    "8UC1": (1, (0, 0, 0)),
}
"""Samples of a pixel, and where its red, green and blue are among them."""

# OpenCV names a mosaic by its second row and column, ROS by its first.
_MOSAICS = {"bayer_rggb8": "BayerBG", "bayer_bggr8": "BayerRG", "bayer_gbrg8": "BayerGR", "bayer_grbg8": "BayerGB"}
_YUV = {"yuv422": "UYVY", "uyvy": "UYVY", "yuv422_yuy2": "YUY2", "yuyv": "YUY2"}

_JPEG_END = b"\xff\xd9"
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """A camera's picture, decoded when it is asked for.

    Attributes:
        size: (width, height), pixels.
        encoding: `rgb8`, `bayer_rggb8`, …, or `jpeg` or `png`.
        jpeg: the recorded JPEG file, where nothing but decoding it makes the picture; else None.
    """

    size: tuple[int, int]
    encoding: str
    jpeg: bytes | None = field(repr=False)
    _decode: Callable[[], NDArray[np.uint8]] = field(repr=False)

    def rgb(self) -> NDArray[np.uint8]:
        """[H, W, 3] uint8, possibly a view of the message that may not be written to.

        Raises:
            UserError: damaged.
        """
        return self._decode()


def raw_picture(message: Any, source: str) -> Picture:
    """The picture of a `sensor_msgs/Image`.

    Args:
        message: with `height`, `width`, `encoding`, `step` and `data`.
        source: named in errors.

    Raises:
        UserError: an encoding that does not become 8-bit RGB without a guess, or a size that the message does not hold.
    """
    encoding = str(message.encoding)
    samples = _samples(encoding, source)
    width, height, step = int(message.width), int(message.height), int(message.step)
    if not 0 < width * height <= MAX_PIXELS:
        raise UserError(f"{source}: an image of {width}×{height} pixels, of which up to {MAX_PIXELS} are plausible")
    if encoding in _YUV and width % 2:
        raise UserError(f"{source}: an image of {width} pixels a row, but {encoding} holds two pixels at a time")
    row = width * samples
    step = step or row
    if step < row or message.data.size < step * (height - 1) + row:
        raise UserError(
            f"{source}: claims {width}×{height} pixels of {encoding} with {step} bytes a row, but holds "
            f"{message.data.size} bytes"
        )
    pixels: NDArray[np.uint8] = np.ndarray((height, width, samples), np.uint8, message.data, strides=(step, samples, 1))
    return Picture((width, height), encoding, None, functools.partial(_rgb, pixels, encoding))


def compressed_picture(message: Any, source: str) -> Picture:
    """The picture of a `sensor_msgs/CompressedImage` that holds a JPEG or a PNG.

    Args:
        message: with `format` and `data`.
        source: named in errors.

    Raises:
        UserError: neither JPEG nor PNG by its content, damaged at its head, or larger than is plausible.
    """
    content: bytes = message.data.tobytes()
    is_jpeg = content.startswith(_JPEG)
    if not is_jpeg and not content.startswith(_PNG):
        said = printable(str(message.format)) or "nothing"
        raise UserError(f"{source}: holds neither a JPEG nor a PNG (its format says {said}); record one of these")
    path = Path(source)
    size = content_size(content, path)
    decode = functools.partial(decode_image, content, path, size)
    mosaic = _mosaic_within(str(message.format))
    if mosaic:
        return Picture(size, mosaic, None, lambda: _rgb(np.ascontiguousarray(decode()[..., :1]), mosaic))
    if is_jpeg:
        return Picture(size, "jpeg", content, functools.partial(_decoded_jpeg, content, decode))
    return Picture(size, "png", None, decode)


def _decoded_jpeg(content: bytes, decode: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """[H, W, 3] of a JPEG whose head is checked.

    OpenCV is three times as fast as Pillow here, but older ones fill up a file that breaks off with grey.
    """
    if content.rstrip(b"\0")[-2:] == _JPEG_END:
        cv2 = opencv()
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        rgb: NDArray[np.uint8] | None = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        if rgb is not None:
            return rgb
    return decode()


def _mosaic_within(form: str) -> str:
    """The Bayer encoding whose samples were compressed as if they were grey; empty where there is none.

    `image_transport` writes `ENCODING; jpeg compressed TARGET`, and leaves TARGET out where it compressed the samples
    as they were.
    """
    encoding, _, rest = form.partition(";")
    target = rest.partition("compressed")[2].strip() or encoding.strip()
    return target if target in _MOSAICS else ""


def _samples(encoding: str, source: str) -> int:
    """Bytes of a pixel."""
    if encoding in _RGB_ORDER:
        return _RGB_ORDER[encoding][0]
    if encoding in _MOSAICS:
        return 1
    if encoding in _YUV:
        return 2
    known = ", ".join(name for group in (_RGB_ORDER, _MOSAICS, _YUV) for name in group)
    raise UserError(
        f"{source}: encoding {printable(encoding) or '(none)'} does not become 8-bit RGB without a guess; "
        f"publish one of {known}"
    )


def _rgb(pixels: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    """[H, W, 3] of samples [H, W, C]."""
    if encoding == "rgb8":
        return pixels
    cv2 = opencv()
    if encoding in _RGB_ORDER:
        samples, order = _RGB_ORDER[encoding]
        rgb = np.empty((*pixels.shape[:2], 3), np.uint8)
        pairs = [number for place, sample in enumerate(order) for number in (sample, place)]
        cv2.mixChannels([np.ascontiguousarray(pixels).reshape(*pixels.shape[:2], samples)], [rgb], pairs)
        return rgb
    code = f"COLOR_{_MOSAICS[encoding]}2RGB" if encoding in _MOSAICS else f"COLOR_YUV2RGB_{_YUV[encoding]}"
    converted: NDArray[np.uint8] = cv2.cvtColor(np.ascontiguousarray(pixels), getattr(cv2, code))
    return converted


def opencv() -> ModuleType:
    """The library `cv2`.

    Raises:
        MissingExtraError: not installed.
    """
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise MissingExtraError("opencv-python-headless", "logs") from error
    return cv2
