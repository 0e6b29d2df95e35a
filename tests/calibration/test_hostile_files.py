"""Calibration files with anything in them: read, or refused in one line, never a defect."""

from __future__ import annotations

import json
import warnings

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from olivine.calibration import read_calibration
from olivine.errors import UserError

WORDS = """
cameras cam0 cam1 camera_model pinhole K D T R camera_matrix CameraMat intrinsics distortion model size resolution
image_width image_height camera_from_lidar lidar_from_camera T_cam_imu T_cn_cnm1 T_imu_lidar T_cam_lidar lidars name
lidar_from_sensor translation rotation_wxyz rotation data rows cols coefficients distortion_coeffs fx fy cx cy folder
"""
KEYS = st.sampled_from(WORDS.split())
ROW_NAMES = st.sampled_from(["K", "D", "T", "P2", "R0_rect", "Tr", "Tr_velo_to_cam", "R_rect_00", "P_rect_00"])
TOKENS = st.sampled_from(["0", "1", "-1", "700", "nan", "inf", "x", "1e999"])
NUMBERS = st.one_of(st.integers(-3, 2000), st.floats(), st.just(10**400), st.just("1e3"), st.just("x"), st.none())
ROWS = st.sampled_from(
    [
        [700, 700, 300, 200],
        [[700, 0, 300], [0, 700, 200], [0, 0, 1]],
        [[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]],
        [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0],
        [0.1, 0, 0, 0],
        [[1, 2], [3]],
        "pinhole",
        {"translation": [0, 0, 0], "rotation_wxyz": [1, 0, 0, 0]},
        {"rows": 3, "cols": 3, "data": [1, 0, 0, 0, 1, 0, 0, 0, 1]},
    ]
)
VALUES = st.recursive(
    st.one_of(NUMBERS, ROWS),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(KEYS, inner, max_size=6)),
    max_leaves=30,
)
QUIET = (HealthCheck.function_scoped_fixture,)


def refusal(path):
    """What a file is refused with; empty where it is read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            read_calibration(path)
    except UserError as error:
        return str(error)
    return ""


@settings(max_examples=60, deadline=None, suppress_health_check=QUIET, derandomize=True)
@given(tree=st.dictionaries(KEYS, VALUES, min_size=1, max_size=8))
def test_any_tree_is_read_or_refused_in_one_line(tmp_path, tree):
    for name in ("a.json", "a.yaml"):
        (tmp_path / name).write_text(json.dumps(tree))
        assert "\n" not in refusal(tmp_path / name)


@settings(max_examples=60, deadline=None, suppress_health_check=QUIET, derandomize=True)
@given(rows=st.lists(st.tuples(ROW_NAMES, st.lists(TOKENS, max_size=13)), max_size=6))
def test_any_rows_are_read_or_refused_in_one_line(tmp_path, rows):
    text = "\n".join(f"{name}: {' '.join(words)}" for name, words in rows)
    for name in ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt", "camera_info.txt", "transforms.yaml", "a.txt"):
        (tmp_path / name).write_text(text)
    for name in ("calib_cam_to_cam.txt", "transforms.yaml", "a.txt"):
        assert "\n" not in refusal(tmp_path / name)
