"""Calibration files of other programs: every form read to the same cameras, and what each lacks is said."""

from __future__ import annotations

import json

import numpy as np
import pytest

from olivine.calibration import read_calibration
from olivine.errors import UserError
from olivine.geometry import invert, quaternion_from_rotation, rigid_transform

# x forward, y left, z up into x right, y down, z forward; the camera is turned a little and sits before the LiDAR.
OPTICAL = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
YAW, PITCH, ROLL = 0.3, -0.1, 0.05
MATRIX = [[700.0, 0, 620], [0, 710, 190], [0, 0, 1]]
FLAT = [700, 710, 620, 190]
BEND = [-0.1, 0.02, 0.001, -0.002]


def turn(angle, axis):
    """Rotation about one axis, by hand."""
    c, s = np.cos(angle), np.sin(angle)
    one, other = [k for k in range(3) if k != axis]
    matrix = np.eye(3)
    matrix[one, one] = matrix[other, other] = c
    matrix[one, other], matrix[other, one] = (-s, s) if axis != 1 else (s, -s)
    return matrix


BODY_POSE = rigid_transform(turn(YAW, 2) @ turn(PITCH, 1) @ turn(ROLL, 0), (0.5, 0.2, -0.3))
"""The camera's body in the LiDAR frame."""

EXPECTED = rigid_transform(OPTICAL, (0, 0, 0)) @ invert(BODY_POSE)


