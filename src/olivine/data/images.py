"""Decoding camera images, and the PNGs of masks and superpixels: the one place that asks Pillow for a user's pixels.

Camera images have 8 bits a sample, or fewer, which fill their range. Deeper ones (16-bit, 12 bits in 16-bit samples,
float) are refused: neither the file nor its name says which range the camera fills, and a guess turns images white or
black. So are images whose pixels have no one colour (transparent ones, CMYK) or that are to be turned (EXIF): a
calibration belongs to the pixels as they lie in the file.

Masks and superpixels are PNGs by content, whatever their name, and their samples are taken as they are.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from olivine.errors import UserError
from olivine.reading import IMAGE_BYTES, opened, read_file

MAX_PIXELS = 80_000_000
"""No camera image or mask has more pixels; a file of a few kilobytes may claim billions."""

_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "PPM", "MPO")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr")
_ORIENTATION = 274
_BITS_PER_SAMPLE = 258
_PNG = b"\x89PNG\r\n\x1a\n"
_OTHERS = {b"\xff\xd8": "JPEG", b"GIF8": "GIF", b"II*": "TIFF", b"MM": "TIFF", b"RIFF": "WebP", b"BM": "BMP"}
_PNG_HEAD = struct.Struct(">8x4x4sIIBB")
_GREY, _PALETTE = 0, 3
_CHUNK_FRAME_BYTES = 12
_SUBJECTS = {"classes": ("this mask", "mask is"), "segments": ("these superpixels", "superpixels are")}
_ITS = {"classes": "its", "segments": "their"}

Kind = Literal["classes", "segments"]
_DAMAGED = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError,
    struct.error, zlib.error,
)  # fmt: skip
"""What Pillow lets out of damaged files."""

# The number of pixels is checked here, and refused; Pillow's warning would only come on top.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_image(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode a camera image.

    Args:
        path: JPEG, PNG, TIFF, BMP, WebP or PNM.
        size: (width, height) that the dataset states, pixels.

    Returns:
        [H, W, 3] uint8 RGB.

    Raises:
        UserError: as of `decode_image`, or the file is missing or no regular file.
    """
    return decode_image(read_file(path, "this image", limit=IMAGE_BYTES), path, size)


