"""What scans lose in training and where they are scored, and that everything of a point goes with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from builders.frames import make_frame
from builders.rings import ringed_frame
from olivine.data.augment import CloudAugment, ImageAugment
from olivine.data.frame import Boxes
from olivine.data.needs import Needs
from olivine.data.pairs import find_pairs
from olivine.data.prepare import Augmentation, Prepare
from olivine.data.resample import Resample, resampled
from olivine.data.thinning import BeamDropout, does_without, thinned, trained_without, with_rings
from olivine.data.voxelize import CartesianVoxels
from olivine.errors import UserError

GRID = CartesianVoxels(size_m=(0.01, 0.01, 0.01))
STILL = {"rotate": False, "flip": False}


def rng(seed=0):
    return np.random.default_rng(seed)


def rows_in(frame, points):
    """The row of a frame that each point is."""
    row = {tuple(point): index for index, point in enumerate(frame.points_lidar_m.tolist())}
    return np.array([row[tuple(point)] for point in points.tolist()])


def test_nothing_is_drawn_and_nothing_copied_without_it():
    frame, _ = ringed_frame()
    generator = rng()
    assert thinned(frame, generator, None, 0.0) is frame
    assert generator.random() == rng().random()


@pytest.mark.parametrize("every", [2, 3, 4])
def test_a_thinned_scan_has_every_nth_beam_whole(every):
    frame, beam = ringed_frame(columns=60)
    firsts = set()
    for seed in range(12):
        left = thinned(frame, rng(seed), BeamDropout(probability=1, every=(every,)), 0.0)
        (first,) = set(beam[rows_in(frame, left.points_lidar_m)] % every)
        firsts.add(first)
        np.testing.assert_array_equal(left.points_lidar_m, frame.points_lidar_m[beam % every == first])
        np.testing.assert_array_equal(left.labels, frame.labels[beam % every == first])
        np.testing.assert_array_equal(left.intensity, frame.intensity[beam % every == first])
    assert firsts == set(range(every))


def test_beams_are_dropped_as_often_as_the_probability_says_and_each_step_alike():
    frame, _ = ringed_frame(columns=40)
    shares = [
        len(thinned(frame, rng(seed), BeamDropout(probability=0.6), 0.0).points_lidar_m) / len(frame.points_lidar_m)
        for seed in range(400)
    ]
    whole, half, quarter = (np.mean(np.abs(np.array(shares) - share) < 0.06) for share in (1, 0.5, 0.25))
    assert 0.33 < whole < 0.47
    assert 0.23 < half < 0.37
    assert 0.23 < quarter < 0.37
    assert whole + half + quarter == pytest.approx(1)


def test_points_are_dropped_one_by_one_up_to_a_share():
    frame, _ = ringed_frame()
    config = BeamDropout(probability=0, drop_points=0.4)
    shares = [len(thinned(frame, rng(seed), config, 0.0).points_lidar_m) for seed in range(60)]
    shares = 1 - np.array(shares) / len(frame.points_lidar_m)
    assert 0 <= shares.min() < 0.05
    assert 0.35 < shares.max() < 0.41


def test_intensities_are_all_dropped_or_none():
    frame, _ = ringed_frame(columns=40)
    lost = [not thinned(frame, rng(seed), None, 0.3).intensity.any() for seed in range(200)]
    assert 0.22 < np.mean(lost) < 0.38
    kept = [thinned(frame, rng(seed), None, 0.3) for seed, gone in enumerate(lost) if not gone]
    assert all(each is frame for each in kept)
    without = replace(frame, intensity=None)
    assert thinned(without, rng(), None, 1.0) is without


def test_a_scan_never_loses_everything(tmp_path):
    frame = make_frame(tmp_path)
    one = replace(frame, rings=np.full(len(frame.points_lidar_m), 1, np.uint16))
    left = [
        len(thinned(one, rng(seed), BeamDropout(probability=1, every=(2,)), 0.0).points_lidar_m) for seed in (0, 1, 2)
    ]
    assert set(left) == {len(frame.points_lidar_m)}


def test_pairs_labels_and_pixels_are_those_of_the_points_that_are_left(tmp_path):
    frame = make_frame(tmp_path)
    rings = rng(1).integers(0, 32, len(frame.points_lidar_m)).astype(np.uint16)
    frame = replace(frame, rings=rings)
    augment = CloudAugment(**STILL, beams=BeamDropout(probability=1, every=(2,)))
    images = ImageAugment(size=(96, 64), crop=False, flip=0, drop_cuboid=0)
    needs = Needs(images=True, weak_labels=True, labels=True)
    sample = Prepare(GRID, Augmentation(augment, images), needs)(frame, rng())
    row = rows_in(frame, sample.cloud.points_m)
    assert len(set(rings[row] % 2)) == 1
    assert 0.4 < len(row) / len(rings) < 0.6
    np.testing.assert_array_equal(sample.cloud.labels, frame.labels[row])
    whole = find_pairs(frame)
    of_pair = {(point, camera): (*uv, label) for point, camera, uv, label in
               zip(whole.point, whole.camera, whole.uv, whole.label, strict=True)}  # fmt: skip
    seen = sample.pairs
    assert len(seen.point) == sum(point in set(row) for point in whole.point)
    for point, camera, uv, label in zip(seen.point, seen.camera, seen.uv, seen.label, strict=True):
        expected = of_pair[row[point], camera]
        np.testing.assert_allclose(uv, expected[:2], atol=1e-3)
        assert label == expected[2]


def test_two_views_of_one_scan_have_lost_the_same_and_match_by_point():
    frame, beam = ringed_frame(columns=100)
    augment = Augmentation(CloudAugment(**STILL, beams=BeamDropout(probability=1, every=(4,))))
    sample = Prepare(GRID, augment, Needs(second="scan", match=True))(frame, rng(), frame)
    first, second = sample.cloud.points_m, sample.second.cloud.points_m
    np.testing.assert_array_equal(first, second)
    assert len(set(beam[rows_in(frame, first)] % 4)) == 1
    match = sample.second.match
    assert len(match) == len(sample.cloud.features)
    np.testing.assert_array_equal(match[:, 0], match[:, 1])


def test_a_neighbouring_frame_is_thinned_by_draws_of_its_own():
    pose = np.eye(4)
    frame, beam = ringed_frame(0, columns=100)
    other, other_beam = ringed_frame(1, columns=100)
    frame, other = replace(frame, global_from_lidar=pose), replace(other, global_from_lidar=pose)
    augment = Augmentation(CloudAugment(**STILL, beams=BeamDropout(probability=1)))
    prepare = Prepare(GRID, augment, Needs(second="frame", match=True))
    kept = set()
    for seed in range(12):
        sample = prepare(frame, rng(seed), other)
        mine = set(beam[rows_in(frame, sample.cloud.points_m)])
        theirs = set(other_beam[rows_in(other, sample.second.cloud.points_m)])
        kept.add((len(mine), len(theirs)))
    assert kept == {(32, 32), (32, 16), (16, 32), (16, 16)}


def test_boxes_stay_with_a_thinned_cloud():
    frame, _ = ringed_frame()
    boxes = Boxes(np.array([[5.0, 1, -1, 4, 2, 1.5, 0.3]]), ("Car",))
    augment = Augmentation(CloudAugment(**STILL, beams=BeamDropout(probability=1)))
    sample = Prepare(GRID, augment, Needs(boxes=("Car",)))(replace(frame, boxes=boxes), rng())
    np.testing.assert_allclose(sample.boxes.values, boxes.boxes, rtol=1e-6)
    assert len(sample.cloud.points_m) < 0.6 * len(frame.points_lidar_m)


def test_without_rings_a_frame_keeps_those_that_its_order_tells_when_it_is_reordered():
    frame, beam = ringed_frame()
    order = rng().permutation(len(beam))
    shuffled = with_rings(frame).take(order)
    np.testing.assert_array_equal(shuffled.rings, beam[order])
    left = thinned(shuffled, rng(), BeamDropout(probability=1, every=(2,)), 0.0)
    assert len(set(left.rings % 2)) == 1


@pytest.mark.parametrize(("beams", "every"), [(64, 1), (32, 2), (16, 4), (21, 3)])
def test_a_scan_is_resampled_to_fewer_beams(beams, every):
    frame, beam = ringed_frame()
    left = resampled(frame, beams)
    np.testing.assert_array_equal(left.points_lidar_m, frame.points_lidar_m[beam % every == 0])
    np.testing.assert_array_equal(left.labels, frame.labels[beam % every == 0])


@pytest.mark.parametrize("beams", [128, 50, 40])
def test_a_scan_of_no_multiple_of_the_beams_is_refused(beams):
    frame, _ = ringed_frame()
    with pytest.raises(UserError, match=f"frame-0.*eval_beams={beams}, but the scan has 64 beams"):
        resampled(frame, beams)


def test_what_is_scored_are_the_points_of_the_beams_that_are_left():
    frame, beam = ringed_frame()
    sample = Resample(Prepare(GRID, needs=Needs(labels=True)), 16)(frame, rng())
    np.testing.assert_array_equal(sample.cloud.labels, frame.labels[beam % 4 == 0])


def test_weights_say_which_fields_a_network_can_do_without():
    assert trained_without(0.2, reads_intensity=True) == ["intensity"]
    assert trained_without(0.0, reads_intensity=False) == ["intensity"]
    assert trained_without(0.0, reads_intensity=True) == []
    assert does_without({"trained_without": ["intensity"]}, "intensity")
    assert not does_without({"trained_without": [], "voxels": {"features": ["z"]}}, "intensity")
    assert does_without({"voxels": {"features": ["x", "z"]}}, "intensity")
    assert not does_without({"voxels": {"features": ["intensity"]}}, "intensity")
    assert not does_without({"voxels": {"features": ["x"]}, "detector": {}}, "intensity")
    assert not does_without({}, "intensity")
