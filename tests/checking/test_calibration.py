"""Verdicts on calibrations: errors that are put in are found and mended, what cannot be told is left open."""

from __future__ import annotations

import json
import os
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from builders.spoilt import CAMERA_FROM_LIDAR, SIZE, SPEED_MPS, Street, build_street
from olivine.checking.alignment import Alignment, Peak, View, moved
from olivine.checking.calibration import find
from olivine.checking.cameras import judge_calibration, twist_of, view_of
from olivine.checking.check import CheckReport
from olivine.checking.edges import ACROSS, ANY, CloudEdges, ImageEdges, cloud_edges, image_edges
from olivine.geometry import invert, rigid_transform

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "calibration.py"


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Street:
    return build_street(tmp_path_factory.mktemp("street"))


def turned(rotation_deg) -> np.ndarray:
    return rigid_transform(Rotation.from_rotvec(np.radians(rotation_deg)).as_matrix(), np.zeros(3))


def left_deg(matrix: np.ndarray) -> float:
    """Angle between a suggested calibration and the right one."""
    return float(np.degrees(Rotation.from_matrix((matrix @ invert(CAMERA_FROM_LIDAR))[:3, :3]).magnitude()))


def test_the_right_calibration_is_fine(street):
    (verdict,) = judge_calibration(street)
    assert verdict.word == "fine"
    assert (verdict.camera, verdict.images) == ("CAM_FRONT", 6)
    assert left_deg(verdict.suggested) < 0.3
    assert "no sign that the calibration is off" in verdict.lines()[0]
    assert verdict.as_json()["suggested_camera_from_lidar"] is None


@pytest.mark.parametrize("rotation_deg", [(1.0, 0, 0), (0, -1.4, 0), (0, 0, 2.0), (0.8, -0.9, 0)])
def test_a_turned_camera_is_off_and_the_suggestion_turns_it_back(street, rotation_deg):
    (verdict,) = judge_calibration(street.recalibrated(turned(rotation_deg)))
    assert verdict.word == "off"
    assert verdict.findings.confidence > 0.95
    assert left_deg(verdict.suggested) < 0.3
    first, second = verdict.lines()
    assert "try this matrix:" in first
    matrix = json.loads(second.split(": ", 1)[1].split("  #")[0])
    np.testing.assert_allclose(matrix, verdict.suggested, atol=1e-6)
    report = CheckReport(calibration=[verdict])
    assert report.warnings == [first]
    assert report.as_json()["calibration"][0]["verdict"] == "off"


def test_images_of_later_are_late(street):
    """The images belong to the clouds of 0.1 s before, which the vehicle's motion carries to where they are seen."""
    shift_m = SPEED_MPS * 0.1
    early = [
        replace(frame, points_lidar_m=frame.points_lidar_m + np.float32([shift_m, 0, 0])) for frame in street.frames
    ]
    (verdict,) = judge_calibration(Street(early))
    assert verdict.word == "off"
    assert verdict.findings.late_s == pytest.approx(0.1, abs=0.02)
    said = f"look {verdict.findings.late_s * 1000:.0f} ms late"
    assert said in verdict.lines()[0]


def test_too_few_edges_and_images_without_any_cannot_be_told(street, tmp_path):
    one = replace(street[2], points_lidar_m=street[2].points_lidar_m[::40], intensity=street[2].intensity[::40])
    (few,) = judge_calibration(Street([one]))
    assert few.word == "cannot tell"
    assert "edges in view" in few.lines()[0]
    noise = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    noisy = [
        replace(frame, cameras=(replace(frame.cameras[0], image_path=tmp_path / "noise.png"),))
        for frame in street.frames
    ]
    (nothing,) = judge_calibration(Street(noisy))
    assert nothing.word == "cannot tell"


def test_a_dataset_without_cameras_or_readable_images_has_no_verdict(street, tmp_path):
    assert judge_calibration(Street([replace(frame, cameras=()) for frame in street.frames])) == []
    gone = [
        replace(frame, cameras=(replace(frame.cameras[0], image_path=tmp_path / "gone.png"),))
        for frame in street.frames
    ]
    assert judge_calibration(Street(gone)) == []


def test_without_intensities_only_depth_is_looked_at_and_no_wolf_is_cried(street):
    plain = Street([replace(frame, intensity=None) for frame in street.frames])
    (verdict,) = judge_calibration(plain)
    assert verdict.word != "off"
    edges = cloud_edges(plain[0].points_lidar_m, None, plain[0].cameras[0])
    assert len(edges) > 0
    assert ANY not in edges.kinds


def test_the_motion_is_that_of_the_poses(street):
    np.testing.assert_allclose(twist_of(street, 2)[[3, 5]], [SPEED_MPS, 0], atol=1e-6)
    assert twist_of(Street([replace(street[0], global_from_lidar=None)]), 0) is None
    assert twist_of(Street(street.frames[:1]), 0) is None


