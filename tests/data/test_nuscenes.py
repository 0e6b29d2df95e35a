from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from builders.nuscenes import (
    BOX_SIZE_WLH,
    CAMERAS,
    LIDAR,
    MASK_CLASSES,
    box_pose,
    build_nuscenes,
    ego_pose,
    filename,
    intrinsics,
    raw_labels,
    sensor_pose,
    sweep,
    time_us,
    token,
)
from builders.nuscenes_splits import SCENES, edit, find, one_line_error, open_split
from builders.nuscenes_splits import root as root
from builders.nuscenes_splits import whole as whole
from olivine.data.augment import CloudAugment, ImageAugment, cloud_transform, cuboid_keep
from olivine.data.pairs import find_pairs
from olivine.geometry import transform_points


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """Five scenes in an order that is not alphabetical, four keyframes each."""
    return build_nuscenes(tmp_path_factory.mktemp("many"), SCENES, 4, points=3, size=(8, 6), boxes=0)


def test_frames_come_by_scene_table_then_time(whole):
    dataset = open_split(whole)
    assert len(dataset) == 6
    assert [dataset.scene(index) for index in range(6)] == ["scene-0103"] * 3 + ["scene-0061"] * 3
    assert [dataset.token(index) for index in range(6)] == [token("sample", s, k) for s in (0, 1) for k in (0, 1, 2)]
    assert dataset.scenes == ("scene-0103", "scene-0061")


def test_a_frame_holds_the_sweep_in_file_order(whole):
    frame = open_split(whole)[4]
    expected = sweep(1, 1, 300)
    assert frame.points_lidar_m.dtype == frame.intensity.dtype == np.float32
    np.testing.assert_array_equal(frame.points_lidar_m, expected[:, :3])
    np.testing.assert_array_equal(frame.intensity, expected[:, 3])
    assert (frame.token, frame.scene) == (token("sample", 1, 1), "scene-0061")
    assert (frame.intensity_max, frame.timestamp_us) == (255.0, time_us(1, 1, LIDAR))
    np.testing.assert_allclose(frame.global_from_lidar, ego_pose(time_us(1, 1, LIDAR)) @ sensor_pose(LIDAR), atol=1e-9)


def test_lidarseg_categories_become_challenge_classes(whole):
    dataset = open_split(whole)
    training = {0: 0, 9: 1, 17: 4, 24: 11, 30: 16, 31: 0}
    labels = dataset[2].labels
    assert labels.dtype == np.uint8
    assert labels.tolist() == [training[raw] for raw in raw_labels(0, 2, 300).tolist()]
    assert dataset.classes.names[3] == "car"


def test_points_reach_each_camera_through_both_ego_poses(whole):
    frame = open_split(whole)[5]
    assert tuple(camera.name for camera in frame.cameras) == CAMERAS
    points = np.column_stack([frame.points_lidar_m.astype(np.float64), np.ones(300)])
    for camera in frame.cameras:
        at_us = time_us(1, 2, camera.name)
        assert camera.timestamp_us == at_us
        global_from_camera = ego_pose(at_us) @ sensor_pose(camera.name)
        global_from_lidar = ego_pose(time_us(1, 2, LIDAR)) @ sensor_pose(LIDAR)
        expected = np.linalg.solve(global_from_camera, global_from_lidar @ points.T).T[:, :3]
        np.testing.assert_allclose(
            transform_points(camera.camera_from_lidar, frame.points_lidar_m), expected, atol=1e-8
        )
        np.testing.assert_allclose(camera.intrinsics, intrinsics((64, 36)))
        # The vehicle moves between the two times, so leaving out either ego pose would show.
        still = np.linalg.solve(sensor_pose(camera.name), sensor_pose(LIDAR))
        assert np.abs(camera.camera_from_lidar - still).max() > 1e-3


def test_images_and_masks_are_those_of_the_keyframe(whole):
    dataset = open_split(whole)
    frame = dataset[3]
    assert dataset.manifest is not None
    assert dataset.manifest.classes == MASK_CLASSES
    for camera in frame.cameras:
        assert camera.image_path == whole / filename(1, 0, camera.name)
        assert camera.image().shape == (36, 64, 3)
        assert camera.mask_path == whole / "camseg" / camera.name / f"{camera.image_path.stem}.png"
        assert set(np.unique(camera.mask())) == {0, 1, 2, 255}
    pairs = find_pairs(frame)
    assert (pairs.per_camera(6) > 0).all()
    assert set(np.unique(pairs.label)) == {0, 1, 2, 255}


