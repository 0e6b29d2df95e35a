import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from builders.frames import make_frame
from olivine.data.augment import (
    CloudAugment,
    Cut,
    ImageAugment,
    cloud_transform,
    cuboid_keep,
    draw_cuts,
    drop_points,
)
from olivine.data.pairs import Pairs, find_pairs


def augment_images(images, pairs, rng, config):
    """Draw what is done to the images, and do it to them and to their pairs."""
    cuts = draw_cuts([(image.shape[1], image.shape[0]) for image in images], pairs, rng, config)
    done = np.stack([cut.image(image) for cut, image in zip(cuts, images, strict=True)])
    return done, Pairs.concatenate([cut.pairs(pairs.select(pairs.camera == i)) for i, cut in enumerate(cuts)])


def ramp(width, height):
    """An image whose red channel is the column and whose green channel is the row."""
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack((column, row, 0 * row), axis=2).astype(np.uint8)


def grid_pairs(width, height, step=3):
    column, row = (a.reshape(-1) for a in np.meshgrid(np.arange(2, width - 2, step), np.arange(2, height - 2, step)))
    count = len(column)
    uv = np.stack((column, row), axis=1).astype(np.float32)
    return Pairs(np.arange(count), np.zeros(count, np.int64), uv, (np.arange(count) % 200).astype(np.uint8))


@pytest.mark.parametrize("seed", range(8))
def test_pairs_keep_pointing_at_the_same_content_through_cut_resize_and_mirror(seed):
    width, height = 240, 140
    pairs = grid_pairs(width, height)
    config = ImageAugment(size=(120, 70), min_pairs=10)
    images, moved = augment_images([ramp(width, height)], pairs, np.random.default_rng(seed), config)
    assert images.shape == (1, 70, 120, 3)
    assert 10 < len(moved) <= len(pairs)
    column, row = np.rint(moved.uv).astype(int).T
    seen = images[0, row, column, :2].astype(float)
    original = pairs.uv[moved.point]
    # Rounding to a pixel of the smaller image costs at most one of its pixels, which is two of the original.
    interior = (column > 0) & (column < 119) & (row > 0) & (row < 69)
    assert np.abs(seen - original)[interior].max() <= 2.5
    np.testing.assert_array_equal(moved.label, pairs.label[moved.point])


def read_between_pixels(image, uv):
    """[P, C] bilinear reading of an image [H, W, C] at positions inside it."""
    corner = np.minimum(np.floor(uv).astype(int), np.array(image.shape[1::-1]) - 2)
    (column, row), (right, down) = corner.T, (uv - corner).T[:, :, None]
    above = (1 - right) * image[row, column] + right * image[row, column + 1]
    below = (1 - right) * image[row + 1, column] + right * image[row + 1, column + 1]
    return (1 - down) * above + down * below


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize("size", [(20, 12), (150, 90)])
def test_positions_are_right_to_a_fraction_of_a_pixel(size, flip):
    steep = 4 * ramp(60, 36)  # 4 grey levels a pixel, so that a grey level's rounding is an eighth of a pixel
    pairs = grid_pairs(60, 36, step=1)
    for seed in range(5):
        config = ImageAugment(size=size, min_pairs=10, flip=flip)
        images, moved = augment_images([steep], pairs, np.random.default_rng(seed), config)
        inside = ((moved.uv > 2) & (moved.uv < np.array(size) - 3)).all(axis=1)
        seen = read_between_pixels(images[0, :, :, :2] / 4, moved.uv[inside])
        assert inside.sum() > 100
        np.testing.assert_allclose(seen, pairs.uv[moved.point][inside], atol=0.2)


def test_a_cut_keeps_exactly_the_pairs_whose_pixel_it_shows():
    u, v = np.meshgrid(np.arange(-0.375, 59.5, 0.25), np.arange(-0.375, 35.5, 0.25))
    uv = np.stack((u.reshape(-1), v.reshape(-1)), axis=1).astype(np.float32)
    pairs = Pairs(np.arange(len(uv)), np.zeros(len(uv), np.int64), uv, np.zeros(len(uv), np.uint8))
    config = ImageAugment(size=(30, 18), crop_area=(0.25, 0.25), crop_ratio=(60 / 36, 60 / 36), min_pairs=10, flip=0)
    for seed in range(5):
        images, moved = augment_images([ramp(60, 36)], pairs, np.random.default_rng(seed), config)
        assert len(moved) == 30 * 4 * 18 * 4
        column, row = np.rint(moved.uv).astype(int).T
        np.testing.assert_array_equal(images[0, row, column, :2], np.rint(uv[moved.point]))


def test_without_antialiasing_a_shrunk_image_is_read_between_four_pixels():
    noise = np.random.default_rng(0).integers(0, 256, (140, 240, 3), np.uint8)
    cut = Cut((20, 10, 220, 130), (50, 30), mirrored=True)
    part = torch.from_numpy(noise[10:130, 20:220]).permute(2, 0, 1)[None].double()
    size = (30, 50)
    expected = torch.nn.functional.interpolate(part, size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0)
    np.testing.assert_allclose(cut.image(noise), expected.flip(1).numpy(), atol=0.51)
    smooth = replace(cut, antialias=True).image(noise)
    assert smooth.std() < 0.6 * cut.image(noise).std()
    assert ImageAugment().antialias is False


