from dataclasses import replace

import numpy as np
import pytest
import torch

from builders.frames import make_frame
from olivine.data.augment import CloudAugment, ImageAugment
from olivine.data.collate import collate
from olivine.data.needs import Needs
from olivine.data.pairs import PairConfig, find_pairs
from olivine.data.prepare import Augmentation, Prepare
from olivine.data.voxelize import CartesianVoxels, CylindricalVoxels
from olivine.errors import UserError

IMAGES = ImageAugment(size=(48, 32), min_pairs=5)


SEEN, LABELLED = Needs(images=True), Needs(images=True, weak_labels=True)


def prepare_all(tmp_path, seeds=(0, 1, 2), *, voxels=None, needs=LABELLED, **augment):
    augmentation = Augmentation(**{"cloud": CloudAugment(), "images": IMAGES, **augment})
    prepare = Prepare(voxels or CylindricalVoxels(), augmentation, needs)
    return [prepare(make_frame(tmp_path, seed=seed), np.random.default_rng(seed)) for seed in seeds]


def test_pairs_of_a_batch_point_at_the_voxel_of_their_point(tmp_path):
    samples = prepare_all(tmp_path)
    batch = collate(samples, seed=5)
    pairs, cloud = batch.pairs, batch.cloud
    assert batch.images.shape == (6, 3, 32, 48)
    assert len(pairs.point) > 100
    torch.testing.assert_close(pairs.voxel, cloud.point_voxel[pairs.point])
    frame_of_point = torch.searchsorted(cloud.point_offsets, pairs.point, right=True) - 1
    torch.testing.assert_close(frame_of_point, pairs.image // 2)
    torch.testing.assert_close(cloud.coordinates[pairs.voxel, 0].long(), frame_of_point)


def test_coordinates_of_a_batch_are_those_of_its_points(tmp_path):
    batch = collate(prepare_all(tmp_path, needs=Needs(), voxels=CartesianVoxels(size_m=(0.5, 0.5, 0.5))), seed=0)
    expected = torch.floor(batch.cloud.points_m / 0.5).int()
    assert torch.equal(batch.cloud.coordinates[batch.cloud.point_voxel, 1:], expected)
    assert len(torch.unique(batch.cloud.coordinates, dim=0)) == len(batch.cloud.coordinates)


def test_weak_labels_are_the_mask_pixel_under_the_original_point(tmp_path):
    frame = make_frame(tmp_path)
    config = ImageAugment(size=(48, 32), min_pairs=5, drop_cuboid=0)
    sample = Prepare(CylindricalVoxels(), Augmentation(images=config), Needs(images=True, weak_labels=True))(
        frame, np.random.default_rng(0)
    )
    original = find_pairs(frame)
    by_pair = dict(zip(zip(original.point, original.camera, strict=True), original.label, strict=True))
    assert all(
        by_pair[point, camera] == label
        for point, camera, label in zip(sample.pairs.point, sample.pairs.camera, sample.pairs.label, strict=True)
    )
    assert {0, 1, 2, 255} == set(np.unique(sample.pairs.label))


def test_range_is_measured_before_augmentation(tmp_path):
    samples = prepare_all(tmp_path, seeds=(0,), cloud=CloudAugment(scale=0.3))
    points = make_frame(tmp_path).points_lidar_m
    ranges = np.sort(np.hypot(points[:, 0], points[:, 1]))
    nearest = ranges[np.clip(np.searchsorted(ranges, samples[0].range_m), 0, len(ranges) - 1)]
    np.testing.assert_allclose(samples[0].range_m, nearest, rtol=1e-4)


def test_three_d_labels_are_carried_only_when_asked_for(tmp_path):
    hidden = collate(prepare_all(tmp_path), seed=0)
    assert hidden.cloud.voxel_labels is None
    assert hidden.cloud.point_labels is None
    shown = collate(prepare_all(tmp_path, needs=Needs(labels=True)), seed=0)
    frames = [make_frame(tmp_path, seed=seed) for seed in range(3)]
    assert torch.equal(shown.cloud.point_labels, torch.from_numpy(np.concatenate([f.labels for f in frames])).long())
    first = torch.full((len(shown.cloud.coordinates),), -1)
    for point in reversed(range(len(shown.cloud.point_voxel))):
        first[shown.cloud.point_voxel[point]] = shown.cloud.point_labels[point]
    assert torch.equal(first, shown.cloud.voxel_labels)


def test_points_outside_the_grid_have_no_voxel_and_no_pairs(tmp_path):
    grid = CartesianVoxels(size_m=(1, 1, 1), bounds_m=(0, -10, -5, 20, 10, 5))
    batch = collate(prepare_all(tmp_path, voxels=grid), seed=0)
    outside = batch.cloud.point_voxel < 0
    assert 0.5 < outside.float().mean() < 1
    assert (batch.pairs.voxel >= 0).all()


def test_the_same_key_gives_the_same_sample_and_another_key_another(tmp_path):
    one, again = prepare_all(tmp_path, (3,))[0], prepare_all(tmp_path, (3,))[0]
    np.testing.assert_array_equal(one.cloud.points_m, again.cloud.points_m)
    np.testing.assert_array_equal(one.images, again.images)
    other = Prepare(CylindricalVoxels(), Augmentation(CloudAugment(), IMAGES), SEEN)(
        make_frame(tmp_path, seed=3), np.random.default_rng(4)
    )
    assert not np.array_equal(one.images, other.images)


@pytest.mark.parametrize("field", ["points_lidar_m", "intensity"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_scan_with_points_that_are_not_finite_is_refused_by_name(tmp_path, field, value):
    frame = make_frame(tmp_path)
    broken = getattr(frame, field).copy()
    broken[3:5] = value
    with pytest.raises(UserError, match=f"{frame.token}.*: 2 of {len(broken)} points are not finite"):
        Prepare(CylindricalVoxels())(replace(frame, **{field: broken}), np.random.default_rng(0))


def test_a_point_too_far_away_for_the_grid_is_refused_by_the_frames_name(tmp_path):
    frame = make_frame(tmp_path)
    points = frame.points_lidar_m.copy()
    points[7] = [1e30, 0, 0]
    with pytest.raises(UserError, match=f"{frame.token}.*: 1 of {len(points)} points lie"):
        Prepare(CylindricalVoxels())(replace(frame, points_lidar_m=points), np.random.default_rng(0))


def test_the_occlusion_filter_drops_pairs_behind_a_wall(tmp_path):
    frame = make_frame(tmp_path, sizes=((96, 64),))
    wall = frame.points_lidar_m.copy()
    y, z = np.meshgrid(np.linspace(-4, 4, 50), np.linspace(-2, 2, 30))
    wall[:1500] = np.stack((np.full(1500, 5.0), y.reshape(-1), z.reshape(-1)), 1)
    wall[1500:1540] = np.random.default_rng(0).uniform((20, -4, -2), (20, 4, 2), (40, 3))
    frame = replace(frame, points_lidar_m=wall[:1540], intensity=frame.intensity[:1540], labels=None)
    everything = find_pairs(frame)
    seen = find_pairs(frame, occlusion_m=0.5)
    assert (everything.point >= 1500).sum() == 40
    assert (seen.point >= 1500).sum() == 0
    assert (seen.point < 1500).sum() == (everything.point < 1500).sum() > 500
    assert PairConfig().occlusion_m is None


def test_what_belongs_to_a_point_stays_with_it_when_others_are_dropped(tmp_path):
    frame = make_frame(tmp_path)
    prepare = Prepare(
        CartesianVoxels(size_m=(0.01, 0.01, 0.01)), Augmentation(images=IMAGES), Needs(images=True, labels=True)
    )
    sample = prepare(frame, np.random.default_rng(0))
    of_point = {tuple(point): row for row, point in enumerate(frame.points_lidar_m.tolist())}
    rows = [of_point[tuple(point)] for point in sample.cloud.points_m.tolist()]
    assert 2000 < len(rows) < 3000
    np.testing.assert_array_equal(sample.cloud.labels, frame.labels[rows])
    first = np.array(rows)[sample.cloud.voxels.first_point]
    np.testing.assert_allclose(sample.cloud.features[:, 0], frame.intensity[first] / 255, rtol=1e-6)


def test_points_no_camera_sees_can_be_dropped(tmp_path):
    frame = make_frame(tmp_path)
    config = ImageAugment(size=(48, 32), crop=False, drop_cuboid=0)
    prepare = Prepare(
        CylindricalVoxels(), Augmentation(images=config, pairs=PairConfig(drop_unseen=True)), Needs(images=True)
    )
    sample = prepare(frame, np.random.default_rng(0))
    seen = np.unique(find_pairs(frame).point)
    np.testing.assert_array_equal(sample.cloud.points_m, frame.points_lidar_m[seen])
    np.testing.assert_array_equal(np.unique(sample.pairs.point), np.arange(len(seen)))


def test_points_beyond_the_radius_are_no_part_of_a_cloud_that_images_teach(tmp_path):
    frame = make_frame(tmp_path)
    reach = float(np.median(np.hypot(*frame.points_lidar_m[:, :2].T)))
    grid = CartesianVoxels(size_m=(1, 1, 1), bounds_m=(-64, -64, -3, 64, 64, 1), radius_m=reach)
    config = ImageAugment(size=(48, 32), crop=False, drop_cuboid=0)
    sample = Prepare(grid, Augmentation(CloudAugment(), images=config), SEEN)(frame, np.random.default_rng(0))
    x, y, z = frame.points_lidar_m.T
    kept = np.flatnonzero((np.hypot(x, y) <= np.float32(reach)) & (z >= -3) & (z <= 1))
    assert 0 < len(kept) < len(x) / 2 + 1
    np.testing.assert_array_equal(sample.cloud.row, kept)
    assert len(sample.pairs.point) > 0
    assert (sample.range_m <= np.float32(reach)).all()


def test_a_frame_without_cameras_is_refused_where_images_are_wanted(tmp_path):
    frame = make_frame(tmp_path, sizes=())
    with pytest.raises(UserError, match="frame frame-0 of scene has no camera images"):
        Prepare(CylindricalVoxels(), Augmentation(images=IMAGES), SEEN)(frame, np.random.default_rng(0))


def test_the_published_cuboid_follows_the_axes_of_the_augmented_cloud(tmp_path):
    frame = make_frame(tmp_path, points=20_000)
    rotated = 0
    for seed in range(12):
        config = ImageAugment(size=(48, 32), min_pairs=5, drop_cuboid=0.9)
        sample = Prepare(CylindricalVoxels(), Augmentation(CloudAugment(), config), SEEN)(
            frame, np.random.default_rng(seed)
        )
        all_m = frame.points_lidar_m @ sample.cloud.augmented_from_lidar.T
        gone = np.ones(len(all_m), np.bool_)
        gone[sample.cloud.row] = False
        if gone.sum() < 50:
            continue
        low, high = all_m[gone].min(0), all_m[gone].max(0)
        assert ((all_m >= low) & (all_m <= high)).all(1).sum() == gone.sum()
        own = frame.points_lidar_m
        low, high = own[gone].min(0), own[gone].max(0)
        rotated += ((own >= low) & (own <= high)).all(1).sum() > 1.2 * gone.sum()
    assert rotated >= 3


@pytest.mark.parametrize(("scaling", "top"), [("unit", 1), ("raw", 255)])
def test_points_have_intensities_where_asked_for_in_the_range_of_the_voxels_features(tmp_path, scaling, top):
    voxels = CartesianVoxels(size_m=(1, 1, 1), bounds_m=(0, -20, -3, 20, 20, 3), intensity=scaling)
    samples = prepare_all(tmp_path, needs=Needs(intensities=True), voxels=voxels)
    cloud = collate(samples, seed=0).cloud
    frames = [make_frame(tmp_path, seed=seed) for seed in (0, 1, 2)]
    expected = np.concatenate([frame.intensity / (frame.intensity_max / top) for frame in frames])
    np.testing.assert_allclose(cloud.intensity, expected, rtol=1e-6)
    assert cloud.intensity.dtype == torch.float32
    assert (cloud.point_voxel < 0).any()  # points outside the grid have theirs too
    first = torch.stack([cloud.point_voxel == voxel for voxel in range(9)]).int().argmax(1)
    assert torch.equal(cloud.intensity[first], cloud.features[:9, 0])
    assert collate(prepare_all(tmp_path, needs=Needs()), seed=0).cloud.intensity is None


def test_intensities_outside_the_formats_range_are_refused_where_points_have_them(tmp_path):
    frame = make_frame(tmp_path, seed=0)
    broken = replace(frame, intensity=frame.intensity + 200)
    Prepare(CylindricalVoxels(features=("z",)))(broken, np.random.default_rng(0))
    with pytest.raises(UserError, match="intensities lie outside"):
        Prepare(CylindricalVoxels(features=("z",)), needs=Needs(intensities=True))(broken, np.random.default_rng(0))
