"""What the check counts of boxes, and which wrong calibrations it notices."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from builders.detection import golden, real_kitti
from builders.kitti_object import build_kitti_object
from builders.nuscenes import build_nuscenes
from olivine.checking.boxes import BoxReport, image_agreement
from olivine.checking.check import CheckReport, check_dataset, check_folder
from olivine.data.datasets import KittiObjectConfig, SplitConfig
from olivine.detectors.parts.anchors import AnchorConfig

KEYS = ("boxes", "points_median", "without_points", "size_mean_m", "bottom_mean_m")


def recalibrated(root: Path, row: str, change) -> Path:
    """Change a matrix of every frame's calibration."""
    for path in (root / "training" / "calib").iterdir():
        rows = dict(line.split(":") for line in path.read_text().splitlines() if line)
        matrix = change(np.array(rows[row].split(), float).reshape(3, 4))
        rows[row] = " ".join(f"{value:.12e}" for value in matrix.ravel())
        path.write_text("\n".join(f"{name}: {numbers}" for name, numbers in rows.items()))
    return root


def test_boxes_are_counted_by_class_and_difficulty(tmp_path):
    root = build_kitti_object(tmp_path, ("000000", "000003"), points=None)
    report, reference = check_folder(root), golden("kitti_prep_sim.npz")
    assert report.problems == []
    found = report.as_json()["boxes"]
    assert (found["frames"], found["frames_without"]) == (2, 1)
    assert json.loads(json.dumps(found)) == found
    names, difficulty = reference["gt_names"], reference["difficulty"][reference["index"] >= 0]
    for name, of in found["classes"].items():
        own = names == name
        levels = [int((difficulty[own] == level).sum()) for level in (0, 1, 2, -1)]
        assert [of[level] for level in ("easy", "moderate", "hard", "none")] == levels
        counts = reference["num_points_in_gt_exact"][own]
        assert (of["boxes"], of["points_median"]) == (own.sum(), np.median(counts))
        assert of["without_points"] == (counts == 0).sum()
        boxes = reference["gt_boxes_lidar"][own]
        assert of["size_mean_m"] == pytest.approx(boxes[:, 3:6].mean(axis=0), abs=0.006)
        assert of["bottom_mean_m"] == pytest.approx((boxes[:, 2] - boxes[:, 5] / 2).mean(), abs=0.006)
    assert set(found["classes"]) == set(names.tolist())
    lines = str(report).splitlines()
    assert "12 boxes in 2 annotated frames, 1 of them without a box" in lines
    assert any(line.startswith("  Car: 5 (easy ") and line.endswith("without a point") for line in lines)
    where = lines.index("their mean sizes as anchors, for detector.anchors:") + 1
    anchors = yaml.safe_load("\n".join(lines[where : where + len(found["classes"])]))
    by_name = {anchor["category"]: AnchorConfig.model_validate(anchor) for anchor in anchors}
    assert set(by_name) == set(found["classes"])
    assert list(by_name["Car"].size_m) == found["classes"]["Car"]["size_mean_m"]
    assert [by_name[name].positive_iou for name in ("Car", "Pedestrian")] == [0.6, 0.5]


def test_boxes_of_a_dataset_without_difficulty_or_image_boxes_are_counted_too(tmp_path):
    report = check_folder(build_nuscenes(tmp_path, boxes=2))
    found = report.as_json()["boxes"]
    assert "image_box_iou_median" not in found
    assert all(set(of) == set(KEYS) for of in found["classes"].values())
    assert sum(of["boxes"] for of in found["classes"].values()) == 2 * report.frames
    assert "detector.anchors" not in str(report)
    assert "boxes" not in check_folder(build_nuscenes(tmp_path / "bare", boxes=0)).as_json()


def test_boxes_that_are_a_problem_themselves_are_not_counted(tmp_path):
    class Spoilt:
        def __init__(self, dataset) -> None:
            self.name, self.classes, self.manifest, self.dataset = dataset.name, dataset.classes, None, dataset

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index):
            frame = self.dataset[index]
            return replace(frame, boxes=replace(frame.boxes, boxes=frame.boxes.boxes * np.nan))

    root = build_kitti_object(tmp_path, ("000000",), points=100)
    report = check_dataset(Spoilt(KittiObjectConfig(root=root).open(SplitConfig(split="all"))))
    assert report.boxes is None
    assert any("a box is not finite" in problem for problem in report.problems)


