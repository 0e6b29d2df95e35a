from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builders.nuscenes import build_nuscenes
from builders.semantickitti import build_semantickitti
from olivine.checking.check import CheckReport, check_dataset, check_folder, open_any
from olivine.data.frame import Boxes, Frame
from olivine.data.needs import Needs
from olivine.data.pairs import find_pairs
from olivine.data.prepare import Prepare
from olivine.data.semantickitti import SemanticKitti, SemanticKittiConfig
from olivine.data.splits import SplitConfig
from olivine.data.voxelize import CartesianVoxels
from olivine.errors import UserError


class Tampered:
    """A dataset whose frames are changed after they were read."""

    def __init__(self, dataset: SemanticKitti, change) -> None:
        self.name, self.classes, self.manifest = dataset.name, dataset.classes, dataset.manifest
        self.dataset, self.change = dataset, change

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Frame:
        return self.change(self.dataset[index]) if index == 1 else self.dataset[index]


def open_one(root: Path) -> SemanticKitti:
    return SemanticKittiConfig(root=root).open(SplitConfig(split="all"))


def camera_changed(**changes):
    def change(frame: Frame) -> Frame:
        camera = frame.cameras[0]
        values = {key: value(camera) for key, value in changes.items()}
        return replace(frame, cameras=(replace(camera, **values),))

    return change


def frame_changed(**changes):
    return lambda frame: replace(frame, **{key: value(frame) for key, value in changes.items()})


