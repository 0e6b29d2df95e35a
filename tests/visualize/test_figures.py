"""Figures: valid pictures, and colours that mean something."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab

from olivine.data.labels import load_class_set
from olivine.drawing.figures import Band, bands, bars, clouds, curves, new_figure, pca_colors, stacked
from olivine.errors import MissingExtraError

RNG = np.random.default_rng(3)
CLOUD = RNG.uniform(-40, 40, (200, 3)).astype(np.float32)
RED = np.full((200, 3), (250, 10, 10), np.uint8)


def decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"), int)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            lambda: curves({"a": ([1, 2], [0.5, 0.2]), "b": ([1, 2], [math.nan, 1.0])}, "t", "u"), id="curves"
        ),
        pytest.param(lambda: curves({}, "t", "u"), id="no curves"),
        pytest.param(lambda: curves({str(i): ([1], [i]) for i in range(30)}, "t", "u"), id="many curves"),
        pytest.param(
            lambda: bands({"p": {"a": Band([1, 9], [2, 3], [1, math.nan])}}, {1: "1", 9: "9"}, "x", "u", "ab"),
            id="bands",
        ),
        pytest.param(lambda: stacked(["a", "b"], {"x": [1, 2], "y": [0, 1]}, "t", "u"), id="stacked"),
        pytest.param(lambda: bars(["car", "road"], {"x": [1.0, math.nan], "y": [2.0, 3.0]}, "t", "u"), id="bars"),
        pytest.param(lambda: clouds(CLOUD, {"one": RED, "two": RED}), id="clouds"),
        pytest.param(lambda: clouds(CLOUD[:0], {"none": RED[:0]}), id="empty cloud"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_figures_are_pictures_and_the_same_each_time(data) -> None:
    picture = decoded(data())
    assert picture.min() < 200 < picture.max()
    assert data() == data()


def test_a_longer_bar_covers_more() -> None:
    first = decoded(bars(["car"], {"x": [10.0], "y": [100.0]}, "t", "u"))
    grey, green = (((first == color).all(axis=2)).sum() for color in ((0x7A, 0x87, 0x94), (0x3F, 0x7D, 0x20)))
    assert green > 5 * grey > 0


def test_a_name_keeps_its_colour_where_others_are_missing() -> None:
    green = (0x3F, 0x7D, 0x20)
    alone = decoded(bars(["car"], {"b": [100.0]}, "t", "u", ["a", "b"]))
    assert (alone == green).all(axis=2).sum() > 1000
    line = decoded(curves({"b": ([1, 2], [1.0, 2.0])}, "t", "u", ["a", "b"]))
    assert (line == green).all(axis=2).any()


def test_parts_are_stacked_in_their_order() -> None:
    picture = decoded(stacked(["step"], {"x": [10.0], "y": [30.0]}, "t", "u"))
    middle = picture[picture.shape[0] * 2 // 5]
    grey, green = (np.flatnonzero((middle == color).all(axis=1)) for color in ((0x7A, 0x87, 0x94), (0x3F, 0x7D, 0x20)))
    assert grey[grey < green.max()].max() < green.min()
    assert len(green) > 2.5 * (grey < green.min()).sum()


def test_points_are_drawn_in_their_colours_within_reach() -> None:
    near = np.array([[0.0, 0.0, 0.0]] * 50)
    red = (np.abs(decoded(clouds(near, {"near": RED[:50]})) - (250, 10, 10)) < 60).all(axis=2).sum()
    far = (np.abs(decoded(clouds(near + 100, {"far": RED[:50]})) - (250, 10, 10)) < 60).all(axis=2).sum()
    assert red > 0
    assert far == 0


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match="report"):
        new_figure(1, 1)


def test_feature_colours_follow_the_leading_directions() -> None:
    # Three independent directions of clearly different spread, mixed into eight dimensions by a rotation.
    sources = RNG.uniform(-1, 1, (500, 3)) * (100, 10, 1)
    rotation = np.linalg.qr(RNG.normal(size=(8, 8)))[0]
    colors = pca_colors(sources @ rotation[:3])
    for channel in range(3):
        correlation = np.corrcoef(sources[:, channel], colors[:, channel])[0, 1]
        assert abs(correlation) > 0.98
        assert (colors[:, channel].min(), colors[:, channel].max()) == (0, 255)


def test_feature_colours_do_not_depend_on_the_sign_that_the_solver_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    features = RNG.normal(size=(300, 6)) * (6, 5, 4, 3, 2, 1)
    expected = pca_colors(features)
    solver = np.linalg.eigh

    def flipped(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, vectors = solver(matrix)
        return values, vectors * np.where(np.arange(len(values)) % 2, -1, 1)

    monkeypatch.setattr(np.linalg, "eigh", flipped)
    np.testing.assert_array_equal(pca_colors(features), expected)
    shuffled = RNG.permutation(300)
    assert np.abs(pca_colors(features[shuffled]).astype(int) - expected[shuffled]).max() <= 1


def test_feature_colours_are_inverted_with_the_features() -> None:
    features = RNG.normal(size=(300, 4)) * (4, 3, 2, 1)
    both = pca_colors(features).astype(int) + pca_colors(-features)
    assert np.abs(both - 255).max() <= 1


@pytest.mark.parametrize(
    ("features", "varied"),
    [
        pytest.param(np.zeros((0, 5)), 0, id="no points"),
        pytest.param(np.zeros((4, 0)), 0, id="no features"),
        pytest.param(np.ones((1, 5)), 0, id="one point"),
        pytest.param(np.full((9, 5), 1e6), 0, id="all alike"),
        pytest.param(np.arange(9.0)[:, None], 1, id="one dimension"),
        pytest.param(1e4 * np.arange(9.0)[:, None] * np.linspace(0.1, 1.3, 5), 1, id="one direction of five"),
        pytest.param(np.stack((np.arange(9.0), np.arange(9.0) % 2), 1), 2, id="two dimensions"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_directions_without_variation_are_mid_grey(features: np.ndarray, varied: int) -> None:
    colors = pca_colors(features.astype(np.float32))
    assert colors.dtype == np.uint8
    assert colors.shape == (len(features), 3)
    assert (colors[:, varied:] == 128).all()
    assert all(len(np.unique(channel)) > 1 for channel in colors[:, :varied].T)


@pytest.mark.parametrize("name", ["nuscenes", "semantickitti"])
def test_every_class_stands_out_from_the_ground_of_the_clouds(name: str) -> None:
    """Sidewalk is (75, 0, 75), which nobody sees on black; distances are in CIELAB, where 2 is just visible."""
    colors = load_class_set(name).colors[1:]
    ground = decoded(clouds(np.zeros((1, 3), np.float32), {"one": RED[:1]}, reach_m=35.0))[200, 200]
    lab = rgb2lab(np.concatenate([[ground], colors])[None] / 255)[0]
    assert np.linalg.norm(lab[1:] - lab[0], axis=1).min() > 35


def test_legends_lie_beside_the_curves_and_not_over_them(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr("olivine.drawing.figures.png", lambda figure: drawn.append(figure) or b"")
    flat = ([0.0, 1.0], [1.0, 1.0])
    curves({"a": flat, "b": flat}, "t", "u")
    curves({str(i): flat for i in range(30)}, "t", "u")
    band = Band([1, 9], [2, 3], [1, 1])
    bands({"p": {"a": band}, "q": {"b": band}}, {1: "1", 9: "9"}, "x", "u", "ab")
    bars(["car"], {"x": [1.0]}, "t", "u")
    for figure in drawn:
        figure.draw_without_rendering()
        (legend_box,) = [each.get_window_extent() for each in figure.legends]
        for axes in figure.axes:
            assert axes.get_legend() is None
            assert not axes.get_window_extent().overlaps(legend_box)
            assert axes.get_window_extent().width > 150
    assert [text.get_text() for text in drawn[2].legends[0].texts] == ["a", "b"]