def test_boxes_are_carried_into_the_lidar_frame(whole):
    boxes = open_split(whole)[1].boxes
    assert sorted(boxes.names) == ["human.pedestrian.adult", "vehicle.car"]
    width, length, height = BOX_SIZE_WLH
    global_from_lidar = ego_pose(time_us(0, 1, LIDAR)) @ sensor_pose(LIDAR)
    for name, (x, y, z, *size, yaw) in zip(boxes.names, boxes.boxes, strict=True):
        pose = np.linalg.solve(global_from_lidar, box_pose(0, 1, int(name.startswith("human"))))
        np.testing.assert_allclose([x, y, z], pose[:3, 3], atol=1e-9)
        np.testing.assert_allclose(size, [length, width, height])
        # The vehicle and the LiDAR are tilted by about a degree, which the yaw leaves out.
        tilted = Rotation.from_matrix(pose[:3, :3]).as_euler("ZYX")[0]
        assert abs(np.angle(np.exp(1j * (yaw - tilted)))) < 1e-9


def test_what_a_folder_lacks_is_none_in_its_frames(tmp_path):
    dataset = open_split(build_nuscenes(tmp_path, lidarseg=False, camseg=False, boxes=0))
    frame = dataset[0]
    assert frame.labels is None
    assert frame.boxes is None
    assert dataset.manifest is None
    assert all(camera.mask() is None for camera in frame.cameras)
    assert set(find_pairs(frame).label.tolist()) == {255}


def test_annotations_are_not_read_unless_wanted(root):
    (root / "v1.0-mini" / "sample_annotation.json").unlink()
    assert open_split(root, boxes=False)[0].boxes is None
    assert open_split(root)[0].boxes is None


def test_masks_may_lie_elsewhere(root, tmp_path):
    (root / "camseg").rename(tmp_path / "better")
    assert open_split(root).manifest is None
    dataset = open_split(root, masks=tmp_path / "better")
    assert dataset[0].cameras[0].mask() is not None
    assert "manifest" in one_line_error(lambda: open_split(root, masks=tmp_path / "worse"))


def test_a_camera_without_a_reading_is_left_out(root):
    edit(root, "sample_data", lambda rows: rows.remove(find(rows, token("data", 0, 1, "CAM_BACK", 1))))
    dataset = open_split(root)
    assert [camera.name for camera in dataset[1].cameras] == [name for name in CAMERAS if name != "CAM_BACK"]
    assert len(dataset[0].cameras) == 6


def test_an_empty_sweep_is_a_frame_without_points(tmp_path):
    frame = open_split(build_nuscenes(tmp_path, points=0, keyframes=1))[0]
    assert frame.points_lidar_m.shape == (0, 3)
    assert frame.labels.shape == (0,)
    assert len(find_pairs(frame)) == 0


def test_a_dataset_travels_to_a_worker_process(whole):
    dataset = open_split(whole)
    twin = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(twin[2].points_lidar_m, dataset[2].points_lidar_m)


@pytest.mark.parametrize(
    ("split", "scenes"),
    [
        ("all", SCENES),
        ("train", ("scene-0061", "scene-0655")),
        ("val", ("scene-0103", "scene-0553", "scene-0003")),
        ("mini_val", ("scene-0103",)),
        (["scene-0655", "scene-0103"], ("scene-0103", "scene-0655")),
    ],
)
def test_a_split_means_those_of_its_scenes_that_the_tables_hold(many, split, scenes):
    dataset = open_split(many, split)
    assert dataset.scenes == scenes
    assert len(dataset) == 4 * len(scenes)


def test_every_counts_scenes_in_table_order_or_keyframes(many):
    assert open_split(many, every=2).scenes == (SCENES[1], SCENES[3])
    assert open_split(many, "val", every=2).scenes == ("scene-0553",)
    assert open_split(many, every=2, unit="scene").scenes == (SCENES[1], SCENES[3])
    scans = open_split(many, every=3, unit="scan")
    tokens = [token("sample", scene, keyframe) for scene in range(5) for keyframe in range(4)]
    assert [scans.token(index) for index in range(len(scans))] == tokens[2::3]


