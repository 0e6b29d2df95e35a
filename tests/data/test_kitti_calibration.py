"""KITTI's calibration: pixels, the crop to the image, and boxes there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.detection import golden, real_golden, real_kitti, view_of
from olivine.calibration.formats.kitti import KittiCalibration
from olivine.data.kitti_boxes import boxes_from_objects, object_corners, objects_from_boxes
from olivine.data.kitti_labels import read_objects
from olivine.errors import UserError
from olivine.geometry import corners, project, transform_points
from olivine.geometry.edges import camera_edges, image_boxes

FRAMES = ("000000", "000008", "000010")
TEXT = str(golden("kitti_prep_sim.npz")["sim_calib"])


@pytest.fixture
def calibration(tmp_path):
    path = tmp_path / "000000.txt"
    path.write_text(TEXT)
    return KittiCalibration.read(path)


def size_of(reference):
    height, width = reference["image_shape"].tolist()
    return width, height


def test_the_pinhole_camera_gives_the_pixel_of_all_three_matrices(calibration):
    points = np.random.default_rng(0).uniform([2, -20, -2], [60, 20, 2], (500, 3))
    homogeneous = np.column_stack((points, np.ones(500))) @ calibration.image_from_lidar.T
    uv, depth = project(transform_points(calibration.camera_from_lidar, points), calibration.intrinsics)
    np.testing.assert_allclose(uv, homogeneous[:, :2] / homogeneous[:, 2:], rtol=1e-12)
    np.testing.assert_allclose(depth, homogeneous[:, 2], rtol=1e-12)
    beside = np.linalg.solve(calibration.intrinsics, calibration.image_from_rectified[:, 3])
    assert np.abs(beside).max() > 0.05  # the colour camera's own place takes part


def test_the_crop_to_the_image_is_the_published_one(calibration):
    reference = golden("kitti_prep_sim.npz")
    found = calibration.in_view(reference["sim_points"][:, :3], size_of(reference))
    assert (found == view_of(reference)).all()


def test_the_images_left_and_upper_border_belong_to_it():
    axes = np.eye(4)
    axes[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
    calibration = KittiCalibration(np.array([[100.0, 0, 50, 0], [0, 100, 25, 0], [0, 0, 1, 0]]), axes)
    pixels = np.array([[0, 0], [-0.01, 10], [10, -0.01], [99.99, 49.99], [100, 10], [10, 50]])
    points = np.column_stack((np.full(6, 10.0), -(pixels - (50, 25)) / 10))
    assert calibration.in_view(points, (100, 50)).tolist() == [True, False, False, True, False, False]
    assert not calibration.in_view(np.array([[-10.0, 1, 1], [0, 0, 0]]), (100, 50)).any()


def test_boxes_in_the_lidar_frame_are_the_published_ones(calibration, tmp_path):
    reference = golden("kitti_prep_sim.npz")
    path = tmp_path / "label.txt"
    path.write_text(str(reference["sim_label"]))
    objects = read_objects(path)
    boxes = boxes_from_objects(objects.take(~objects.is_dont_care), calibration)
    np.testing.assert_allclose(boxes, reference["gt_boxes_lidar"], rtol=0, atol=1e-9)


def check_results(reference, calibration, size):
    boxes = reference["boxes"].astype(np.float64)
    scores = np.linspace(0, 1, len(boxes))
    found = objects_from_boxes(boxes, reference["name"].tolist(), scores, calibration, size)
    assert found.names == tuple(reference["name"].tolist())
    np.testing.assert_allclose(found.location_m, reference["location"], rtol=0, atol=3e-6)
    np.testing.assert_allclose(found.size_hwl_m, reference["dimensions"][:, [1, 2, 0]], rtol=0, atol=3e-6)
    np.testing.assert_allclose(found.rotation_y_rad, reference["rotation_y"], rtol=0, atol=3e-6)
    np.testing.assert_allclose(found.alpha_rad, reference["alpha"], rtol=0, atol=3e-6)
    np.testing.assert_allclose(found.image_box, reference["bbox"], rtol=0, atol=2e-4)
    assert (found.score == scores).all()


def part(reference, frame):
    return {key.partition("/")[2]: value for key, value in reference.items() if key.startswith(f"{frame}/")}


def test_results_are_written_as_published(calibration):
    size = size_of(golden("kitti_prep_sim.npz"))
    check_results(part(golden("kitti_output_sim.npz"), "sim"), calibration, size)


@pytest.mark.real
@pytest.mark.parametrize("frame", FRAMES)
def test_a_real_frame_agrees_with_the_published_code(frame):
    folder = real_kitti() / "training"
    reference = real_golden(f"kitti_prep_{frame}.npz")
    calibration = KittiCalibration.read(folder / "calib" / f"{frame}.txt")
    points = np.fromfile(folder / "velodyne" / f"{frame}.bin", np.float32).reshape(-1, 4)[:, :3]
    differ = np.flatnonzero(calibration.in_view(points, size_of(reference)) != view_of(reference))
    assert set(differ) <= set(reference["fov_ambiguous"].tolist())
    objects = read_objects(folder / "label_2" / f"{frame}.txt")
    boxes = boxes_from_objects(objects.take(~objects.is_dont_care), calibration)
    np.testing.assert_allclose(boxes, reference["gt_boxes_lidar"], rtol=0, atol=1e-9)
    check_results(part(real_golden("kitti_output.npz"), frame), calibration, size_of(reference))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_boxes_come_back_from_objects(seed):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    mount = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]]) @ (rotation * np.linalg.det(rotation))
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = mount, rng.normal(size=3)
    calibration = KittiCalibration(np.array([[700.0, 0, 600, 40], [0, 700, 180, 2], [0, 0, 1, 0.003]]), matrix)
    boxes = rng.uniform([5, -20, -2, 0.3, 0.3, 0.3, -9], [60, 20, 2, 9, 3, 3, 9], (7, 7))
    objects = objects_from_boxes(boxes, ["Car"] * 7, None, calibration, (1242, 375))
    np.testing.assert_allclose(boxes_from_objects(objects, calibration), boxes, rtol=0, atol=1e-9)


def test_corners_are_those_of_the_same_box_in_the_lidar_frame():
    axes = np.eye(4)
    axes[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
    calibration = KittiCalibration(np.array([[700.0, 0, 600, 0], [0, 700, 180, 0], [0, 0, 1, 0]]), axes)
    boxes = np.array([[20, 3, -1, 4, 2, 1.5, 0.3], [9, -5, 0, 1, 0.5, 2, -2]])
    objects = objects_from_boxes(boxes, ["Car", "Van"], None, calibration, (1242, 375))
    found = object_corners(objects.location_m, objects.size_hwl_m, objects.rotation_y_rad)
    expected = transform_points(axes, corners(boxes).reshape(-1, 3)).reshape(-1, 8, 3)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    # Without an offset between the cameras both projections agree.
    edges = camera_edges(boxes, calibration.camera_from_lidar, calibration.intrinsics)
    np.testing.assert_allclose(image_boxes(edges, (1242, 375)), objects.image_box, atol=1e-9)


def test_of_a_box_beside_the_camera_the_part_before_it_counts(calibration):
    size = (1242, 375)
    boxes = np.array([[1.0, 2.5, -1, 6, 1.6, 1.5, 0], [-20, 0, 0, 4, 2, 2, 0], [12, 0, 0, 4, 2, 2, 0]])
    objects = objects_from_boxes(boxes, ["Car"] * 3, [1, 1, 1], calibration, size)
    found = objects.image_box
    places = object_corners(objects.location_m, objects.size_hwl_m, objects.rotation_y_rad)[0]
    share = np.linspace(0, 1, 8001)[:, None, None]  # a slow way: many points between all corners
    dense = (share * places + (1 - share) * places[:, None, None]).reshape(-1, 3)
    u, v = calibration.published_uv(dense[dense[:, 2] > 0.1]).T
    expected = np.clip([u.min(), v.min(), u.max(), v.max()], 0, [1241, 374, 1241, 374])
    np.testing.assert_allclose(found[0], expected, atol=2)
    assert 100 < found[0, 2] < 700
    assert (found[1] == 0).all()
    assert (found[2, 2:] > found[2, :2]).all()


def test_a_frame_without_boxes_is_one_without_objects(calibration):
    objects = objects_from_boxes(np.zeros((0, 7)), [], [], calibration, (1242, 375))
    assert (len(objects), objects.image_box.shape, objects.score.shape) == (0, (0, 4), (0,))


@pytest.mark.parametrize("ending", ["\n", "\r\n", " \r\n"])
@pytest.mark.parametrize("names", [("R0_rect:", "Tr_velo_to_cam:"), ("R_rect", "Tr_velo_cam")])
def test_line_ends_and_the_tracking_benchmarks_names_are_read(tmp_path, calibration, ending, names):
    text = TEXT.replace("R0_rect:", names[0]).replace("Tr_velo_to_cam:", names[1]) + "\nTr_imu_to_velo2:\n"
    path = tmp_path / "calib.txt"
    path.write_bytes(text.replace("\n", ending).encode())
    other = KittiCalibration.read(path)
    assert (other.image_from_lidar == calibration.image_from_lidar).all()


def changed(name, numbers):
    """The text with other numbers in a row; None leaves the row out."""
    rows = [row for row in TEXT.splitlines() if numbers is not None or not row.startswith(f"{name}:")]
    return "\n".join(f"{name}: {numbers}" if row.startswith(f"{name}:") else row for row in rows)


@pytest.mark.parametrize(
    ("name", "numbers", "message"),
    [
        ("Tr_velo_to_cam", None, r"no row 'Tr_velo_to_cam' or 'Tr_velo_cam'; use the calibration that comes with"),
        ("P2", None, "no row 'P2'"),
        ("R0_rect", None, "no row 'R0_rect' or 'R_rect'"),
        ("P2", "1 2 3", r"row 'P2' must be 12 numbers that form a regular 3×4 matrix"),
        ("R0_rect", "1 0 0 0 1 0 0 0 1 0 0 0", "row 'R0_rect' must be 9 numbers"),
        ("Tr_velo_to_cam", "nan " * 12, "row 'Tr_velo_to_cam' must be 12 numbers"),
        ("Tr_velo_to_cam", "0 " * 12, "row 'Tr_velo_to_cam' must be 12 numbers"),
        ("Tr_velo_to_cam", "a " * 12, "row 'Tr_velo_to_cam' must be 12 numbers"),
        ("Tr_velo_to_cam", "0 -1 0 0 0 0 -1 0 2 0 0 0", "row 'Tr_velo_to_cam' holds no rotation"),
        ("Tr_velo_to_cam", "0 1 0 0 0 0 -1 0 1 0 0 0", "row 'Tr_velo_to_cam' holds no rotation"),
        ("R0_rect", "1 0 0 0 1 0 0 0 inf", "row 'R0_rect' must be 9 numbers"),
        ("R0_rect", "1 0 0 0 1 0 0 0.1 1", "row 'R0_rect' holds no rotation"),
        ("P2", "700 0 600 0 0 700 180 0 0 0 2 0", "row 'P2' is no projection"),
    ],
)
def test_what_is_wrong_with_a_calibration_is_one_line_with_the_row(tmp_path, name, numbers, message):
    path = tmp_path / "000003.txt"
    path.write_text(changed(name, numbers))
    with pytest.raises(UserError, match=rf"000003\.txt: {message}") as caught:
        KittiCalibration.read(path)
    assert "\n" not in str(caught.value)


def test_rows_that_differ_are_refused(tmp_path):
    path = tmp_path / "000003.txt"
    path.write_text(f"{TEXT}\nP2: {' '.join('123456789abc')}\n")
    with pytest.raises(UserError, match="two rows 'P2' that differ"):
        KittiCalibration.read(path)