def test_the_two_boxes_of_an_object_agree_as_much_as_they_overlap(tmp_path):
    root = build_kitti_object(tmp_path, ("000000",), points=100)
    frame = KittiObjectConfig(root=root).open(SplitConfig(split="all"))[0]
    boxes, camera = frame.boxes, frame.cameras[0]
    found = image_agreement(boxes, boxes.image_boxes, camera)
    assert np.median(found) > 0.95
    moved = boxes.image_boxes + (boxes.image_boxes[:, 2:] - boxes.image_boxes[:, :2])[:, [0, 1, 0, 1]] * (
        0.5,
        0,
        0.5,
        0,
    )
    np.testing.assert_allclose(image_agreement(boxes, moved, camera), 1 / 3, atol=0.05)
    np.testing.assert_array_equal(image_agreement(boxes, boxes.image_boxes * 0 - 50, camera), 0)


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        ("P2", lambda p: p * [[1.5, 1, 1, 1], [1, 1.5, 1, 1], [1, 1, 1, 1]], "check the camera's part of the calibr"),
        (
            "Tr_velo_to_cam",
            lambda mount: mount + np.outer([0, 3, 0], [0, 0, 0, 1]),
            "visible boxes hold no point; check the LiDAR's part of the calibration",
        ),
    ],
)
def test_a_wrong_calibration_is_noticed(tmp_path, row, change, message):
    root = recalibrated(build_kitti_object(tmp_path, ("000000", "000003", "000007"), points=None), row, change)
    problems = check_folder(root).problems
    assert any("frame 000000 of training/000000: " in problem and message in problem for problem in problems)
    assert any("kitti_object: " in problem and message in problem for problem in problems)


def test_an_object_that_was_labelled_elsewhere_is_named(tmp_path):
    root = build_kitti_object(tmp_path, ("000000",), points=None)
    path = root / "training" / "label_2" / "000000.txt"
    path.write_text(path.read_text().replace("629.72 171.45 663.17 245.06", "29.72 71.45 63.17 145.06"))
    (problem,) = check_folder(root).problems
    assert problem.endswith("1 of 12 boxes lie outside their labelled image boxes: 6 (Pedestrian)")


def test_objects_that_nobody_sees_may_be_empty(tmp_path):
    root = build_kitti_object(tmp_path, ("000000",))
    frame = KittiObjectConfig(root=root).open(SplitConfig(split="all"))[0]
    bare = replace(frame, points_lidar_m=frame.points_lidar_m[:0], intensity=frame.intensity[:0])
    count = len(frame.boxes.names)
    for level, problems in ((-1, 0), (2, 1)):
        boxes = replace(frame.boxes, difficulty=np.full(count, level))
        assert len(list(BoxReport().add(replace(bare, boxes=boxes), "frame"))) == problems


def test_few_objects_say_nothing_about_a_calibration():
    report = BoxReport(1, 0, {"Car": [0] * 9}, {"Car": [0] * 9}, [0.1] * 9)
    assert list(report.problems("data")) == []
    more = report.merged(BoxReport(1, 0, {"Car": [0], "Van": [5]}, {"Car": [2], "Van": [-1]}, [0.1]))
    assert more.points == {"Car": [0] * 10, "Van": [5]}
    assert [problem.split(":")[0] for problem in more.problems("data")] == ["data", "data"]
    assert "10 of 10 visible boxes" in list(more.problems("data"))[1]


def test_reports_of_two_datasets_add_up():
    first = CheckReport(1, {}, [], BoxReport(1, 0, {"Car": [3]}))
    second = CheckReport(1, {}, [], BoxReport(1, 1))
    assert first.merged(second).boxes == BoxReport(2, 1, {"Car": [3]})
    assert first.merged(CheckReport(1)).boxes is first.boxes
    assert CheckReport(1).merged(first).boxes is first.boxes


@pytest.mark.real
def test_real_objects_are_those_that_the_samples_count():
    root = real_kitti()
    report = check_folder(root)
    assert (report.frames, report.problems) == (19, [])
    found = report.as_json()["boxes"]
    assert {name: of["boxes"] for name, of in found["classes"].items()} == {
        "Car": 50, "Pedestrian": 7, "Van": 5, "Cyclist": 3, "Tram": 2, "Truck": 2, "Misc": 1
    }  # fmt: skip
    assert found["image_box_iou_median"] > 0.99
    config = KittiObjectConfig(root=root)
    (val,) = [check_dataset(config.open(SplitConfig(split=["000008"]))).as_json()["boxes"]["classes"]]
    assert {name: of["boxes"] for name, of in val.items()} == {"Car": 6}


@pytest.mark.real
def test_the_real_keyframe_has_its_boxes():
    if "OLIVINE_REAL_DATA" not in os.environ:
        pytest.skip("set OLIVINE_REAL_DATA to the folder of real samples")
    folder = Path(os.environ["OLIVINE_REAL_DATA"]) / "nuscenes-keyframe"
    found = check_folder(folder).as_json()["boxes"]["classes"]
    assert sum(of["boxes"] for of in found.values()) == 69
    assert found["vehicle.truck"]["without_points"] == 0
