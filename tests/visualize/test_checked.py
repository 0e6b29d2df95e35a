"""The page of a check: calibrations before and after, what looks wrong with its pictures, the worst first."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from builders.spoilt import SIZE, Street, build_street, of_cloud, repainted
from olivine.checking.cameras import judge_calibration
from olivine.checking.check import check_dataset
from olivine.drawing.tiles import TITLE_PX
from olivine.geometry import rigid_transform
from olivine.visualize.checked import before_and_after, draw_checked


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Street:
    return build_street(tmp_path_factory.mktemp("street"), frames=5)


def test_a_page_shows_what_was_found(street, tmp_path):
    yaw = rigid_transform(Rotation.from_rotvec(np.radians([0, 1.5, 0])).as_matrix(), np.zeros(3))
    wrong = street.recalibrated(yaw)
    wrong = wrong.spoilt(1, repainted(tmp_path, lambda mask: mask[:, ::-1], mask=True))
    cloud = wrong[2].points_lidar_m
    wrong = wrong.spoilt(3, of_cloud(lambda _: cloud))
    report = check_dataset(wrong)
    report.calibration.extend(judge_calibration(wrong))
    (page,) = draw_checked(wrong, report, tmp_path / "pictures")
    text = page.read_text()
    assert page.name == "check.html"
    assert "Calibration of CAM_FRONT: off" in text
    assert "camera_from_lidar: [[" in text
    worst, second = (text.index(remark.text.split(": ")[1][:30]) for remark in report.remarks[:2])
    assert text.index("Calibration of") < worst < second
    assert text.count("data:image/png;base64") == 1 + len(report.remarks)


def test_before_and_after_differ_only_where_the_calibration_is_off(street):
    (fine,) = judge_calibration(street)
    alone = before_and_after(street, fine)
    yaw = rigid_transform(Rotation.from_rotvec(np.radians([0, 1.5, 0])).as_matrix(), np.zeros(3))
    wrong = street.recalibrated(yaw)
    (off,) = judge_calibration(wrong)
    both = before_and_after(wrong, off)
    tile = SIZE[1] + TITLE_PX
    assert both.shape[0] > 2 * tile > alone.shape[0]
    before, after = both[TITLE_PX:tile, : SIZE[0]], both[tile + 2 + TITLE_PX : 2 * tile + 2, : SIZE[0]]
    assert (before != after).any()


def test_nothing_found_is_no_page(street, tmp_path):
    assert draw_checked(street, check_dataset(street), tmp_path) == []