@pytest.mark.parametrize("antialias", [True, False])
def test_antialiasing_is_the_recipes_choice(antialias):
    config = ImageAugment(antialias=antialias)
    (cut,) = draw_cuts([(64, 48)], Pairs.concatenate([]), np.random.default_rng(0), config)
    assert cut.antialias is antialias


def test_cuts_vary_in_area_and_ratio_within_their_intervals():
    shares, ratios = [], []
    for seed in range(200):
        images, _ = augment_images(
            [ramp(240, 140)], grid_pairs(240, 140), np.random.default_rng(seed), ImageAugment(min_pairs=10, flip=0)
        )
        first, last = images[0, 0, 0, :2].astype(float), images[0, -1, -1, :2].astype(float)
        width, height = last - first + 1
        shares.append(width * height / (240 * 140))
        ratios.append(width / height)
    assert 0.28 < min(shares) < 0.35
    assert 0.85 < max(shares) <= 1
    assert 14 / 9 - 0.05 < min(ratios) < 1.6
    assert 1.84 < max(ratios) < 17 / 9 + 0.05


@pytest.mark.parametrize(("min_pairs", "min_share", "kept"), [(500, 0.75, 0.3), (10**6, 0.2, 0.3), (10**6, 0.75, 1)])
def test_a_cut_must_leave_enough_pairs_or_enough_of_them(min_pairs, min_share, kept):
    pairs = grid_pairs(240, 140)
    config = ImageAugment(crop_area=(0.3, 0.3), min_pairs=min_pairs, min_share=min_share)
    _, moved = augment_images([ramp(240, 140)], pairs, np.random.default_rng(0), config)
    assert len(moved) / len(pairs) == pytest.approx(kept, abs=0.03)


def test_half_of_the_images_are_mirrored():
    config = ImageAugment(size=(16, 8), crop=False)
    images, _ = augment_images([ramp(32, 16)] * 400, grid_pairs(32, 16), np.random.default_rng(0), config)
    assert 0.4 < (images[:, 0, 0, 0] > images[:, 0, -1, 0]).mean() < 0.6


def test_without_cut_and_mirror_a_corner_keeps_its_place():
    pairs = Pairs(np.arange(2), np.zeros(2, np.int64), np.array([[0, 0], [199, 99]], np.float32), np.zeros(2, np.uint8))
    config = ImageAugment(size=(100, 50), crop=False, flip=0)
    _, moved = augment_images([ramp(200, 100)], pairs, np.random.default_rng(0), config)
    np.testing.assert_allclose(moved.uv, [[0, 0], [99, 49]], atol=0.3)


def test_a_camera_without_pairs_uses_the_whole_image_and_does_not_loop():
    images, moved = augment_images(
        [ramp(64, 48)], Pairs.concatenate([]), np.random.default_rng(0), ImageAugment(size=(32, 24), flip=0)
    )
    assert images.shape == (1, 24, 32, 3)
    assert len(moved) == 0
    assert images[0, 0, 0, 0] <= 1
    assert images[0, 0, -1, 0] >= 62


def test_images_of_different_sizes_come_out_alike(tmp_path):
    frame = make_frame(tmp_path, sizes=((96, 64), (80, 60)))
    images, pairs = augment_images(
        [camera.image() for camera in frame.cameras], find_pairs(frame), np.random.default_rng(0), ImageAugment()
    )
    assert images.shape == (2, 224, 416, 3)
    assert (pairs.uv >= 0).all()
    assert (pairs.uv <= [415, 223]).all()


@pytest.mark.parametrize(
    "wrong", [{"size": (0, 224)}, {"crop_area": (-0.3, 1)}, {"crop_area": (1, 0.3)}, {"crop_ratio": (0, 2)}]
)
def test_cuts_that_cannot_be_made_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ImageAugment(**wrong)


def test_cloud_transform_turns_about_z_and_keeps_lengths():
    draws = [cloud_transform(np.random.default_rng(seed), CloudAugment()) for seed in range(200)]
    for matrix in draws:
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
        np.testing.assert_array_equal(matrix[2], [0, 0, 1])
    flipped = np.mean([np.linalg.det(matrix) < 0 for matrix in draws])
    assert 0.35 < flipped < 0.65
    angles = np.arctan2([m[1, 0] for m in draws], [m[0, 0] for m in draws])
    assert np.histogram(angles, 4, (-np.pi, np.pi))[0].min() > 25


def test_cloud_transform_switched_off_is_the_identity():
    config = CloudAugment(rotate=False, flip=False)
    np.testing.assert_array_equal(cloud_transform(np.random.default_rng(3), config), np.eye(3))


