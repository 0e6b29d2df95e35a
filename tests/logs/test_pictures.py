"""Pictures of logs: each encoding against what its letters say, and what is refused."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from builders.bags import image_fields
from builders.drive import mosaic
from olivine.errors import UserError
from olivine.logs.pictures import compressed_picture, raw_picture


def raw(pixels, encoding, **changes):
    fields = image_fields(pixels, encoding, 0, "camera", row_padding=changes.pop("row_padding", 0))
    fields["data"] = np.ascontiguousarray(fields["data"]).reshape(-1)
    return SimpleNamespace(**{**fields, **changes})


def compressed(content, form):
    return SimpleNamespace(format=form, data=np.frombuffer(content, np.uint8))


def file_of(pixels, form, **options):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, form, **options)
    return content.getvalue()


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["rgb8", "bgr8", "rgba8", "bgra8", "mono8"]),
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(0, 5),
    st.integers(0, 2**32 - 1),
)
def test_samples_go_where_the_letters_of_the_encoding_say(encoding, height, width, padding, seed):
    letters = "m" if encoding == "mono8" else encoding[:-1]
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, len(letters)), np.uint8)
    picture = raw_picture(raw(pixels, encoding, row_padding=padding), "a.bag")
    rgb = picture.rgb()
    assert picture.size == (width, height)
    assert picture.jpeg is None
    assert rgb.dtype == np.uint8
    for row in range(height):
        for column in range(width):
            named = dict(zip(letters, pixels[row, column], strict=True))
            expected = [named.get(letter, named.get("m")) for letter in "rgb"]
            assert rgb[row, column].tolist() == expected


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_mosaic_of_one_colour_becomes_that_colour(pattern):
    rgb = np.tile(np.array([210, 120, 30], np.uint8), (8, 10, 1))
    picture = raw_picture(raw(mosaic(rgb, pattern), f"bayer_{pattern}8", row_padding=3), "a.bag")
    np.testing.assert_array_equal(picture.rgb()[1:-1, 1:-1], rgb[1:-1, 1:-1])


@pytest.mark.parametrize(
    ("encoding", "order"), [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv")]
)
def test_two_pixels_share_their_colour_in_yuv(encoding, order):
    luma, blue, red = np.array([[60, 180], [90, 200]]), 100, 160
    samples = np.zeros((2, 4), np.uint8)
    samples[:, [place for place, letter in enumerate(order) if letter == "y"]] = luma
    samples[:, order.index("u")], samples[:, order.index("v")] = blue, red
    rgb = raw_picture(raw(samples, encoding, width=2), "a.bag").rgb()
    # ITU-R BT.601, studio range.
    scaled = 1.164 * (luma - 16.0)
    expected = np.stack(
        [
            scaled + 1.596 * (red - 128),
            scaled - 0.813 * (red - 128) - 0.391 * (blue - 128),
            scaled + 2.018 * (blue - 128),
        ],
        axis=-1,
    )
    np.testing.assert_allclose(rgb, expected.clip(0, 255), atol=2)


@pytest.mark.parametrize(
    "encoding", ["mono16", "16UC1", "8UC3", "32FC1", "bayer_rggb16", "rgb16", "nv12", "", "\x1b[31mrgb8\n"]
)
def test_encodings_that_need_a_guess_are_refused_by_name(encoding):
    with pytest.raises(UserError, match="without a guess") as caught:
        raw_picture(raw(np.zeros((4, 4), np.uint8), encoding), "a.bag: /camera")
    assert str(caught.value).isprintable()
    assert str(caught.value).startswith("a.bag: /camera: encoding ")


@pytest.mark.parametrize(
    "changes",
    [
        {"height": 40_000, "width": 40_000},
        {"height": 0},
        {"height": 5},
        {"step": 11},
        {"step": 0xFFFFFFFF},
        {"width": 5},
    ],
)
def test_images_that_claim_more_than_they_hold_are_refused(changes):
    with pytest.raises(UserError, match=r"a\.bag: "):
        raw_picture(raw(np.zeros((4, 4, 3), np.uint8), "rgb8", **changes), "a.bag")


def test_an_odd_row_of_pairs_is_refused():
    with pytest.raises(UserError, match="two pixels at a time"):
        raw_picture(raw(np.zeros((2, 6), np.uint8), "yuv422", width=3), "a.bag")


def test_the_recorded_jpeg_is_handed_on_untouched():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    content = file_of(pixels, "JPEG", quality=95)
    picture = compressed_picture(compressed(content, "rgb8; jpeg compressed bgr8"), "a.bag")
    assert (picture.size, picture.encoding, picture.jpeg) == ((8, 6), "jpeg", content)
    np.testing.assert_array_equal(picture.rgb(), np.asarray(Image.open(io.BytesIO(content))))


@pytest.mark.parametrize("form", ["png", "bgr8; png compressed bgr8", "", "jpeg"])
def test_a_png_is_known_by_its_content(form):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    picture = compressed_picture(compressed(file_of(pixels, "PNG"), form), "a.bag")
    assert (picture.encoding, picture.jpeg) == ("png", None)
    np.testing.assert_array_equal(picture.rgb(), pixels)


def test_a_mosaic_that_was_compressed_as_grey_gets_its_colours():
    rgb = np.tile(np.array([210, 120, 30], np.uint8), (8, 10, 1))
    content = file_of(mosaic(rgb, "gbrg"), "PNG")
    picture = compressed_picture(compressed(content, "bayer_gbrg8; png compressed "), "a.bag")
    assert (picture.encoding, picture.jpeg) == ("bayer_gbrg8", None)
    np.testing.assert_array_equal(picture.rgb()[1:-1, 1:-1], rgb[1:-1, 1:-1])


def test_a_mosaic_that_was_turned_into_colours_before_is_left_alone():
    content = file_of(np.full((8, 10, 3), 77, np.uint8), "JPEG")
    picture = compressed_picture(compressed(content, "bayer_gbrg8; jpeg compressed bgr8"), "a.bag")
    assert (picture.encoding, picture.jpeg) == ("jpeg", content)


def claiming(width, height):
    """A JPEG of a few hundred bytes whose head claims a size."""
    content = bytearray(file_of(np.zeros((8, 8, 3), np.uint8), "JPEG"))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(content)


def test_a_jpeg_bomb_is_refused_by_the_size_it_claims():
    with pytest.raises(UserError, match="more than 80000000 pixels"):
        compressed_picture(compressed(claiming(65000, 65000), "jpeg"), "a.bag: /camera")


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (b"\0" * 12 + b"\x89PNG\r\n\x1a\n", "16UC1; compressedDepth png"),
        (b"", "jpeg"),
        (b"RIFF....WEBP", "webp"),
        (b"\xff\xd8\xff\xe0 and nothing", "jpeg"),
    ],
)
def test_content_that_is_no_jpeg_or_png_is_refused(content, form):
    with pytest.raises(UserError, match=r"a\.bag: /camera"):
        compressed_picture(compressed(content, form), "a.bag: /camera")


def test_a_jpeg_that_breaks_off_is_refused_when_it_is_decoded():
    content = file_of(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), "JPEG")
    picture = compressed_picture(compressed(content[: len(content) // 2], "jpeg"), "a.bag: /camera")
    with pytest.raises(UserError, match=r"a\.bag: /camera: cannot read this image"):
        picture.rgb()


def test_a_png_of_16_bits_is_refused():
    content = file_of(np.zeros((4, 4), np.uint16), "PNG")
    with pytest.raises(UserError, match="more than 8 bits"):
        compressed_picture(compressed(content, "mono16; png compressed "), "a")


def test_a_jpeg_of_four_inks_or_to_be_turned_is_refused():
    turned = Image.Exif()
    turned[274] = 6
    inks = io.BytesIO()
    Image.new("CMYK", (4, 4)).save(inks, "JPEG")
    for content, said in (
        (inks.getvalue(), "mode CMYK"),
        (file_of(np.zeros((4, 4, 3), np.uint8), "JPEG", exif=turned), "EXIF orientation 6"),
    ):
        with pytest.raises(UserError, match=said):
            compressed_picture(compressed(content, "jpeg"), "a")


@pytest.mark.parametrize("grey", [False, True])
def test_a_jpeg_decodes_as_pillow_decodes_it(grey):
    ramp = np.add.outer(np.arange(64), np.arange(80)).astype(np.uint8)
    pixels = ramp if grey else np.stack([ramp, ramp[::-1], 255 - ramp], axis=-1)
    content = file_of(pixels, "JPEG", quality=90)
    rgb = compressed_picture(compressed(content, "jpeg"), "a").rgb()
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    np.testing.assert_allclose(rgb.astype(int), expected, atol=1)
