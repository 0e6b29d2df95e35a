"""Our calibration file: what it holds, that it is written as it is read, and how mistakes are said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from olivine.calibration import calibration_text, read_calibration
from olivine.errors import UserError
from olivine.geometry import invert, rigid_transform

FILE = """
cameras:
  CAM_FRONT:
    size: [1920, 1200]
    intrinsics: [2152.8, 2155.5, 971.3, 605.9]
    distortion: {model: plumb_bob, coefficients: [-0.1192, 0.162, 0.00074, 0.0014]}
    camera_from_lidar:
      translation: [-0.03, -0.4, -0.09]
      rotation_wxyz: [0.5, 0.5, -0.5, 0.5]
  CAM_LEFT:
    intrinsics: [[900, 1, 500], [0, 910, 400], [0, 0, 1]]
    upright: false
    lidar_from_camera: [[1, 0, 0, 0.5], [0, 1, 0, 0.25], [0, 0, 1, 0]]
lidars:
  LIDAR_TOP: {lidar_from_sensor: {translation: [0, 0, 0], rotation_xyzw: [0, 0, 0, 1]}}
  LIDAR_REAR: {lidar_from_sensor: {translation: [-2, 0, -1], rotation_xyzw: [0, 0, 1, 0]}}
"""


def written(folder, text):
    path = folder / "calibration.yaml"
    path.write_text(text)
    return path


def test_a_file_is_read_whole(tmp_path):
    calibration = read_calibration(written(tmp_path, FILE))
    front, left = calibration.cameras.values()
    assert front.model.size == (1920, 1200)
    assert front.model.coefficients == (-0.1192, 0.162, 0.00074, 0.0014, 0)
    np.testing.assert_allclose(front.camera_from_lidar, rigid_transform([0.5, 0.5, -0.5, 0.5], (-0.03, -0.4, -0.09)))
    np.testing.assert_allclose(front.camera_from_lidar @ (10, 1, 2, 1), [-1.03, -2.4, 9.91, 1])  # forward is the depth
    np.testing.assert_allclose(left.camera_from_lidar, rigid_transform(np.eye(3), (-0.5, -0.25, 0)))
    assert left.model.size is None
    assert not left.upright
    np.testing.assert_allclose(calibration.lidar_from_sensor("LIDAR_REAR") @ (1, 0, 0, 1), [-3, 0, -1, 1])
    with pytest.raises(UserError, match="no LiDAR 'OTHER' in this calibration; it has LIDAR_TOP, LIDAR_REAR"):
        calibration.lidar_from_sensor("OTHER")
    with pytest.raises(UserError, match="no camera 'OTHER' in this calibration; it has CAM_FRONT, CAM_LEFT"):
        calibration.camera("OTHER")


def test_what_is_written_is_read_back_to_all_digits(tmp_path):
    first = read_calibration(written(tmp_path, FILE))
    again = read_calibration(written(tmp_path, calibration_text(first)))
    for name, camera in first.cameras.items():
        np.testing.assert_allclose(again.camera(name).camera_from_lidar, camera.camera_from_lidar, atol=1e-15)
        np.testing.assert_array_equal(again.camera(name).model.intrinsics, camera.model.intrinsics)
        assert again.camera(name).model.coefficients == camera.model.coefficients
        assert again.camera(name).upright == camera.upright
    np.testing.assert_allclose(again.lidars["LIDAR_REAR"], first.lidars["LIDAR_REAR"], atol=1e-15)


def test_the_file_of_the_documentation_is_one(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "guide" / "calibration.md").read_text(encoding="utf-8")
    text = page.split("```yaml\n")[1].split("```")[0]
    calibration = read_calibration(written(tmp_path, text))
    assert [camera.model.distortion for camera in calibration.cameras.values()] == ["plumb_bob", "equidistant"]
    for name, direction in (("CAM_FRONT", (10, 0, 0)), ("CAM_LEFT", (0, 10, 0))):
        seen = calibration.camera(name).camera_from_lidar @ (*direction, 1)
        assert seen[2] > 9
        assert calibration.camera(name).camera_from_lidar[1, 2] < -0.99  # up in the picture
    assert list(calibration.lidars) == ["LIDAR_TOP", "LIDAR_REAR"]


def test_keys_of_the_dataset_folder_may_stand_beside(tmp_path):
    assert len(read_calibration(written(tmp_path, FILE + "folder: {scans: velodyne}\n")).cameras) == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rotation_wxyz", "rotation", "order of a quaternion open; call it rotation_wxyz or rotation_xyzw"),
        ("rotation_wxyz", "quaternion", "rotation_wxyz or rotation_xyzw"),
        ("rotation_wxyz: [0.5, 0.5, -0.5, 0.5]", "{}", "not valid YAML"),
        ("[0.5, 0.5, -0.5, 0.5]", "[0.5, 0.5, -0.5, 0.9]", "length 1, this one's is 1.249"),
        ("      rotation_wxyz: [0.5, 0.5, -0.5, 0.5]\n", "", "or translation and one of"),
        ("[-0.03, -0.4, -0.09]", "[-30, -400, -90]", "millimetres, divide it by 1000"),
        ("[0, 0, 1, 0]]", "[0, 0, -1, 0]]", "determinant is -1: it is left-handed"),
        ("[0, 0, 1, 0]]", "[0, 0, 1]]", "cameras.CAM_LEFT.lidar_from_camera: a transform is a 4×4"),
        ("    upright: false\n", "    camera_from_lidar: [[1]]\n", "one of camera_from_lidar and lidar_from_camera"),
        ("plumb_bob", "omni", "no distortion model 'omni'"),
        ("size:", "sizes:", "unknown key cameras.CAM_FRONT.sizes; did you mean"),
        ("[[900, 1, 500], [0, 910, 400], [0, 0, 1]]", "[[900, 1, 500], [0, 910]]", "fx, fy, cx, cy or a 3×3"),
        (FILE, "cameras: {}\n", "at least 1"),
    ],
)
def test_a_mistake_is_named_with_its_key(tmp_path, old, new, said):
    assert old in FILE
    with pytest.raises(UserError, match=said) as error:
        read_calibration(written(tmp_path, FILE.replace(old, new)))
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_matrix_with_few_digits_is_made_a_rotation(tmp_path):
    text = FILE.replace(
        "[[1, 0, 0, 0.5], [0, 1, 0, 0.25], [0, 0, 1, 0]]", "[[0.866, -0.5, 0, 1], [0.5, 0.866, 0, 0], [0, 0, 1, 0]]"
    )
    matrix = read_calibration(written(tmp_path, text)).camera("CAM_LEFT").camera_from_lidar
    np.testing.assert_allclose(matrix @ invert(matrix), np.eye(4), atol=1e-15)