def test_scale_stays_within_its_range():
    scales = [
        np.abs(np.linalg.det(cloud_transform(np.random.default_rng(s), CloudAugment(scale=0.1)))) for s in range(99)
    ]
    assert 0.9**3 - 1e-6 <= min(scales) < 0.8
    assert 1.25 < max(scales) <= 1.1**3 + 1e-6


@pytest.mark.parametrize("form", ["published", "per_axis"])
def test_cuboid_drops_one_compact_block_only(tmp_path, form):
    frame = make_frame(tmp_path)
    pairs = find_pairs(frame)
    config = ImageAugment(min_pairs=5, cuboid=form)
    keep = cuboid_keep(frame.points_lidar_m, pairs, 2, np.random.default_rng(1), config)
    dropped = frame.points_lidar_m[~keep]
    assert 0 < len(dropped) < len(keep) / 5
    low, high = dropped.min(0), dropped.max(0)
    assert (high - low <= 0.2 * np.ptp(frame.points_lidar_m, axis=0) + 1e-4).all()
    inside = ((frame.points_lidar_m >= low) & (frame.points_lidar_m <= high)).all(1)
    np.testing.assert_array_equal(inside, ~keep)


def test_no_cuboid_when_a_camera_would_keep_too_few_pairs(tmp_path):
    frame = make_frame(tmp_path)
    keep = cuboid_keep(
        frame.points_lidar_m, find_pairs(frame), 2, np.random.default_rng(1), ImageAugment(min_pairs=10**6)
    )
    assert keep.all()


def spinning_cloud(columns=300, beams=24):
    """[N, 3] float32 points of a spinning LiDAR 1.8 m above a road, within 60 m."""
    azimuth, elevation = np.meshgrid(np.linspace(0, 2 * np.pi, columns), np.radians(np.linspace(-30, 10, beams)))
    down = np.where(elevation < -0.03, -1.8 / np.sin(np.minimum(elevation, -0.03)), 60.0)
    distance = np.minimum(down, 15 + 40 * np.abs(np.sin(3 * azimuth)))
    flat = distance * np.cos(elevation)
    points = np.stack((flat * np.cos(azimuth), flat * np.sin(azimuth), distance * np.sin(elevation)), axis=-1)
    return points.reshape(-1, 3).astype(np.float32)


def slow_published_share(points, dice):
    """Share of the points that the published cuboid drops, point by point, from another generator."""
    share, center = dice.random() * 0.2, points[dice.randrange(len(points))]
    half = [(max(axis) - min(axis)) * share / 2 for axis in zip(*points, strict=True)]
    inside = [all(abs(p - c) < h for p, c, h in zip(point, center, half, strict=True)) for point in points]
    return sum(inside) / len(points)


def test_the_published_cuboid_drops_as_many_points_as_its_definition():
    points, config = spinning_cloud(), ImageAugment()
    rng, dice = np.random.default_rng(0), random.Random(1)
    ours = [1 - cuboid_keep(points, Pairs.concatenate([]), 0, rng, config).mean() for _ in range(2000)]
    coarse = [tuple(map(float, point)) for point in points[::16]]
    slow = [slow_published_share(coarse, dice) for _ in range(2000)]
    assert np.mean(ours) == pytest.approx(np.mean(slow), abs=0.02)
    np.testing.assert_allclose(np.quantile(ours, (0.5, 0.9)), np.quantile(slow, (0.5, 0.9)), atol=0.05)
    per_axis = config.model_copy(update={"cuboid": "per_axis"})
    others = [1 - cuboid_keep(points, Pairs.concatenate([]), 0, rng, per_axis).mean() for _ in range(2000)]
    assert np.quantile(others, 0.9) < np.quantile(ours, 0.9) - 0.05


def test_the_published_cuboid_is_tried_once_and_the_other_often():
    points = spinning_cloud()
    point = np.arange(0, len(points), 4)
    uv = np.zeros((len(point), 2), np.float32)
    pairs = Pairs(point, np.zeros(len(point), np.int64), uv, np.zeros(len(point), np.uint8))
    dropped = {}
    for form in ("published", "per_axis"):
        config = ImageAugment(cuboid=form, min_pairs=int(0.95 * len(point)), tries=50)
        keeps = [cuboid_keep(points, pairs, 1, np.random.default_rng(seed), config) for seed in range(200)]
        assert min(keep[point].sum() for keep in keeps) >= config.min_pairs
        dropped[form] = np.mean([not keep.all() for keep in keeps])
    assert dropped["published"] < 0.8
    assert dropped["per_axis"] == 1


def test_dropping_points_re_points_the_pairs(tmp_path):
    frame = make_frame(tmp_path)
    pairs = find_pairs(frame)
    keep = np.random.default_rng(2).random(len(frame.points_lidar_m)) < 0.7
    after = drop_points(keep, pairs)
    survivors = pairs.select(keep[pairs.point])
    np.testing.assert_array_equal(frame.points_lidar_m[keep][after.point], frame.points_lidar_m[survivors.point])
