"""Lenses: what a file may say of one, and pictures without distortion, against formulas written out point by point."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from olivine.calibration import camera_model, rectification
from olivine.errors import UserError

MATRIX = [[500.0, 0, 330], [0, 510, 235], [0, 0, 1]]
SIZE = (640, 480)
LENSES = {
    "plumb_bob": [-0.25, 0.08, 0.001, -0.002, -0.01],
    "rational_polynomial": [0.4, -0.2, 0.0005, 0.001, 0.02, 0.7, -0.1, 0.03],
    "equidistant": [0.02, -0.01, 0.004, -0.001],
    "pincushion": [0.12, 0.05, 0, 0, 0],
}


def lens(name):
    model = "plumb_bob" if name == "pincushion" else name
    return camera_model(SIZE, MATRIX, model, LENSES[name], source="test")


def slow_pixel(name, x, y, z):
    """One point's pixel, straight from the definitions of Brown and of Kannala and Brandt."""
    c = LENSES[name]
    a, b = x / z, y / z
    if name == "equidistant":
        angle = math.atan2(math.hypot(x, y), z)
        bent = angle + sum(k * angle ** (2 * n + 3) for n, k in enumerate(c))
        direction = math.atan2(y, x)
        u, v = bent * math.cos(direction), bent * math.sin(direction)
    else:
        k = [*c[:2], c[4], *(c[5:] or (0, 0, 0))]
        r = math.hypot(a, b)
        radial = (1 + sum(k[n] * r ** (2 * n + 2) for n in range(3))) / (
            1 + sum(k[n + 3] * r ** (2 * n + 2) for n in range(3))
        )
        u = a * radial + 2 * c[2] * a * b + c[3] * (r**2 + 2 * a**2)
        v = b * radial + 2 * c[3] * a * b + c[2] * (r**2 + 2 * b**2)
    return MATRIX[0][0] * u + MATRIX[0][2], MATRIX[1][1] * v + MATRIX[1][2]


@pytest.mark.parametrize("name", LENSES)
def test_points_fall_where_the_definition_has_them(name):
    points = np.random.default_rng(0).uniform([-2, -2, 1], [2, 2, 5], (50, 3))
    points[0] = (0, 0, 3)
    expected = [slow_pixel(name, *point) for point in points]
    np.testing.assert_allclose(lens(name).pixels(points), expected, atol=1e-9)
    assert np.isnan(lens(name).pixels(np.array([[1.0, 0, -2], [1, 0, 0]]))).all()


@pytest.mark.parametrize("name", LENSES)
def test_a_rectified_picture_shows_each_ray_where_a_pinhole_has_it(name):
    """A picture whose value is the column, and one whose value is the row, read back at rectified pixels."""
    rectifier = rectification(lens(name))
    columns = np.broadcast_to((np.arange(640) * 0.25).astype(np.uint8), (480, 640))
    rows = np.broadcast_to((np.arange(480) * 0.25).astype(np.uint8)[:, None], (480, 640))
    seen = [rectifier.apply(np.ascontiguousarray(picture)) for picture in (columns, rows)]
    inverse = np.linalg.inv(rectifier.rectified.intrinsics)
    for v, u in np.random.default_rng(1).integers([5, 5], [475, 635], (40, 2)):
        expected = slow_pixel(name, *(inverse @ (u, v, 1)))
        read = [float(picture[v, u]) * 4 for picture in seen]
        np.testing.assert_allclose(read, expected, atol=5)  # of steps of 4 pixels


@pytest.mark.parametrize("name", LENSES)
def test_nothing_invented_is_in_a_rectified_picture_and_little_is_cut_off(name):
    white = np.full((480, 640), 255, np.uint8)
    rectifier = rectification(lens(name))
    assert rectifier.apply(white).min() == 255
    closer = rectifier.rectified.intrinsics.copy()
    closer[[0, 1], [0, 1]] *= 0.985  # a little more of the scene, and the border shows
    closer[:2, 2] += 0.015 * (np.array(SIZE) / 2 - closer[:2, 2])
    wider = type(rectifier)(rectifier.model, camera_model(SIZE, closer, source="test"))
    assert wider.apply(white).min() < 255
    whole = rectification(lens(name), alpha=1)
    assert whole.rectified.intrinsics[0, 0] < rectifier.rectified.intrinsics[0, 0]
    between = rectification(lens(name), alpha=0.5).rectified.intrinsics[0, 0]
    assert whole.rectified.intrinsics[0, 0] < between < rectifier.rectified.intrinsics[0, 0]


def test_a_whole_view_loses_no_pixel_of_the_camera():
    model = camera_model(SIZE, MATRIX, "plumb_bob", LENSES["plumb_bob"], source="test")
    whole = rectification(model, alpha=1)
    for corner in ((0, 0), (639, 0), (0, 479), (639, 479)):
        ray = np.array([(corner[0] - 330) / 500, (corner[1] - 235) / 510])
        for _ in range(200):  # the ray that the lens bends to this corner, by the fixed point of the definition
            missing = np.array(corner) - slow_pixel("plumb_bob", *ray, 1)
            ray += missing / (500, 510)
        u, v = (whole.rectified.intrinsics @ (*ray, 1))[:2]
        assert -1 < u < 640
        assert -1 < v < 480


