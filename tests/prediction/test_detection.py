"""`olivine predict` of boxes: KITTI's text files as the run's own, other cameras' terms, JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import olivine
from builders.kitti_detection import VAL, tiny_detection, tiny_kitti
from builders.semantickitti import build_semantickitti
from olivine.calibration.formats.kitti import KittiCalibration
from olivine.config import validate
from olivine.data.kitti_boxes import boxes_from_objects
from olivine.data.kitti_labels import read_objects
from olivine.data.kitti_object import KittiObjectConfig
from olivine.data.semantickitti import SemanticKittiConfig
from olivine.data.splits import SplitConfig
from olivine.detection.config import DetectConfig
from olivine.detection.detect import detect
from olivine.errors import UserError
from olivine.prediction import PredictConfig, predict
from olivine.weights.foreign import export_weights


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_kitti(tmp_path_factory.mktemp("kitti") / "data")


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that keeps every box, after one step."""
    out = tmp_path_factory.mktemp("runs")
    tree = tiny_detection(root)
    tree["detector"]["selection"] = {"score_threshold": 0.0, "keep": 20}
    tree["train"]["epochs"] = 1
    detect(validate(DetectConfig, {**tree, "out": str(out)}, "test"))
    return out / "detected"


def settings(**changes: Any) -> PredictConfig:
    return validate(PredictConfig, {"split": {"split": VAL}, **changes}, "test")


def test_kittis_files_are_those_that_the_run_scored(run: Path, root: Path, tmp_path: Path) -> None:
    summary = predict(run, root, tmp_path, settings(pictures=1))
    assert (summary.format, summary.made, summary.tally.boxes) == ("kitti", 1, 20)
    written = (tmp_path / "000008.txt").read_bytes()
    assert written == (run / "predictions" / "000008.txt").read_bytes()
    assert len(written.splitlines()[0].split()) == 16
    assert (tmp_path / "pictures" / "000008.png").is_file()


def test_json_lines_are_the_boxes_in_the_lidar_frame(run: Path, root: Path, tmp_path: Path) -> None:
    predict(run, root, tmp_path, settings(format="jsonl", split={"split": "all"}, batch_size=3))
    frame = KittiObjectConfig(root=root).open(SplitConfig(split=VAL))[0]
    export_weights(run, "openpcdet", tmp_path / "second.pth")
    found = olivine.load(tmp_path / "second.pth").detect(frame.points_lidar_m, frame.intensity)
    lines = [json.loads(line) for line in (tmp_path / "000008.jsonl").read_text().splitlines()]
    assert {line["frame"] for line in lines} == {"000008"}
    assert [line["class"] for line in lines] == list(found.names)
    np.testing.assert_allclose([line["box"] for line in lines], found.boxes, atol=6e-5)
    np.testing.assert_allclose([line["score"] for line in lines], found.scores, atol=6e-7)


def test_boxes_of_other_data_are_in_the_terms_of_a_camera_of_theirs(run: Path, tmp_path: Path) -> None:
    data = build_semantickitti(tmp_path / "data", ("08",), (0,), cameras=("image_2", "image_3"))
    asked = {"cameras": ["image_2", "image_3"]}
    predict(run, data, tmp_path / "out", settings(split={"split": "val"}, format="kitti", camera="image_3", data=asked))
    config = SemanticKittiConfig(root=data, cameras=("image_2", "image_3"))
    frame = config.open(SplitConfig(split="val"))[0]
    camera = frame.cameras[1]
    calibration = KittiCalibration(np.column_stack((camera.intrinsics, np.zeros(3))), camera.camera_from_lidar)
    objects = read_objects(tmp_path / "out" / "08" / "000000.txt", scored=True)
    expected = olivine.load(run).detect(frame.points_lidar_m, frame.intensity)
    np.testing.assert_allclose(boxes_from_objects(objects, calibration), expected.boxes, atol=2e-4)
    with pytest.raises(UserError, match="has no camera CAM_X; it has image_2, image_3"):
        predict(run, data, tmp_path / "x", settings(split={"split": "val"}, format="kitti", camera="CAM_X", data=asked))


def test_kittis_files_need_a_camera(run: Path, tmp_path: Path) -> None:
    data = build_semantickitti(tmp_path / "data", ("08",), (0,), cameras=())
    with pytest.raises(UserError, match="has no camera, and KITTI's text files are in the terms of one; use --format"):
        predict(run, data, tmp_path / "out", settings(split={"split": "val"}, format="kitti"))
    assert not (tmp_path / "out").exists()
    assert predict(run, data, tmp_path / "out", settings(split={"split": "val"})).format == "jsonl"
    with pytest.raises(UserError, match=r"--format pcd: .* predicts boxes; use one of kitti, jsonl"):
        predict(run, data, tmp_path / "other", settings(split={"split": "val"}, format="pcd"))
