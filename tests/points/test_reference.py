"""Points and balls against what the published detectors pick."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from builders.detection import golden, real_golden, real_kitti
from olivine.points import ball_query, furthest_points

BALLS = ((0.4, 16), (0.8, 16), (1.2, 32), (6.0, 32))


def whole(points):
    return torch.tensor([0, len(points)])


def furthest(points, count):
    return furthest_points(points, whole(points), count)[0].numpy()


def test_points_that_tie_are_picked_as_published():
    reference = golden("fps_ball_query_sim.npz")
    points = torch.from_numpy(reference["ties/points"])
    np.testing.assert_array_equal(furthest(points, 64), reference["ties/index"])


def check_frame(points, reference, name):
    assert len(points) == int(reference[f"{name}/num_points"])
    found, safe = furthest(points, 2048), int(reference[f"{name}/safe_prefix"])
    np.testing.assert_array_equal(found[:safe], reference[f"{name}/index"][:safe])
    # Beyond it the reference ties and rounds as we do.
    np.testing.assert_array_equal(found, reference[f"{name}/index"])
    np.testing.assert_array_equal(furthest(points.double(), 2048)[:safe], found[:safe])


def test_furthest_points_of_a_simulated_scan_are_the_published_ones():
    prep = golden("kitti_prep_sim.npz")
    points = torch.from_numpy(prep["sim_points"][prep["in_range_index"], :3])
    check_frame(points, golden("fps_ball_query_sim.npz"), "sim")


@pytest.mark.real
@pytest.mark.parametrize("frame", ["000000", "000008", "000010"])
def test_furthest_points_of_a_real_scan_are_the_published_ones(frame):
    folder, reference = real_kitti(), real_golden("fps_ball_query.npz")
    prep = real_golden(f"kitti_prep_{frame}.npz")
    scan = np.fromfile(next(folder.rglob(f"velodyne/{frame}.bin")), np.float32).reshape(-1, 4)
    check_frame(torch.from_numpy(scan[prep["in_range_index"], :3]), reference, frame)


@pytest.mark.parametrize(("radius", "samples"), BALLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_balls_hold_the_published_points(radius, samples, dtype):
    reference = golden("fps_ball_query_sim.npz")
    points, centres = (torch.from_numpy(reference[f"ball/{name}"]).to(dtype) for name in ("points", "centres"))
    found = ball_query(points, whole(points), centres, whole(centres), radius, samples).numpy()
    empty = reference[f"ball/r{radius}_n{samples}/empty"]
    assert empty.any()
    np.testing.assert_array_equal(found[empty], -1)
    np.testing.assert_array_equal(found[~empty], reference[f"ball/r{radius}_n{samples}/index"][~empty])