def test_choosing_nothing_is_refused(many):
    assert "selects nothing" in one_line_error(open_split, many, "test")
    assert "every=6" in one_line_error(lambda: open_split(many, every=6))
    message = one_line_error(open_split, many, ["scene-0061", "scene-9999"])
    assert "scene-9999" in message
    assert "scene-0103" in message
    assert "parametrize" in one_line_error(open_split, many, "trian")


def test_any_version_folder_may_be_named(root):
    (root / "v1.0-mini").rename(root / "v2-of-mine")
    assert len(open_split(root, version="v2-of-mine")) == 6


def test_the_cached_index_follows_the_tables(root):
    fresh = open_split(root)
    again = open_split(root)
    for index in range(6):
        np.testing.assert_array_equal(
            fresh[index].cameras[2].camera_from_lidar, again[index].cameras[2].camera_from_lidar
        )
        np.testing.assert_array_equal(fresh[index].boxes.boxes, again[index].boxes.boxes)
    edit(root, "scene", lambda rows: rows[1].update(name="scene-0916"))
    assert open_split(root).scenes == ("scene-0103", "scene-0916")
    edit(root, "sample_annotation", lambda rows: rows.clear())
    assert open_split(root)[0].boxes is None
    (root / "v1.0-mini" / "lidarseg.json").unlink()
    assert open_split(root)[0].labels is None


@pytest.fixture
def real() -> Path:
    folder = os.environ.get("OLIVINE_REAL_DATA")
    if not folder:
        pytest.skip("OLIVINE_REAL_DATA names no folder of real samples")
    return Path(folder) / "nuscenes-keyframe"


@pytest.mark.real
def test_the_real_keyframe_gives_the_counts_of_the_official_devkit(real):
    frame = open_split(real, "mini_train")[0]
    assert len(frame.points_lidar_m) == 34688
    assert len(frame.boxes.boxes) == 69
    counts = dict(zip(CAMERAS, find_pairs(frame).per_camera(6).tolist(), strict=True))
    assert (counts["CAM_FRONT"], counts["CAM_BACK_LEFT"]) == (3053, 4089)


@pytest.mark.real
def test_real_boxes_hold_the_points_their_annotators_counted(real):
    frame = open_split(real)[0]
    annotations = json.loads((real / "v1.0-mini" / "sample_annotation.json").read_text())
    annotated = np.array([row["num_lidar_pts"] for row in annotations])
    counted = []
    for x, y, z, dx, dy, dz, yaw in frame.boxes.boxes:
        from_box = Rotation.from_euler("Z", -yaw).apply(frame.points_lidar_m - [x, y, z])
        counted.append((np.abs(from_box) <= np.array([dx, dy, dz]) / 2).all(1).sum())
    # Whole boxes tilt by up to a degree against the LiDAR, so points at their faces may change sides.
    assert abs(sum(counted) - annotated.sum()) < 0.03 * annotated.sum()
    assert (np.abs(np.array(counted) - annotated) <= 1 + 0.1 * annotated).all()


@pytest.mark.real
def test_the_published_border_keeps_the_first_column_and_row_too(real):
    frame = open_split(real, "mini_train")[0]
    wide, narrow = find_pairs(frame, border_px=(0.0, 1.0)), find_pairs(frame)
    added = np.setdiff1d(wide.point * 6 + wide.camera, narrow.point * 6 + narrow.camera)
    on_the_edge = (wide.uv <= 1).any(axis=1)
    assert len(added) == on_the_edge.sum() == len(wide) - len(narrow) > 0


@pytest.mark.real
def test_the_published_cuboid_drops_a_fifth_of_a_real_cloud_and_at_times_two_thirds(real):
    frame = open_split(real, "mini_train")[0]
    points_m, pairs = frame.points_lidar_m, find_pairs(frame, border_px=(0.0, 1.0))
    rng, dropped = np.random.default_rng(0), []
    for _ in range(600):
        turned_m = points_m @ cloud_transform(rng, CloudAugment()).T
        dropped.append(1 - cuboid_keep(turned_m, pairs, 6, rng, ImageAugment()).mean())
    assert np.mean(dropped) == pytest.approx(0.215, abs=0.03)
    assert np.quantile(dropped, 0.9) == pytest.approx(0.65, abs=0.08)
