"""Tiles, legends and scales, pixel by pixel."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from olivine.drawing.tiles import TITLE_PX, abreast, below, beside, legend, png, scale, titled

RED, BLUE = np.array([255, 0, 0], np.uint8), np.array([0, 0, 255], np.uint8)


def tile(height: int, width: int, color: np.ndarray = RED) -> np.ndarray:
    return np.broadcast_to(color, (height, width, 3)).copy()


def test_a_title_stands_above_its_tile_and_is_cut_where_it_does_not_fit() -> None:
    short, long = (titled(tile(10, 60), text) for text in ("front", "front" * 40))
    for picture in (short, long):
        assert picture.shape == (10 + TITLE_PX, 60, 3)
        np.testing.assert_array_equal(picture[TITLE_PX:], tile(10, 60))
        assert (picture[:TITLE_PX] < 100).any()
    assert (long[:TITLE_PX, -2:] == 255).all()


def test_a_title_with_marks_that_terminals_obey_is_shown_as_python_writes_it() -> None:
    np.testing.assert_array_equal(titled(tile(4, 200), "a\x1b[2J"), titled(tile(4, 200), "a\\x1b[2J"))


def test_tiles_of_different_sizes_keep_their_pixels_on_white() -> None:
    picture = beside([tile(4, 3), tile(6, 5, BLUE)])
    assert picture.shape == (6, 3 + 2 + 5, 3)
    np.testing.assert_array_equal(picture[:4, :3], tile(4, 3))
    np.testing.assert_array_equal(picture[:, 5:], tile(6, 5, BLUE))
    assert (picture[4:, :3] == 255).all()
    np.testing.assert_array_equal(below([tile(3, 4), tile(5, 6, BLUE)])[5:, :6], tile(5, 6, BLUE))
    assert abreast([tile(4, 4)] * 5, 3).shape == (4 + 2 + 4, 4 * 3 + 2 * 2, 3)


def test_a_legend_shows_every_colour_in_order() -> None:
    colors = np.array([[10, 200, 30], [250, 120, 0], [0, 0, 230]], np.uint8)
    picture = legend(["a", "b", "c"], colors, 400)
    places = [np.argwhere((picture == color).all(2)) for color in colors]
    assert all(len(place) > 100 for place in places)
    row, column = zip(*(place.min(0) for place in places), strict=True)
    assert row[0] == row[1] < row[2]  # two abreast
    assert column[0] == column[2] < column[1]


def test_a_scale_runs_from_left_to_right_with_its_ticks() -> None:
    picture = scale(np.stack([RED, BLUE]), [(0.0, "2"), (1.0, "60")], "depth [m]")
    red, blue = (np.argwhere((picture == color).all(2)) for color in (RED, BLUE))
    assert red[:, 1].max() < blue[:, 1].min()
    assert (picture[red[:, 0].max() + 1 :, red[:, 1].min()] < 100).any()


def test_png_bytes_hold_the_picture() -> None:
    with Image.open(io.BytesIO(png(tile(3, 5)))) as file:
        np.testing.assert_array_equal(np.asarray(file), tile(3, 5))
