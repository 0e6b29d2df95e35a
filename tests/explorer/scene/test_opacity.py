"""Masks, points and similarity over images, pixel by pixel, from the words of an address."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from olivine.explorer.coloring import RAMP
from olivine.explorer.scene.pictures import camera_picture
from olivine.explorer.stage import Stage
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import open_subject
from olivine.explorer.view import View
from olivine.visualize.projection import mask_palette

FULL = 64
"""Width of the images."""


@pytest.fixture(scope="module")
def stage(root):
    return Stage(Moments(open_subject([root / "datasets" / "street"])))


def drawn(stage, words, place=2, width=FULL):
    return stage.camera(stage.show(View.of(f"frame=1&color=truth&{words}")), place, width).astype(float)


def parts(stage, place=2):
    """The image, its weak labels, and their colours."""
    camera, dataset = stage.moments[1].frame.cameras[place], stage.moments.dataset
    return camera.image().astype(float), camera.mask(), mask_palette(dataset.manifest.classes, dataset.classes)


@pytest.mark.parametrize("opacity", [0.0, 0.05, 0.3, 0.5, 0.85, 1.0])
def test_a_mask_is_mixed_with_its_image_by_its_opacity_and_unknown_pixels_stay(stage, opacity):
    image, labels, palette = parts(stage)
    expected = image.copy()
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            if labels[row, column] != 255:
                tint = palette[labels[row, column]].astype(float)
                expected[row, column] = (1 - opacity) * image[row, column] + opacity * tint
    assert 0 < (labels == 255).sum() < labels.size
    found = drawn(stage, f"dots=0&mask={opacity}")
    np.testing.assert_allclose(found, expected, atol=1)
    np.testing.assert_array_equal(found[labels == 255], image[labels == 255])


@pytest.mark.parametrize("opacity", [0.25, 1.0])
def test_points_lie_over_the_mask_at_their_own_opacity(stage, opacity):
    shown = stage.show(View.of("frame=1&color=truth"))
    below, above = drawn(stage, "dots=0&mask=0.5"), drawn(stage, f"dots={opacity}&mask=0.5")
    pairs = shown.moment.pairs
    pairs = pairs.select(pairs.camera == 2)
    column, row = np.rint(pairs.uv).astype(int).T
    alone = np.array([not np.any(np.delete(np.abs(pairs.uv - uv).max(axis=1), at) < 2.1)
                      for at, uv in enumerate(pairs.uv)])  # fmt: skip
    assert alone.sum() >= 3
    for at in np.flatnonzero(alone):
        color = shown.coloring.colors[pairs.point[at]].astype(float)
        expected = (1 - opacity) * below[row[at], column[at]] + opacity * color
        np.testing.assert_allclose(above[row[at], column[at]], expected, atol=1)
    far = np.ones(below.shape[:2], bool)
    for x, y in zip(column, row, strict=True):
        far[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = False
    np.testing.assert_array_equal(above[far], below[far])


def test_points_that_the_legend_leaves_out_are_on_no_image(stage):
    shown = stage.show(View.of("frame=1&color=truth"))
    names = [line.name for line in shown.coloring.legend]
    without = drawn(stage, "&".join(f"hide={name.replace(' ', '+')}" for name in names))
    np.testing.assert_array_equal(without, drawn(stage, "dots=0"))
    assert (drawn(stage, "hide=car") != drawn(stage, "")).any()


def test_a_smaller_image_has_the_mask_of_its_nearest_pixels(stage):
    image, labels, palette = parts(stage)
    small = drawn(stage, "dots=0&mask=1", width=FULL // 2)
    assert small.shape == (image.shape[0] // 2, FULL // 2, 3)
    nearest = np.asarray(Image.fromarray(labels).resize((FULL // 2, image.shape[0] // 2), Image.Resampling.NEAREST))
    known = nearest != 255
    np.testing.assert_array_equal(small[known], palette[nearest[known]])


@pytest.mark.parametrize(("value", "stop"), [(0.0, 0), (0.4, 2), (1.0, 5)])
def test_similarity_covers_an_image_by_two_thirds(stage, value, stop):
    moment = stage.moments[1]
    heat = np.full((9, 16), value, np.float32)
    nothing = np.zeros((300, 3), np.uint8)
    found = camera_picture(stage.moments, moment, 2, nothing, np.zeros(300, bool), width=FULL, heat=heat)
    np.testing.assert_allclose(found, 0.35 * moment.frame.cameras[2].image() + 0.65 * RAMP[stop], atol=1.5)
