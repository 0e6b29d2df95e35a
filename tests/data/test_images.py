"""Camera images, masks and superpixels of kinds that Pillow reads otherwise than meant."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from olivine.data.images import read_image
from olivine.data.masks import read_mask
from olivine.data.superpixels import read_segments
from olivine.errors import UserError

SIZE = (4, 3)


def save(path, image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_images_deeper_than_8_bits_are_refused(tmp_path, mode):
    image = Image.fromarray(
        np.full(SIZE[::-1], 4000, np.uint16 if mode == "I;16" else np.int32 if mode == "I" else np.float32)
    )
    path = save(tmp_path / "deep.tiff", image)
    with pytest.raises(UserError, match=r"deep\.tiff: an image of mode .*more than 8 bits"):
        read_image(path, SIZE)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_images_of_8_bits_become_rgb(tmp_path, mode):
    path = save(tmp_path / "image.png", Image.new("RGB", SIZE, (255, 255, 255)).convert(mode))
    assert (read_image(path, SIZE) == 255).all()


def test_a_size_is_refused_before_the_pixels_are_decoded(tmp_path):
    with pytest.raises(UserError, match="image is 4×3 but the dataset says 5×3"):
        read_image(save(tmp_path / "image.png", Image.new("RGB", SIZE)), (5, 3))


def png(width, height, *chunks, bits=8):
    """A grey PNG with a header that claims a size, and chunks of one's own."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)), *chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


BOMBS = {
    "pixels": png(30_000, 30_000, (b"IDAT", zlib.compress(b""))),
    "text": png(4, 3, (b"zTXt", b"note\0\0" + zlib.compress(bytes(80 << 20))), (b"IDAT", zlib.compress(bytes(15)))),
    "truncated": png(4, 3),
}


@pytest.mark.parametrize("read", [read_image, read_mask, read_segments])
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_and_stumps_end_in_one_line(tmp_path, read, bomb):
    path = tmp_path / "bomb.png"
    path.write_bytes(BOMBS[bomb])
    with pytest.raises(UserError, match=r"bomb\.png: "):
        read(path, SIZE)


@pytest.mark.parametrize("read", [read_mask, read_segments])
def test_numbers_in_a_jpeg_are_refused_whatever_its_name(tmp_path, read):
    path = tmp_path / "mask.png"
    buffer = io.BytesIO()
    Image.new("L", SIZE).save(buffer, "JPEG")
    path.write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match=r"mask\.png: .*this file is JPEG"):
        read(path, SIZE)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_masks_of_fewer_bits_are_refused(tmp_path, bits):
    path = tmp_path / "mask.png"
    rows = (b"\0" + b"\xff" * ((4 * bits + 7) // 8)) * 3
    path.write_bytes(png(4, 3, (b"IDAT", zlib.compress(rows)), (b"IEND", b""), bits=bits))
    with pytest.raises(UserError, match=r"grey with fewer|mode 1"):
        read_mask(path, SIZE)


def test_a_palette_keeps_its_numbers_at_any_depth(tmp_path):
    image = Image.fromarray(np.tile(np.uint8([0, 1, 2, 3]), (3, 1)))
    image.putpalette([0, 0, 0, 9, 9, 9, 50, 50, 50, 90, 90, 90])
    path = save(tmp_path / "mask.png", image, bits=2)
    assert read_mask(path, SIZE)[0].tolist() == [0, 1, 2, 3]
