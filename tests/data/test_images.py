"""Camera images, masks and superpixels of kinds that Pillow reads otherwise than meant."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from olivine.data.images import image_size, read_image
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


def png(width, height, *parts, bits=8):
    """A grey PNG with a header that claims a size, and chunks of one's own."""
    return chunks((b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)), *parts)


def chunks(*parts):
    """A PNG of these chunks."""
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


@pytest.mark.parametrize("colour", [0, 2, 4, 6])
def test_png_samples_of_16_bits_are_refused_whatever_their_colour(tmp_path, colour):
    """Pillow hands out the high bytes of deep colours, so that 12 bits in 16 become black."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    head = (b"IHDR", struct.pack(">IIBBBBB", 4, 3, 16, colour, 0, 0, 0))
    content = zlib.compress((b"\0" + b"\x0f\xff" * 4 * channels) * 3)
    path = tmp_path / "deep.png"
    path.write_bytes(chunks(head, (b"IDAT", content), (b"IEND", b"")))
    with pytest.raises(UserError, match=r"deep\.png: an image of mode .*more than 8 bits"):
        read_image(path, SIZE)


def test_narrow_grey_fills_its_range(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(png(4, 3, (b"IDAT", zlib.compress(b"\0\x05\xaf" * 3)), (b"IEND", b""), bits=4))
    assert read_image(path, SIZE)[0, :, 0].tolist() == [0, 85, 170, 255]


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (Image.new("RGBA", SIZE, (9, 9, 9, 254)), {}, "transparent"),
        (Image.new("LA", SIZE, (9, 0)), {}, "transparent"),
        (Image.new("P", SIZE), {"transparency": 0}, "transparent"),
        (Image.new("RGB", SIZE), {"transparency": (0, 0, 0)}, "transparent"),
        (Image.new("CMYK", SIZE), {"format": "JPEG"}, "mode CMYK"),
        (Image.new("LAB", SIZE), {"format": "TIFF"}, "mode LAB"),
        (Image.new("RGB", SIZE), {"save_all": True, "append_images": [Image.new("RGB", SIZE, "red")]}, "2 pictures"),
        (Image.new("RGB", SIZE), {"format": "GIF"}, "cannot read this image"),
    ],
)
def test_pictures_without_one_plain_colour_a_pixel_are_refused(tmp_path, image, options, message):
    path = save(tmp_path / "image.png", image, **options)
    with pytest.raises(UserError, match=rf"image\.png: .*{message}"):
        read_image(path, SIZE)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("turned", [3, 6])
def test_an_image_to_be_turned_is_refused_and_one_that_lies_right_is_not(tmp_path, kind, turned):
    exif = Image.Exif()
    exif[274] = 1
    assert read_image(save(tmp_path / "right", Image.new("RGB", SIZE), format=kind, exif=exif), SIZE).shape == (3, 4, 3)
    exif[274] = turned
    with pytest.raises(UserError, match=f"EXIF orientation {turned}"):
        read_image(save(tmp_path / "image", Image.new("RGB", SIZE), format=kind, exif=exif), SIZE)


def test_more_pixels_than_plausible_are_refused_where_the_dataset_states_them_too(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(9_000, 9_000, (b"IDAT", zlib.compress(b""))))
    for read in (lambda: read_image(path, (9_000, 9_000)), lambda: image_size(path)):
        with pytest.raises(UserError, match="more than the 80000000 pixels"):
            read()


@pytest.mark.parametrize("read", [read_mask, read_segments])
def test_a_flipped_bit_among_the_numbers_is_noticed(tmp_path, read):
    dtype = np.uint8 if read is read_mask else np.uint16
    path = save(tmp_path / "mask.png", Image.fromarray(np.arange(12).reshape(3, 4).astype(dtype)), compress_level=0)
    assert read(path, SIZE)[0].tolist() == [0, 1, 2, 3]
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 14] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="checksum"):
        read(path, SIZE)


def test_an_animated_mask_is_refused(tmp_path):
    frames = [Image.new("L", SIZE, value) for value in (1, 2)]
    path = save(tmp_path / "mask.png", frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match="animated"):
        read_mask(path, SIZE)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "WEBP", "PPM"])
def test_random_damage_is_one_line_or_a_picture(tmp_path, kind):
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (16, 24, 3), np.uint8)).save(buffer, kind)
    path = tmp_path / "image"
    for _ in range(150):
        content = np.frombuffer(buffer.getvalue(), np.uint8).copy()
        places = rng.integers(0, min(len(content), 400), 3)
        content[places] = rng.integers(0, 256, 3)
        path.write_bytes(content[: rng.integers(8, len(content) + 1)].tobytes())
        with contextlib.suppress(UserError):
            assert read_image(path, (24, 16)).shape == (16, 24, 3)
