"""Anybody's tables in the nuScenes layout: other channels, rotations as matrices, poses nobody knew, other columns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from builders.nuscenes import CAMERAS, LIDAR, build_nuscenes, ego_pose, filename, sensor_pose, sweep, time_us
from olivine.checking.check import check_dataset
from olivine.data.data_record import DataRecord, write_data_record
from olivine.data.nuscenes import NuScenesConfig
from olivine.data.splits import SplitConfig
from olivine.errors import OlivineWarning, UserError

VERSION = "v1.0-mini"
OTHER = {LIDAR: "LIDAR_FRONT", "CAM_FRONT": "CAMERA_0", "CAM_BACK": "CAMERA_1", "CAM_FRONT_LEFT": "A_CAMERA"}


@pytest.fixture
def root(tmp_path) -> Path:
    return build_nuscenes(tmp_path / "nuscenes", keyframes=1, points=40)


def edit(root: Path, table: str, change: Callable[[dict[str, Any]], Any]) -> None:
    path = root / VERSION / f"{table}.json"
    rows = json.loads(path.read_text())
    for row in rows:
        change(row)
    path.write_text(json.dumps(rows))


def open_all(root: Path, **settings):
    return NuScenesConfig(root=root, version=VERSION, **settings).open(SplitConfig(split="all"))


def as_matrix(row):
    w, x, y, z = row["rotation"]
    row["rotation"] = Rotation.from_quat([x, y, z, w]).as_matrix().tolist()


def same_frames(one, other):
    assert one.token == other.token
    np.testing.assert_array_equal(one.points_lidar_m, other.points_lidar_m)
    np.testing.assert_allclose(one.global_from_lidar, other.global_from_lidar, atol=1e-12)
    np.testing.assert_allclose(one.boxes.boxes, other.boxes.boxes, atol=1e-9)
    for first, second in zip(one.cameras, other.cameras, strict=True):
        np.testing.assert_allclose(first.camera_from_lidar, second.camera_from_lidar, atol=1e-12)


def test_channels_come_from_the_tables_the_official_ones_first(root):
    edit(root, "sensor", lambda row: row.update(channel=OTHER.get(row["channel"], row["channel"])))
    dataset = open_all(root, masks=None)
    names = [camera.name for camera in dataset[0].cameras]
    assert names == ["CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK_LEFT", "A_CAMERA", "CAMERA_0", "CAMERA_1"]
    np.testing.assert_array_equal(dataset[0].points_lidar_m, sweep(0, 0, 40)[:, :3])
    by_name = {camera.name: camera for camera in dataset[0].cameras}
    path = "CAM_FRONT"
    assert by_name["CAMERA_0"].image_path == root / filename(0, 0, path)
    assert dataset.mask_names(0)[4].startswith("CAMERA_0/")


def test_a_sensor_without_a_kind_is_known_by_its_channel(root):
    before = open_all(root)[0]
    edit(root, "sensor", lambda row: row.pop("modality"))
    same_frames(before, open_all(root)[0])


def test_of_several_lidars_one_must_be_chosen_unless_one_is_the_usual(root):
    edit(root, "sensor", lambda row: row.update(modality="lidar") if row["modality"] == "radar" else None)
    assert len(open_all(root)[0].points_lidar_m) == 40  # LIDAR_TOP
    other = open_all(root, lidar="RADAR_FRONT")
    assert other.sweep_path(0) == root / filename(0, 0, "RADAR_FRONT").replace("jpg", "pcd.bin")
    assert open_all(root).sweep_path(0) == root / filename(0, 0, LIDAR)  # each has an index of its own
    with pytest.raises(UserError, match=r"no LiDAR of channel 'LIDAR_9'; the table has LIDAR_TOP, RADAR_FRONT"):
        open_all(root, lidar="LIDAR_9")
    edit(root, "sensor", lambda row: row.update(channel=OTHER.get(row["channel"], row["channel"])))
    with pytest.raises(UserError, match=r"the table has LIDAR_FRONT, RADAR_FRONT; choose one with data\.lidar="):
        open_all(root)
    edit(root, "sensor", lambda row: row.update(modality="camera"))
    with pytest.raises(UserError, match="the table has no LiDAR; its modality is to be lidar"):
        open_all(root)


def test_a_channel_whose_masks_would_lie_elsewhere_is_refused(root):
    edit(root, "sensor", lambda row: row.update(channel="../../CAM") if row["channel"] == "CAM_BACK" else None)
    with pytest.raises(UserError, match=r"sensor\.json: the camera '\.\./\.\./CAM' has no name that a folder can have"):
        open_all(root)


def test_rotations_as_matrices_are_the_same_rotations(root):
    before = open_all(root)[0]
    for table in ("calibrated_sensor", "ego_pose", "sample_annotation"):
        edit(root, table, as_matrix)
    same_frames(before, open_all(root)[0])


@pytest.mark.parametrize("table", ["calibrated_sensor", "ego_pose", "sample_annotation"])
@pytest.mark.parametrize(
    ("rotation", "said"),
    [
        ([[1, 0, 0], [0, 1, 0], [0, 0, -1]], r"mirrors.*flip the axis"),
        ([[1, 0, 0], [0, 1, 0], [0, 0.2, 1]], "not orthogonal"),
        ([1, 0, 0], "four numbers"),
        ([[1, 0, 0], [0, 1, 0]], "four numbers"),
        ([[1, 0, 0], 2, [0, 0, 1]], "four numbers"),
    ],
)
def test_what_is_no_rotation_is_named_with_its_mend(root, table, rotation, said):
    edit(root, table, lambda row: row.update(rotation=rotation))
    with pytest.raises(UserError, match=rf"{table}\.json: token .*{said}"):
        open_all(root)


def test_a_calibration_of_length_zero_is_named(root):
    edit(root, "calibrated_sensor", lambda row: row.update(rotation=[0, 0, 0, 0]))
    with pytest.raises(UserError, match="quaternion of length 0"):
        open_all(root)


def no_table(root):
    (root / VERSION / "ego_pose.json").write_text("[]")


EMPTY = {
    "an empty table": no_table,
    "empty tokens": lambda root: edit(root, "sample_data", lambda row: row.update(ego_pose_token="")),
    "no tokens": lambda root: edit(root, "sample_data", lambda row: row.pop("ego_pose_token")),
    "empty poses": lambda root: edit(root, "ego_pose", lambda row: row.update(rotation=[], translation=[])),
    "null poses": lambda root: edit(root, "ego_pose", lambda row: row.update(rotation=None, translation=None)),
}


@pytest.mark.parametrize("change", EMPTY.values(), ids=EMPTY)
def test_poses_that_nobody_knew_leave_the_calibration(root, change):
    change(root)
    with pytest.warns(OlivineWarning, match=r"ego_pose\.json: the poses of 7 of 7 readings are empty"):
        dataset = open_all(root, boxes=False)
    frame = dataset[0]
    assert frame.global_from_lidar is None
    for camera in frame.cameras:
        expected = np.linalg.inv(sensor_pose(camera.name)) @ sensor_pose(LIDAR)
        np.testing.assert_allclose(camera.camera_from_lidar, expected, atol=1e-12)
    with pytest.warns(OlivineWarning):
        dataset = open_all(root)
    with pytest.raises(UserError, match=r"pose of its LiDAR is unknown.*data\.boxes=false"):
        dataset[0]


def test_a_camera_without_a_pose_is_reached_by_the_calibration_and_others_by_their_poses(root):
    first = time_us(0, 0, "CAM_FRONT")
    edit(root, "ego_pose", lambda row: row.update(rotation=[], translation=[]) if row["timestamp"] == first else None)
    with pytest.warns(OlivineWarning, match="the poses of 1 of 7 readings"):
        frame = open_all(root)[0]
    world = ego_pose(time_us(0, 0, LIDAR)) @ sensor_pose(LIDAR)
    np.testing.assert_allclose(frame.global_from_lidar, world, atol=1e-9)
    for camera in frame.cameras:
        back = np.linalg.inv(ego_pose(camera.timestamp_us) @ sensor_pose(camera.name)) @ world
        static = np.linalg.inv(sensor_pose(camera.name)) @ sensor_pose(LIDAR)
        expected = static if camera.name == "CAM_FRONT" else back
        np.testing.assert_allclose(camera.camera_from_lidar, expected, atol=1e-9)


@pytest.mark.parametrize("half", [{"rotation": []}, {"translation": []}, {"rotation": [], "translation": [1.0, 2.0]}])
def test_half_a_pose_is_none(root, half):
    edit(root, "ego_pose", lambda row: row.update(half))
    with pytest.raises(UserError, match=r"ego_pose\.json: token .*: rotation must be .* or both empty"):
        open_all(root)


def test_the_record_beside_the_tables_is_honoured(root):
    path = root / filename(0, 0, LIDAR)
    rows = sweep(0, 0, 40)
    rows[:, [0, 1, 2, 4, 3]].astype("<f4").tofile(path)  # intensity last
    columns = ("x", "y", "z", "ring", "intensity")
    write_data_record(root / VERSION, DataRecord(intensity_max=300, poses="unknown", columns=columns))
    frame = open_all(root, boxes=False)[0]
    np.testing.assert_array_equal(frame.intensity, rows[:, 3])
    assert (frame.intensity_max, frame.global_from_lidar) == (300, None)
    four = DataRecord(intensity_max=None, intensity_from="none", columns=("x", "y", "z", "intensity"), poses="tf")
    rows[:, :4].astype("<f4").tofile(path)
    write_data_record(root / VERSION, four)
    frame = open_all(root)[0]
    np.testing.assert_array_equal(frame.points_lidar_m, rows[:, :3])
    assert frame.intensity is None
    assert frame.global_from_lidar is not None


def test_other_columns_are_asked_for_never_guessed(root):
    path = root / filename(0, 0, LIDAR)
    np.zeros((7, 4), "<f4").tofile(path)
    with pytest.raises(UserError, match=r"no multiple of 20 a point; if its columns are others .* olivine\.json"):
        open_all(root)[0]


def test_tables_without_labels_categories_and_annotations_are_read(root):
    for table in ("lidarseg", "category", "sample_annotation", "instance", "attribute", "visibility", "log", "map"):
        (root / VERSION / f"{table}.json").unlink()
    dataset = open_all(root)
    assert (dataset[0].labels, dataset[0].boxes) == (None, None)
    report = check_dataset(dataset)
    assert report.frames == 1
    assert len(report.pairs) == len(CAMERAS)


def test_an_image_whose_size_the_tables_do_not_say_has_its_own(root):
    edit(root, "sample_data", lambda row: row.update(width=None, height=0))
    assert [camera.size for camera in open_all(root).cameras(0)] == [(64, 36)] * 6


def test_sweeps_of_other_formats_lose_the_rows_without_return(root):
    lines = ["1 2 3 50", "0 0 0 0", "nan nan nan 7", "4 5 6 70"]
    head = (
        "VERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\nWIDTH 4\nHEIGHT 1\nPOINTS 4\n"
    )
    (root / "samples" / "one.pcd").write_text(head + "DATA ascii\n" + "\n".join(lines) + "\n")
    lidar = filename(0, 0, LIDAR)
    edit(root, "sample_data", lambda row: row.update(filename="samples/one.pcd") if row["filename"] == lidar else None)
    dataset = open_all(root)
    dataset.label_path(0).write_bytes(bytes([17, 17, 17, 24]))
    frame = dataset[0]
    np.testing.assert_array_equal(frame.points_lidar_m, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(frame.intensity, [50, 70])
    np.testing.assert_array_equal(frame.returns, [True, False, False, True])
    assert [dataset.classes.names[label - 1] for label in frame.labels] == ["car", "driveable_surface"]