def set_first(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed[0] = value
    return changed


def test_a_sound_folder_has_no_problems_and_its_pairs_are_counted_over_all_frames(tmp_path):
    root = build_semantickitti(tmp_path)
    dataset = open_one(root)
    done: list[int] = []
    report = check_dataset(dataset, done.append)
    expected = sum(len(find_pairs(dataset[index])) for index in range(6))
    assert expected > 0
    assert report == CheckReport(6, {"image_2": expected}, [])
    assert done == [1, 2, 3, 4, 5, 6]
    said = json.loads(json.dumps(report.as_json()))
    nothing = {"problems": [], "warnings": [], "ranking": [], "calibration": []}
    assert said == {"frames": 6, "pairs": {"image_2": expected}, **nothing}
    assert str(report).splitlines() == ["6 frames", f"image_2: {expected} pairs", "no problems"]
    assert check_folder(root) == report


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("dataset/sequences/00/velodyne/000001.bin", "truncate", "truncated scan"),
        ("dataset/sequences/00/labels/000001.label", "truncate", "labels for a scan"),
        ("dataset/sequences/00/image_2/000001.png", "truncate", "cannot read this image"),
        ("dataset/sequences/00/image_2/000001.png", "remove", "cannot read this image"),
        ("camseg/00/image_2/000001.png", "remove", "cannot read this mask"),
        ("camseg/00/image_2/000001.png", "resize", "mask is 10×10 but its image is 64×32"),
        ("camseg/00/image_2/000001.png", "class 3", "holds [3], but"),
    ],
)
def test_every_damaged_file_is_one_line_and_the_other_frames_are_still_read(tmp_path, file, damage, message):
    root = build_semantickitti(tmp_path)
    path = root / file
    content = path.read_bytes()
    path.unlink()
    if damage == "truncate":
        path.write_bytes(content[: len(content) // 2 - 1])
    elif damage == "resize":
        Image.new("L", (10, 10)).save(path)
    elif damage == "class 3":
        Image.fromarray(np.full((32, 64), 3, np.uint8)).save(path)
    report = check_folder(root)
    assert report.frames == 6
    assert report.pairs["image_2"] > 0
    assert len(report.problems) == 1
    assert str(path) in report.problems[0]
    assert message in report.problems[0]
    assert "\n" not in report.problems[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (frame_changed(points_lidar_m=lambda f: set_first(f.points_lidar_m, np.nan)), "1 of 200 points are not finite"),
        (frame_changed(points_lidar_m=lambda f: set_first(f.points_lidar_m, np.inf)), "1 of 200 points are not finite"),
        (frame_changed(intensity=lambda f: f.intensity * 255), "intensity leaves 0…1"),
        (frame_changed(intensity=lambda f: set_first(f.intensity, np.nan)), "intensity leaves 0…1"),
        (frame_changed(labels=lambda f: f.labels[:-1]), "199 labels for 200 points"),
        (frame_changed(labels=lambda f: set_first(f.labels, 20)), "label 20 but there are 19 classes"),
        (frame_changed(boxes=lambda f: Boxes(np.ones((2, 7)), ("car",))), "2 boxes but 1 names"),
        (frame_changed(boxes=lambda f: Boxes(np.full((1, 7), np.nan), ("car",))), "a box is not finite"),
        (frame_changed(boxes=lambda f: Boxes(-np.ones((1, 7)), ("car",))), "side that is not positive"),
        (frame_changed(timestamp_us=lambda f: 0), "is not after the frame before it"),
        (frame_changed(global_from_lidar=lambda f: 2 * f.global_from_lidar), "pose is not a rigid transform"),
        (camera_changed(timestamp_us=lambda c: c.timestamp_us + 300_000), "taken 0.30 s from its scan"),
        (camera_changed(camera_from_lidar=lambda c: c.camera_from_lidar * [1, 1, 1.1, 1]), "not a rigid transform"),
        (camera_changed(camera_from_lidar=lambda c: np.diag([-1, 1, 1, 1]) @ c.camera_from_lidar), "not a rigid"),
        (camera_changed(intrinsics=lambda c: c.intrinsics * [[10], [10], [1]]), "does not fit a 64×32 image"),
        (camera_changed(size=lambda c: (c.size[0] + 4, c.size[1])), "image is 64×32 but the dataset says 68×32"),
    ],
)
def test_inconsistent_frames_are_reported(tmp_path, change, message):
    report = check_dataset(Tampered(open_one(build_semantickitti(tmp_path, camseg=False)), change))
    assert any(message in problem for problem in report.problems), report.problems
    assert all("000001" in problem for problem in report.problems)


def test_an_empty_cloud_and_a_camera_without_pairs_are_reported(tmp_path):
    def emptied(frame: Frame) -> Frame:
        nothing = slice(0, 0)
        return replace(
            frame,
            points_lidar_m=frame.points_lidar_m[nothing],
            intensity=frame.intensity[nothing],
            labels=frame.labels[nothing],
        )

    problems = check_dataset(Tampered(open_one(build_semantickitti(tmp_path)), emptied)).problems
    assert len(problems) == 2
    assert "no points" in problems[0]
    assert "no point of its scan 00/000001 falls into this image" in problems[1]


def test_datasets_are_recognised_by_their_folders(tmp_path):
    root = build_semantickitti(tmp_path / "kitti", nested=False)
    assert [dataset.name for dataset in open_any(root)] == ["semantickitti"]
    with pytest.raises(UserError, match="no such folder"):
        open_any(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no dataset recognised"):
        open_any(tmp_path / "empty")
    (tmp_path / "nuscenes" / "v1.0-mini").mkdir(parents=True)
    with pytest.raises(UserError, match=r"v1\.0-mini.*\.json"):
        open_any(tmp_path / "nuscenes")


def test_masks_without_a_manifest_cannot_be_opened(tmp_path):
    root = build_semantickitti(tmp_path)
    (root / "camseg" / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"camseg/manifest\.json: masks need a manifest"):
        check_folder(root)


def test_reports_of_two_datasets_add_up():
    first, second = CheckReport(2, {"a": 3, "b": 1}, ["x"]), CheckReport(5, {"a": 4}, ["y"])
    assert first.merged(second) == CheckReport(7, {"a": 7, "b": 1}, ["x", "y"])
    assert first.pairs == {"a": 3, "b": 1}


@pytest.mark.real
@pytest.mark.parametrize(
    ("folder", "frames", "pairs"),
    [
        ("nuscenes-keyframe", 1, {"CAM_FRONT": 3053, "CAM_BACK_LEFT": 4089}),
        ("semantickitti-mini", 32, {"image_2": 616408}),
    ],
)
def test_real_samples_are_sound(folder, frames, pairs):
    if "OLIVINE_REAL_DATA" not in os.environ:
        pytest.skip("set OLIVINE_REAL_DATA to the folder of real samples")
    report = check_folder(Path(os.environ["OLIVINE_REAL_DATA"]) / folder)
    assert report.problems == []
    assert report.frames == frames
    assert {camera: report.pairs[camera] for camera in pairs} == pairs


@pytest.mark.parametrize(("what", "value"), [("cameras", ()), ("labels", None)])
def test_what_one_frame_lacks_and_others_have_is_a_problem(tmp_path, what, value):
    changed = Tampered(open_one(build_semantickitti(tmp_path)), frame_changed(**{what: lambda _: value}))
    (problem,) = check_dataset(changed).problems
    assert problem.startswith(f"1 of 6 frames have no {what}, though others have: 00/000001")


def test_ids_of_no_class_are_counted_by_check_and_refused_by_whoever_learns(tmp_path):
    root = build_semantickitti(tmp_path)
    labels = root / "dataset" / "sequences" / "00" / "labels" / "000001.label"
    raw = np.fromfile(labels, np.uint32)
    raw[:3] = [7, 7, 1 << 16 | 300]  # an instance number above an id
    raw.tofile(labels)
    (problem,) = check_folder(root).problems
    assert problem.startswith(
        f"{labels}: 3 of {len(raw)} labels are ids that the class set semantickitti does not list: 7"
    )
    frame, rng = open_one(root)[1], np.random.default_rng(0)
    with pytest.raises(UserError, match=r"000001\.label: 3 of"):
        Prepare(CartesianVoxels(), needs=Needs(labels=True))(frame, rng)
    Prepare(CartesianVoxels())(frame, rng)  # pretraining never looks at them


@pytest.mark.parametrize("name", ["trainval", "v1.0-mini", "my tables"])
def test_nuscenes_tables_are_recognised_whatever_their_folder_is_called(tmp_path, name):
    root = build_nuscenes(tmp_path)
    (root / "v1.0-mini").rename(root / name)
    assert len(open_any(root)) == 1
