"""Folders of nuScenes that lack something or are damaged: refused in one line that names it."""

from __future__ import annotations

import json

import pytest

from builders.nuscenes import LIDAR, build_nuscenes, filename, token
from builders.nuscenes_splits import edit, find, one_line_error, open_split
from builders.nuscenes_splits import root as root
from builders.nuscenes_splits import whole as whole
from olivine.data.nuscenes import NuScenesConfig
from olivine.data.splits import SplitConfig
from olivine.errors import UserError


def test_missing_folders_say_what_there_is(whole, tmp_path):
    assert "set data.version to one of v1.0-mini" in one_line_error(lambda: open_split(whole, version="v1.0-trainval"))
    assert "no such folder" in one_line_error(open_split, tmp_path / "nowhere")
    assert "no folder in the root" in one_line_error(open_split, tmp_path)


@pytest.mark.parametrize("table", ["scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor"])
def test_a_missing_table_is_named_even_when_the_index_was_cached(root, table):
    open_split(root)
    (root / "v1.0-mini" / f"{table}.json").unlink()
    error = one_line_error(open_split, root)
    assert f"{table}.json: missing table" in error


def test_a_damaged_sweep_is_named(root):
    dataset = open_split(root)
    path = root / filename(0, 0, LIDAR)
    path.write_bytes(path.read_bytes()[:-3])
    assert f"{path}: truncated sweep" in one_line_error(dataset.__getitem__, 0)
    path.unlink()
    assert f"{path}: missing LiDAR sweep" in one_line_error(dataset.__getitem__, 0)
    path.mkdir()
    assert f"{path}: cannot read" in one_line_error(dataset.__getitem__, 0)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_label_file_of_another_length_is_named(root, change):
    dataset = open_split(root)
    path = dataset.label_path(0)
    path.write_bytes(bytes(300 + change))
    error = one_line_error(dataset.__getitem__, 0)
    assert str(path) in error
    assert f"{300 + change} labels for a sweep of 300 points" in error
    path.unlink()
    assert "missing label file" in one_line_error(dataset.__getitem__, 0)


def test_masks_without_a_manifest_are_refused(root):
    (root / "camseg" / "manifest.json").unlink()
    assert "manifest" in one_line_error(open_split, root)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("sample", "scene_token"),
        ("sample_data", "sample_token"),
        ("sample_data", "ego_pose_token"),
        ("calibrated_sensor", "sensor_token"),
        ("sample_annotation", "sample_token"),
        ("sample_annotation", "instance_token"),
        ("instance", "category_token"),
    ],
)
def test_a_token_that_points_nowhere_is_named(root, table, key):
    edit(root, table, lambda rows: rows[-1].update({key: "nowhere"}))
    error = one_line_error(open_split, root)
    assert f"{table}.json: {key} 'nowhere'" in error
    assert f"{key.removesuffix('_token')}.json" in error


def test_a_keyframe_without_a_sweep_or_with_two_is_refused(root):
    edit(root, "sample_data", lambda rows: rows.append({**rows[-1], "token": "twice"}))
    assert "more than one keyframe reading of LIDAR_TOP" in one_line_error(open_split, root)
    edit(root, "sample_data", lambda rows: (rows.pop(), rows.pop()))
    assert "no reading of LIDAR_TOP" in one_line_error(open_split, root)


def test_a_camera_without_a_matrix_is_refused(root):
    own = token("calibrated", "CAM_BACK")
    edit(root, "calibrated_sensor", lambda rows: find(rows, own).update(camera_intrinsic=[]))
    assert own in one_line_error(open_split, root)


def test_tables_that_number_categories_otherwise_are_refused(tmp_path):
    root = build_nuscenes(tmp_path)
    path = root / "v1.0-mini" / "category.json"
    rows = json.loads(path.read_text())
    config = NuScenesConfig(root=root, version="v1.0-mini")
    config.open(SplitConfig(split="all"))
    rows[0]["index"] = 3
    path.write_text(json.dumps(rows))
    with pytest.raises(UserError, match=r"category\.json: 'vehicle\.car' has index 3, but .* it is 17"):
        config.open(SplitConfig(split="all"))
    for row in rows:
        del row["index"]  # editions without lidarseg number nothing
    path.write_text(json.dumps(rows))
    config.open(SplitConfig(split="all"))


@pytest.mark.parametrize(("key", "value"), [("rotation", "up"), ("rotation", [1, 0, 0]), ("translation", None)])
def test_poses_that_are_no_numbers_are_named(tmp_path, key, value):
    root = build_nuscenes(tmp_path)
    path = root / "v1.0-mini" / "ego_pose.json"
    rows = json.loads(path.read_text())
    for row in rows:
        row[key] = value
    path.write_text(json.dumps(rows))
    with pytest.raises(UserError, match=r"ego_pose\.json: token .*: rotation must be four numbers"):
        NuScenesConfig(root=root, version="v1.0-mini").open(SplitConfig(split="all"))