def decode_image(content: bytes, path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """`read_image` of a file's content, which `path` names in messages.

    Raises:
        UserError: damaged, not of the stated size, too large, of more than 8 bits a sample, transparent, CMYK, of
            several pictures, or to be turned.
    """
    with _decoding(path, "this image"), Image.open(io.BytesIO(content), formats=_FORMATS) as file:
        _check_pixels(path, file.size)
        _check_kind(path, file, content)
        if file.size != size:
            raise UserError(f"{path}: image is {file.size[0]}×{file.size[1]} but the dataset says {size[0]}×{size[1]}")
        if file.has_transparency_data:
            lowest, _ = file.convert("RGBA").getchannel("A").getextrema()
            if lowest != 255:
                raise UserError(f"{path}: has transparent pixels, which have no colour; save the image without alpha")
        return np.asarray(file.convert("RGB"))


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of a camera image, from its header.

    Raises:
        UserError: missing, no regular file, no image, or too large.
    """
    with (
        opened(path, "this image", limit=IMAGE_BYTES) as content,
        _decoding(path, "this image"),
        Image.open(content, formats=_FORMATS) as file,
    ):
        _check_pixels(path, file.size)
        width, height = file.size
        return width, height


def content_size(content: bytes, path: Path) -> tuple[int, int]:
    """(width, height) of a camera image, from its head, which is checked as by `decode_image`.

    Args:
        content: of a file.
        path: names it in messages.

    Raises:
        UserError: no image, too large, of more than 8 bits a sample, CMYK, of several pictures, or to be turned.
    """
    with _decoding(path, "this image"), Image.open(io.BytesIO(content), formats=_FORMATS) as file:
        _check_pixels(path, file.size)
        _check_kind(path, file, content)
        width, height = file.size
        return width, height


def read_index_png(path: Path, size: tuple[int, int], kind: Kind) -> NDArray[np.generic]:
    """Read a PNG whose samples are numbers of classes or segments, exactly as they are stored.

    The checksums of the file are verified, since a flipped bit would give other numbers.

    Args:
        path: the file, a PNG by its content.
        size: (width, height) of the image it belongs to.
        kind: `classes` takes grey samples of 8 bits, and palettes, whose indices count whatever their colours;
            `segments` grey samples of 16 bits.

    Returns:
        [H, W] uint8, or for segments an integer array.

    Raises:
        UserError: missing, no regular file, no PNG, damaged, of another kind of samples, or not of the image's size.
    """
    it, are = _SUBJECTS[kind]
    content = read_file(path, it, limit=IMAGE_BYTES)
    if not content.startswith(_PNG):
        named = next((name for start, name in _OTHERS.items() if content.startswith(start)), "another kind")
        raise UserError(f"{path}: cannot read {it} (a PNG keeps every number; by its content, this file is {named})")
    _check_png(path, it, content)
    _, width, height, bits, colour = _PNG_HEAD.unpack_from(content)
    with _decoding(path, it), Image.open(io.BytesIO(content), formats=["PNG"]) as file:
        _check_samples(path, kind, bits, colour, file)
        if (width, height) != size:
            raise UserError(f"{path}: {are} {width}×{height} but {_ITS[kind]} image is {size[0]}×{size[1]}")
        _check_pixels(path, file.size)
        return np.asarray(file)


def _check_samples(path: Path, kind: Kind, bits: int, colour: int, file: Image.Image) -> None:
    """Refuse a PNG whose samples are not the numbers that are due."""
    if getattr(file, "n_frames", 1) > 1:
        raise UserError(f"{path}: {_SUBJECTS[kind][1]} one picture, this file is animated")
    if kind == "segments":
        if (bits, colour) != (16, _GREY):
            raise UserError(f"{path}: superpixels are a 16-bit single-channel PNG, this one has mode {file.mode}")
    elif colour == _GREY and bits == 16:
        raise UserError(f"{path}: a mask of classes is an 8-bit PNG, this one has 16 bits, as superpixels have")
    elif not (colour == _PALETTE or (bits, colour) == (8, _GREY)):
        found = f"mode {file.mode}" if bits == 8 else f"mode {file.mode}, grey with fewer bits: {bits}"
        raise UserError(f"{path}: a mask is an 8-bit single-channel or palette PNG, this one has {found}")


def png_text(content: bytes, key: str) -> str | None:
    """The text that a PNG holds under `key` before its pixels; None where there is none or the file is damaged."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as file:
            text = file.info.get(key)
    except _DAMAGED:
        return None
    return str(text) if isinstance(text, str) else None


@contextmanager
def _decoding(path: Path, what: str) -> Iterator[None]:
    """Turn what Pillow lets out of damaged files into one line."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{path}: cannot read {what} (it has more than {MAX_PIXELS} pixels)") from error
    except _DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: cannot read {what} ({reason})") from error


def _check_pixels(path: Path, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise UserError(f"{path}: {size[0]}×{size[1]} are more than the {MAX_PIXELS} pixels that are plausible")


def _check_kind(path: Path, file: Image.Image, content: bytes) -> None:
    """Refuse what does not become 8-bit RGB without a guess."""
    deep = _bits(file, content)
    if deep > 8 or file.mode.startswith(("I", "F")):
        raise UserError(
            f"{path}: an image of mode {file.mode} with more than 8 bits a sample, of which the file does not say how "
            "many the camera uses; scale it by the range that the camera really uses and save it with 8 bits"
        )
    if file.mode not in _MODES:
        raise UserError(f"{path}: an image of mode {file.mode} is none of a camera; convert it to RGB or grey")
    if getattr(file, "n_frames", 1) > 1 and file.format != "MPO":
        raise UserError(f"{path}: holds {getattr(file, 'n_frames', 1)} pictures; keep one picture in a file")
    turned = file.getexif().get(_ORIENTATION, 1)
    if turned not in (0, 1):
        raise UserError(
            f"{path}: is to be turned before it is shown (EXIF orientation {turned}), while its calibration may belong "
            "to the pixels as they lie in the file; turn the pixels or remove the tag"
        )


def _bits(file: Image.Image, content: bytes) -> int:
    """Bits of a sample where the file's format allows for more than 8; Pillow drops the lower ones without a word."""
    if content.startswith(_PNG):
        return int(_PNG_HEAD.unpack_from(content)[3])
    if file.format == "TIFF":
        bits = file.tag_v2.get(_BITS_PER_SAMPLE, 1)  # type: ignore[attr-defined]
        return int(max(bits) if isinstance(bits, tuple) else bits)
    return 8


def _check_png(path: Path, what: str, content: bytes) -> None:
    """Verify the frame and checksum of every chunk of a PNG, which Pillow does not do for pixels."""
    place = len(_PNG)
    while place + _CHUNK_FRAME_BYTES <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        end = place + 8 + length
        if end + 4 > len(content):
            break
        kind = content[place + 4 : place + 8]
        if zlib.crc32(content[place + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            raise UserError(f"{path}: cannot read {what} (damaged: a checksum of the PNG is wrong)")
        if place == len(_PNG) and (kind != b"IHDR" or length < 13):
            break
        if kind == b"IEND":
            return
        place = end + 4
    raise UserError(f"{path}: cannot read {what} (truncated: the PNG does not come to its end)")