def test_a_fisheye_is_cut_to_a_view_that_a_flat_picture_can_hold():
    model = camera_model((1280, 800), [300, 300, 640, 400], "fisheye", [0, 0, 0, 0], source="test")
    cut, whole = (rectification(model, alpha).rectified.intrinsics for alpha in (0, 1))
    assert math.degrees(math.atan(640 / cut[0, 0])) <= 60.1
    assert math.degrees(math.atan(400 / whole[1, 1])) <= 60.1


def test_rays_that_the_formula_folds_back_into_the_picture_are_not_shown():
    # x (1 - 0.4 x²) rises up to x = 1 / √1.2 alone; what is beyond would be shown a second time, mirrored.
    model = camera_model(SIZE, [300, 300, 319.5, 239.5], "plumb_bob", [-0.4, 0, 0, 0], source="test")
    filled, whole = (rectification(model, alpha) for alpha in (0, 1))
    focal = filled.rectified.intrinsics[[0, 1], [0, 1]]
    assert np.linalg.norm((319.5, 239.5) / focal) == pytest.approx(1 / np.sqrt(1.2), rel=0.01)
    shown = whole.apply(np.full((480, 640), 255, np.uint8)) > 0
    v, u = np.mgrid[:480, :640]
    away = np.hypot(u - 319.5, v - 239.5) / whole.rectified.intrinsics[0, 0]
    np.testing.assert_allclose(shown.mean(), (away < 1 / np.sqrt(1.2)).mean(), atol=0.01)
    assert not shown[away > 0.93].any()


def test_masks_keep_their_labels_and_say_where_they_know_nothing():
    mask = np.random.default_rng(0).choice(np.array([3, 200], np.uint8), (480, 640))
    rectified = rectification(lens("plumb_bob"), alpha=1).apply_to_labels(mask)
    assert set(np.unique(rectified)) == {3, 200, 255}


def test_a_picture_without_distortion_is_the_very_same_and_needs_no_library():
    image = np.zeros((480, 640, 3), np.uint8)
    rectifier = rectification(camera_model(SIZE, MATRIX, "plumb_bob", [0, 0, 0, 0], source="test"))
    assert rectifier.apply(image) is image
    assert not rectifier.changes


def test_a_rectifier_goes_to_another_process_without_its_maps():
    rectifier = rectification(lens("plumb_bob"))
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    expected = rectifier.apply(image)
    sent = pickle.dumps(rectifier)
    assert len(sent) < 3000
    np.testing.assert_array_equal(pickle.loads(sent).apply(image), expected)


def test_resized_pictures_have_the_camera_of_their_size():
    model = lens("plumb_bob")
    half = model.scaled((320, 240))
    corner, low = model.pixels(np.array([[0.3, -0.2, 1.0]])), half.pixels(np.array([[0.3, -0.2, 1.0]]))
    np.testing.assert_allclose(low + 0.5, (corner + 0.5) / 2)


def test_names_of_other_programs_are_understood():
    def known(name, *values):
        return camera_model(SIZE, MATRIX, name, values, source="test").distortion

    assert known("radtan", 0.1, 0, 0, 0) == "plumb_bob"
    assert known("fisheye", 0, 0, 0, 0) == "equidistant"
    assert known("plumb_bob", *range(8)) == "rational_polynomial"
    assert known("plumb_bob", 0.1, *[0] * 11) == "plumb_bob"
    assert known("") == "none"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((SIZE, [1, 2, 3]), "fx, fy, cx, cy or a 3×3"),
        ((SIZE, [-5, 5, 1, 1]), "fx and fy above 0"),
        ((SIZE, [[5, 0, 1], [0, 5, 1], [0, 1, 1]]), "3×3 matrix"),
        ((SIZE, MATRIX, "omni", [0.1]), "no distortion model 'omni'"),
        ((SIZE, MATRIX, "plumb_bob", [0.1]), "takes 4 or 5 coefficients, these are 1"),
        ((SIZE, MATRIX, "equidistant", [0.1] * 5), "takes 4 coefficients, these are 5"),
        ((SIZE, MATRIX, "plumb_bob", [float("nan")] * 4), "must be finite"),
        ((SIZE, MATRIX, "none", [0.1] * 4), "no distortion model; name the model"),
        (((0, 480), MATRIX), "0×480 pixels"),
    ],
)
def test_what_is_no_lens_is_refused(arguments, said):
    with pytest.raises(UserError, match=said):
        camera_model(*arguments, source="a.yaml")


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((480, 640), "width and height look swapped"),
        ((320, 240), "scale fx, fy, cx and cy by 0.5"),
        ((700, 480), "use"),
    ],
)
def test_images_of_another_size_are_refused_with_the_likely_mend(size, said):
    with pytest.raises(UserError, match=said):
        lens("plumb_bob").sized(size, "a.yaml")


def test_what_cannot_be_rectified_is_refused():
    with pytest.raises(UserError, match="must say the size"):
        rectification(camera_model(None, MATRIX, "plumb_bob", [0.1, 0, 0, 0], source="test"))
    with pytest.raises(UserError, match="alpha must lie in"):
        rectification(lens("plumb_bob"), alpha=2)
    with pytest.raises(UserError, match="leaves no whole rectangle"):
        rectification(camera_model(SIZE, [500, 500, -100, 240], "plumb_bob", [-5, 0, 0, 0], source="test"))
    with pytest.raises(UserError, match="640×470"):
        rectification(lens("plumb_bob")).apply(np.zeros((470, 640), np.uint8))