def test_edges_stand_where_depth_jumps_and_on_the_nearer_side(street):
    """A wall of 4 m before one of 20 m: the edge is the wall's last point, seen from the LiDAR."""
    y, z = np.meshgrid(np.arange(-6, 6, 0.04), np.arange(-0.4, 0.4, 0.04))
    near = np.abs(y) < 1
    wall = np.stack((np.where(near, 4.0, 20.0), np.where(near, y, 5 * y), np.where(near, z, 5 * z)), -1).reshape(-1, 3)
    edges = cloud_edges(wall, np.zeros(len(wall)), street[0].cameras[0])
    across = edges.points_lidar_m[edges.kinds == ACROSS]
    np.testing.assert_allclose(across[:, 0], 4)
    np.testing.assert_allclose(np.abs(across[:, 1]), 0.98, atol=0.03)


def test_the_score_is_the_mean_of_the_map_at_the_projected_edges():
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(3, 20, 30)).astype(np.float32)
    points = np.column_stack((rng.uniform(-0.5, 0.5, 50), rng.uniform(-0.3, 0.3, 50), np.ones(50))).astype(np.float32)
    weights, kinds = rng.uniform(0.1, 1, 50).astype(np.float32), rng.integers(0, 3, 50).astype(np.uint8)
    intrinsics = np.array([[20.0, 0, 14.5], [0, 20.0, 9.5], [0, 0, 1]])
    view = View(CloudEdges(points, weights, kinds), ImageEdges(maps, intrinsics, 1.0), np.eye(4))
    total = weight = 0.0
    for point, share, kind in zip(points, weights, kinds, strict=True):
        column, row = round(float(20 * point[0] + 14.5)), round(float(20 * point[1] + 9.5))
        if 0 <= column < 30 and 0 <= row < 20:
            total, weight = total + share * maps[kind, row, column], weight + share
    alignment = Alignment([view])
    assert alignment.score(np.zeros(3)) == pytest.approx(total / weight, rel=1e-5)
    sums = alignment.sums(np.zeros(3))
    assert (sums[0].sum(), sums[1].sum()) == pytest.approx((total, weight), rel=1e-5)


def test_a_view_of_later_is_where_the_vehicle_has_driven_to():
    view = View(None, None, CAMERA_FROM_LIDAR, np.array([0, 0, 0.2, 8.0, 0, 0]))  # type: ignore[arg-type]
    point = np.array([20.0, 1.0, 0.5, 1.0])
    turn = Rotation.from_rotvec([0, 0, 0.02]).as_matrix()
    expected = CAMERA_FROM_LIDAR @ np.append(turn.T @ (point[:3] - [0.8, 0, 0]), 1)
    np.testing.assert_allclose(moved(view, 0.1) @ CAMERA_FROM_LIDAR @ point, expected)


def test_a_picture_without_anything_has_flat_maps_and_no_numbers_that_are_none(street, tmp_path):
    Image.new("RGB", SIZE, (90, 90, 90)).save(tmp_path / "grey.png")
    camera = replace(street[0].cameras[0], image_path=tmp_path / "grey.png")
    assert np.isfinite(image_edges(camera).maps).all()
    found = find([view_of(replace(frame, cameras=(camera,)), camera) for frame in street.frames])
    assert found.word == "cannot tell"
    assert np.isfinite(found.confidence)


def test_the_area_under_the_curve_is_that_of_pairs():
    auc = runpy.run_path(str(BENCHMARK))["auc"]
    assert auc([0, 1], [2, 3]) == 1
    assert auc([0, 2], [1, 3]) == 0.75
    assert auc([1], [1]) == 0.5


@pytest.mark.real
@pytest.mark.skipif("OLIVINE_REAL_DATA" not in os.environ, reason="needs OLIVINE_REAL_DATA")
def test_on_a_real_street_a_degree_is_found_to_a_third():
    from olivine.data.datasets import SemanticKittiConfig, SplitConfig

    root = Path(os.environ["OLIVINE_REAL_DATA"]) / "semantickitti-mini"
    dataset = SemanticKittiConfig(root=root).open(SplitConfig(split=["07"]))
    frames = [dataset[index] for index in (0, 2)]
    views = [view_of(frame, frame.cameras[0]) for frame in frames]
    assert find(views).word == "fine"
    error = turned((0, 1.0, 0))
    found = find([replace(view, camera_from_lidar=error @ view.camera_from_lidar) for view in views])
    assert found.word == "off"
    left = Rotation.from_rotvec(np.radians(found.rotation_deg)) * Rotation.from_rotvec(np.radians([0, 1.0, 0]))
    assert np.degrees(left.magnitude()) < 0.3
    assert isinstance(found.delay, Peak | None)