def saved(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def row(name, values):
    return f"{name}: " + " ".join(f"{value:.17g}" for value in np.ravel(values)) + "\n"


def check(path, form, camera, *, bend=BEND, transform=EXPECTED):
    calibration = read_calibration(path)
    assert form in calibration.form
    found = calibration.camera(camera)
    np.testing.assert_allclose(found.model.intrinsics, MATRIX)
    np.testing.assert_allclose(found.model.coefficients[:4], bend)
    np.testing.assert_allclose(found.camera_from_lidar, transform, atol=1e-6)
    return calibration


def test_kalibr_reaches_the_lidar_through_the_imu_and_the_chain(tmp_path):
    imu_from_lidar = rigid_transform([0.9, 0.1, -0.2, 0.3], (0.1, 0.2, 0.3))
    second_from_first = rigid_transform([1, 0.01, 0.02, -0.01], (-0.5, 0, 0.01))
    camera = {"camera_model": "pinhole", "distortion_model": "radtan", "distortion_coeffs": BEND}
    camera |= {"intrinsics": FLAT, "resolution": [1242, 375], "rostopic": "/cam/image_raw"}
    tree = {
        "cam0": {**camera, "T_cam_imu": (EXPECTED @ invert(imu_from_lidar)).tolist(), "cam_overlaps": [1]},
        "cam1": {**camera, "T_cn_cnm1": second_from_first.tolist()},
    }
    path = tmp_path / "camchain.yaml"
    with pytest.raises(UserError, match=r"how the LiDAR stands to cam0, cam1.*T_cam_lidar"):
        read_calibration(saved(path, tree))
    tree["T_imu_lidar"] = imu_from_lidar.tolist()
    calibration = check(saved(path, tree), "Kalibr", "cam0")
    np.testing.assert_allclose(calibration.camera("cam1").camera_from_lidar, second_from_first @ EXPECTED, atol=1e-12)
    assert calibration.camera("cam0").model.size == (1242, 375)
    del tree["T_imu_lidar"]
    tree["cam1"]["T_cam_lidar"] = (second_from_first @ EXPECTED).tolist()
    check(saved(path, tree), "Kalibr", "cam0")
    tree["cam0"]["camera_model"] = "omni"
    with pytest.raises(UserError, match="camera_model 'omni' is not read"):
        read_calibration(saved(path, tree))


def test_kalibr_without_a_lidar_asks_for_one_transform_to_the_imu(tmp_path):
    camera = {"camera_model": "pinhole", "intrinsics": FLAT, "resolution": [1242, 375], "T_cam_imu": np.eye(4).tolist()}
    with pytest.raises(UserError, match="Add T_imu_lidar"):
        read_calibration(saved(tmp_path / "chain.yaml", {"cam0": camera}))


def projection(offset_m):
    return np.array(MATRIX) @ np.column_stack((np.eye(3), offset_m))


@pytest.mark.parametrize("crlf", [False, True])
def test_kitti_object_and_odometry_put_the_baseline_into_the_place_of_the_camera(tmp_path, crlf):
    rectify = turn(0.02, 1)
    mount = invert(rigid_transform(rectify, (0, 0, 0))) @ EXPECTED
    text = row("P2", projection((0.06, 0, 0.003))) + row("R0_rect", rectify) + row("Tr_velo_to_cam", mount[:3])
    path = tmp_path / "000000.txt"
    path.write_bytes((text + "Tr_imu_to_velo:\n").replace("\n", "\r\n" if crlf else "\n").encode())
    beside = rigid_transform(np.eye(3), (0.06, 0, 0.003)) @ EXPECTED
    check(path, "object", "image_2", bend=[], transform=beside)
    path = saved(tmp_path / "calib.txt", row("P2", projection((0.06, 0, 0.003))) + row("Tr", EXPECTED[:3]))
    check(tmp_path, "odometry", "image_2", bend=[], transform=beside)


def test_a_day_of_kitti_raw_is_read_by_its_folder_or_a_file(tmp_path):
    rectify = turn(0.02, 1)
    mount = invert(rigid_transform(rectify, (0, 0, 0))) @ EXPECTED
    text = "calib_time: 09-Jan-2012 13:57:47\n" + row("R_rect_00", rectify) + row("P_rect_02", projection((0.06, 0, 0)))
    path = saved(tmp_path / "calib_cam_to_cam.txt", text + "S_rect_02: 1.242e+03 3.75e+02\n")
    saved(tmp_path / "calib_velo_to_cam.txt", row("R", mount[:3, :3]) + row("T", mount[:3, 3]))
    beside = rigid_transform(np.eye(3), (0.06, 0, 0)) @ EXPECTED
    for place in (tmp_path, path):
        calibration = check(place, "raw", "image_02", bend=[], transform=beside)
    assert calibration.camera("image_02").model.size == (1242, 375)
    assert "sync" in calibration.notes[0]
    (tmp_path / "calib_velo_to_cam.txt").write_text(row("R", mount[:3, :3]) + "T: 1 2\n")
    with pytest.raises(UserError, match="row 'T' must be three numbers"):
        read_calibration(tmp_path)


def autoware(folder, **camera):
    kit = {"lidar_top_base_link": dict.fromkeys(("x", "y", "z", "roll", "pitch", "yaw"), 0.0)}
    kit |= {"lidar_rear": dict.fromkeys(("x", "y", "z", "roll", "pitch", "yaw"), 0.5)}
    x, y, z = BODY_POSE[:3, 3].tolist()
    kit |= {"camera0/camera_link": {"x": x, "y": y, "z": z, "roll": ROLL, "pitch": PITCH, "yaw": YAW} | camera}
    saved(folder / "sensor_kit_calibration.yaml", {"sensor_kit_base_link": kit})
    base = {"sensor_kit_base_link": dict.fromkeys(("x", "y", "z", "roll", "pitch", "yaw"), 0.1)}
    saved(folder / "sensors_calibration.yaml", {"base_link": base})
    info = {"image_width": 1242, "image_height": 375, "camera_name": "camera0", "distortion_model": "plumb_bob"}
    info |= {"camera_matrix": {"rows": 3, "cols": 3, "data": np.ravel(MATRIX).tolist()}}
    info |= {"distortion_coefficients": {"rows": 1, "cols": 5, "data": [*BEND, 0]}}
    saved(folder / "camera0" / "camera_info.yaml", info)
    return folder


def test_autoware_turns_the_body_of_a_camera_into_its_optical_frame(tmp_path):
    calibration = check(autoware(tmp_path), "Autoware", "camera0")
    assert list(calibration.lidars) == ["lidar_top_base_link", "lidar_rear"]
    np.testing.assert_allclose(calibration.lidar_from_sensor("lidar_rear")[:3, 3], 0.5)
    assert "lidar_top_base_link" in calibration.notes[0]
    with pytest.raises(UserError, match="degrees"):
        read_calibration(autoware(tmp_path, yaw=17.0) / "sensors_calibration.yaml")
    autoware(tmp_path)
    (tmp_path / "camera0" / "camera_info.yaml").unlink()
    with pytest.raises(UserError, match="no camera's file"):
        read_calibration(tmp_path)


def opencv(name, matrix):
    rows = np.atleast_2d(matrix)
    data = ", ".join(f"{value:.17g}" for value in rows.ravel())
    return f"{name}: !!opencv-matrix\n   rows: {len(rows)}\n   cols: {rows.shape[1]}\n   dt: d\n   data: [ {data} ]\n"


@pytest.mark.parametrize(
    ("key", "matrix"),
    [("CameraExtrinsicMat", invert(EXPECTED)), ("camera_from_lidar", EXPECTED), ("T_lidar_cam", invert(EXPECTED))],
)
def test_opencv_yaml_is_read_with_the_direction_that_its_name_says(tmp_path, key, matrix):
    text = "%YAML:1.0\n---\n" + opencv(key, matrix) + opencv("CameraMat", MATRIX) + opencv("DistCoeff", [*BEND, 0])
    calibration = check(saved(tmp_path / "front.yml", text + "ImageSize: [ 1242, 375 ]\n"), "OpenCV", "camera")
    assert calibration.camera("camera").model.size == (1242, 375)
    assert calibration.notes == ()


def test_json_of_one_or_several_cameras(tmp_path):
    quaternion = quaternion_from_rotation(EXPECTED[:3, :3]).tolist()
    placed = {"translation": EXPECTED[:3, 3].tolist(), "rotation_wxyz": quaternion}
    camera = {"K": MATRIX, "D": BEND, "width": 1242, "height": 375, "camera_from_lidar": placed}
    check(saved(tmp_path / "a.json", camera), "JSON", "camera")
    check(saved(tmp_path / "b.json", {"cameras": {"front": camera}}), "JSON", "front")
    check(saved(tmp_path / "c.json", {"cameras": [{"name": "front", **camera}]}), "JSON", "front")
    plain = {"fx": 700, "fy": 710, "cx": 620, "cy": 190, "dist": BEND}
    split = {"R": EXPECTED[:3, :3].tolist(), "T": EXPECTED[:3, 3].tolist()}
    calibration = check(saved(tmp_path / "d.json", {**plain, **split}), "JSON", "camera")
    assert "does not say its direction" in calibration.notes[0]
    with pytest.raises(UserError, match="order"):
        read_calibration(
            saved(tmp_path / "e.json", {**plain, "extrinsics": {"q": quaternion, "translation": [0, 0, 0]}})
        )


def test_a_text_of_k_d_t(tmp_path):
    check(saved(tmp_path / "calib.txt", row("K", MATRIX) + row("D", BEND) + row("T", EXPECTED[:3])), "text", "camera")


def test_rellis_gives_the_pose_of_the_camera_which_is_turned_round(tmp_path):
    pose = invert(EXPECTED)
    quaternion = dict(zip("wxyz", quaternion_from_rotation(pose[:3, :3]).tolist(), strict=True))
    transforms = {
        "os1_cloud_node-pylon_camera_node": {"q": quaternion, "t": dict(zip("xyz", pose[:3, 3].tolist(), strict=True))}
    }
    saved(tmp_path / "camera_info.txt", "700 710 620 190")
    path = saved(tmp_path / "transforms.yaml", transforms)
    for place in (tmp_path, path):
        calibration = check(place, "RELLIS", "pylon_camera_node", bend=[-0.134313, -0.025905, 0.002181, 0.00084])
    assert calibration.camera("pylon_camera_node").model.size == (1920, 1200)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.yaml", "points: 3\n", "no camera matrix"),
        ("a.yaml", "- 1\n", "no calibration here; one is our YAML"),
        ("a.txt", "hello world\n", "no calibration here"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", '{"K": [1, 0, 0, 0, 1, 0, 0, 0, 1]}', "nothing here says how the LiDAR stands"),
        ("a.txt", row("K", MATRIX) + row("T", np.eye(4)[:3] * 2), "scaled by 2; divide it by that"),
        ("a.txt", row("K", MATRIX) + row("T", np.diag([1, 1, -1, 1])[:3]), "determinant is -1: it is left-handed"),
        ("a.txt", row("K", MATRIX) + row("T", np.arange(12)), "not of length 1 at right angles"),
        ("a.txt", row("K", MATRIX) + "T: 1 2 3\n", "these are 3 numbers"),
        ("a.txt", row("K", MATRIX) + "T: one two\n", "4×4 matrix of numbers"),
        ("a.txt", row("K", MATRIX) + row("T", np.c_[np.eye(3), (300, 20, 5)]), "millimetres, divide it by 1000"),
        ("calib.txt", row("P2", projection((0, 0, 0))), "no row 'Tr'"),
    ],
)
def test_what_is_no_calibration_is_refused_in_one_line(tmp_path, name, text, said):
    with pytest.raises(UserError, match=said) as error:
        read_calibration(saved(tmp_path / name, text))
    assert "\n" not in str(error.value)


def test_a_folder_without_a_calibration_says_what_one_is_called(tmp_path):
    with pytest.raises(UserError, match=r"one is called calibration\.yaml"):
        read_calibration(tmp_path)
