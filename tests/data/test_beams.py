"""Which beam measured a point: against scans whose beams are known, and against real ones."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders.frames import make_frame
from builders.rings import central, kitti_like, ringed_frame
from olivine.data.beams import beams_like, beams_of, by_elevation, by_rows, ring_column
from olivine.errors import UserError

REAL = Path(os.environ.get("OLIVINE_REAL_DATA", ""))
needs_real = pytest.mark.skipif("OLIVINE_REAL_DATA" not in os.environ, reason="OLIVINE_REAL_DATA is not set")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("moved_m", [0.0, 2.0])
def test_rings_are_unfolded_from_rows_in_kittis_order(seed, moved_m):
    points, beam = kitti_like(seed, moved_m=moved_m)
    np.testing.assert_array_equal(by_rows(points), beam)


def test_elevations_do_not_tell_the_rings_of_a_sensor_whose_beams_leave_apart():
    assert by_elevation(kitti_like()[0]) is None


def test_a_step_back_across_the_beginning_of_a_ring_begins_no_ring():
    points, beam = kitti_like(returns=1.0)
    starts = np.flatnonzero(np.diff(beam)) + 1
    order = np.arange(len(points))
    for start in starts[3::7]:  # the first point of a ring before the last of the one above, as jitter has it
        order[[start - 1, start]] = order[[start, start - 1]]
    found = by_rows(points[order])
    wrong = np.flatnonzero(found != beam[order])
    assert found.max() == 63
    assert len(wrong) <= 2 * len(starts[3::7])


def test_a_scan_cut_to_a_field_of_view_keeps_its_rings():
    points, beam = kitti_like(1)
    ahead = np.abs(np.arctan2(points[:, 1], points[:, 0])) < np.radians(40)
    np.testing.assert_array_equal(by_rows(points[ahead]), beam[ahead])


@pytest.mark.parametrize("by_column", [True, False])
@pytest.mark.parametrize("beams", [16, 32, 64])
def test_elevations_tell_the_beams_of_a_sensor_whose_beams_leave_from_one_point(beams, by_column):
    points, beam = central(beams=beams, by_column=by_column)
    returned = points.any(axis=1)
    np.testing.assert_array_equal(by_elevation(points)[returned], beam[returned])
    assert by_rows(points) is None


@pytest.mark.parametrize("points", [0, 1, 5, 60, 200, 2000])
def test_few_points_anywhere_have_no_beams(points):
    cloud = np.random.default_rng(points).uniform(-20, 20, (points, 3)).astype(np.float32)
    assert by_elevation(cloud) is None
    assert by_rows(cloud) is None


def test_points_without_any_order_have_no_beams(tmp_path):
    frame = make_frame(tmp_path)
    with pytest.raises(UserError, match=r"frame-0.*cannot tell which beam"):
        beams_of(frame)
    points, _ = kitti_like()
    assert by_rows(np.random.default_rng(0).permutation(points)) is None


def test_the_rings_that_the_data_give_are_taken(tmp_path):
    frame = make_frame(tmp_path)
    rings = np.random.default_rng(0).integers(0, 32, len(frame.points_lidar_m)).astype(np.uint16)
    np.testing.assert_array_equal(beams_of(replace(frame, rings=rings)), rings)


@pytest.mark.parametrize(
    ("column", "taken"),
    [([0, 5, 31], True), ([0, 0, 0], False), ([0, 0.5, 31], False), ([-1, 5, 31], False), ([0, 5, np.nan], False),
     ([0, 5, 70000], False), ([], False)],
)  # fmt: skip
def test_a_column_is_of_rings_where_it_holds_such_numbers(column, taken):
    assert (ring_column(np.array(column, np.float32)) is not None) == taken


def test_points_of_another_scan_have_the_beams_of_what_lies_about_them():
    frame, beam = ringed_frame(0, moved_m=0.0)
    points, true = kitti_like(1, moved_m=0.0)
    assert (beams_like(points, frame, beam) == true).mean() > 0.95
    np.testing.assert_array_equal(beams_like(frame.points_lidar_m, frame, beam), beam)
    assert beams_like(points[:0], frame, beam).shape == (0,)


@needs_real
def test_every_real_scan_of_kitti_has_64_rings_the_lower_below_the_higher():
    scans = [*REAL.glob("semantickitti-mini/dataset/sequences/*/velodyne/*.bin")][::4]
    scans += [*REAL.glob("kitti-object/training/velodyne/*.bin")][::4]
    assert scans
    for path in scans:
        points = np.fromfile(path, np.float32).reshape(-1, 4)[:, :3]
        ring = by_rows(points)
        elevation = np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))
        middle = [np.median(elevation[ring == each]) for each in range(64)]
        assert ring.max() == 63
        assert (np.diff(middle) < 0).all()
        assert np.bincount(ring).min() > 300


@needs_real
def test_the_columns_of_a_real_ouster_scan_have_its_64_beams():
    (path,) = REAL.glob("rellis-3d/**/os1_cloud_node_kitti_bin/*.bin")
    points = np.fromfile(path, np.float32).reshape(-1, 4)[:, :3]
    beam = by_elevation(points)
    row = np.arange(len(points)) % 64
    returned = points.any(axis=1)
    for each in range(64):
        assert set(beam[returned & (row == each)]) == {63 - each}
