from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from builders.semantickitti import (
    BASELINE_M,
    CLASSES,
    SIZE,
    TR,
    build_semantickitti,
    camera0_pose,
    camera_matrix,
    scan_points,
)
from olivine.data import semantickitti as kitti
from olivine.data.pairs import find_pairs
from olivine.data.scan_folders import read_label_file
from olivine.data.semantickitti import SPLITS, SemanticKitti, SemanticKittiConfig
from olivine.data.splits import SplitConfig
from olivine.errors import UserError
from olivine.geometry import transform_points


def open_split(root: Path, split: str | list[str] = "all", **options: object) -> SemanticKitti:
    every, unit = options.pop("every", 1), options.pop("unit", None)
    return SemanticKittiConfig(root=root, **options).open(SplitConfig(split=split, every=every, unit=unit))


def tokens(dataset: SemanticKitti) -> list[str]:
    return [dataset[index].token for index in range(len(dataset))]


def one_line_error(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("nested", [True, False])
def test_reads_scans_and_labels_in_file_order(tmp_path, nested):
    dataset = open_split(build_semantickitti(tmp_path, nested=nested))
    assert tokens(dataset) == [f"{sequence}/{frame:06d}" for sequence in ("00", "08") for frame in range(3)]
    frame = dataset[4]
    expected = scan_points(1, 200)
    assert frame.points_lidar_m.dtype == frame.intensity.dtype == np.float32
    np.testing.assert_array_equal(frame.points_lidar_m, expected[:, :3])
    np.testing.assert_array_equal(frame.intensity, expected[:, 3])
    assert (frame.scene, frame.intensity_max) == ("08", 1.0)
    raw = np.random.default_rng((8, 1)).choice([0, 10, 252, 40, 70, 99], 200)
    training = {0: 0, 10: 1, 252: 1, 40: 9, 70: 15, 99: 0}
    assert frame.labels.dtype == np.uint8
    assert frame.labels.tolist() == [training[value] for value in raw.tolist()]


def test_the_class_is_the_low_sixteen_bits_of_a_label(tmp_path):
    np.array([259 | 7 << 16, 10 | 0xFFFF << 16, 0xFFFF], "<u4").tofile(tmp_path / "000000.label")
    assert read_label_file(tmp_path / "000000.label", 3).tolist() == [259, 10, 65535]


def test_points_fall_on_the_pixels_the_projection_matrix_names(tmp_path):
    dataset = open_split(build_semantickitti(tmp_path), cameras=("image_2", "image_3"))
    assert [camera.name for camera in dataset[0].cameras] == ["image_2"]
    dataset = open_split(
        build_semantickitti(tmp_path / "stereo", cameras=("image_2", "image_3")), cameras=("image_2", "image_3")
    )
    frame = dataset[0]
    pairs = find_pairs(frame)
    assert (pairs.per_camera(2) > 5).all()
    for index, camera in enumerate(frame.cameras):
        assert camera.size == SIZE
        assert camera.timestamp_us == frame.timestamp_us
        offset = [[BASELINE_M[camera.name]], [0.002], [0.003]]
        matrix = camera_matrix() @ np.hstack([np.eye(3), offset]) @ np.vstack([TR, [0, 0, 0, 1]])
        here = pairs.camera == index
        points = frame.points_lidar_m[pairs.point[here]].astype(float)
        projected = np.column_stack([points, np.ones(len(points))]) @ matrix.T
        np.testing.assert_allclose(pairs.uv[here], projected[:, :2] / projected[:, 2:], atol=1e-3)


def test_poses_are_indexed_by_frame_number_and_start_at_the_identity(tmp_path):
    dataset = open_split(build_semantickitti(tmp_path, ["00"], frames=(0, 3, 6)))
    np.testing.assert_allclose(dataset[0].global_from_lidar, np.eye(4), atol=1e-9)
    point = np.array([[5.0, 1.0, -0.5]])
    camera0 = TR[:, :3] @ point[0] + TR[:, 3]
    pose = camera0_pose(3)
    world = pose[:, :3] @ camera0 + pose[:, 3]
    expected = np.linalg.solve(TR[:, :3], world - TR[:, 3])
    np.testing.assert_allclose(transform_points(dataset[1].global_from_lidar, point)[0], expected, atol=1e-9)


def test_times_come_from_the_file_or_from_ten_hertz(tmp_path):
    with_times = open_split(build_semantickitti(tmp_path / "a", ["00"], frames=(0, 3)))
    without = open_split(build_semantickitti(tmp_path / "b", ["00"], frames=(0, 3), times=False))
    assert [with_times[0].timestamp_us, with_times[1].timestamp_us] == [0, 311_100]
    assert [without[0].timestamp_us, without[1].timestamp_us] == [0, 300_000]


def test_a_bare_sequence_has_no_cameras_labels_or_pose(tmp_path):
    root = build_semantickitti(tmp_path, ["11"], cameras=(), labels=False, poses=False)
    (root / "dataset/sequences/11/calib.txt").unlink()
    frame = open_split(root)[0]
    assert frame.cameras == ()
    assert frame.labels is None
    assert frame.global_from_lidar is None
    assert len(find_pairs(frame)) == 0


def test_masks_are_found_beside_the_scans_or_where_the_recipe_says(tmp_path):
    root = build_semantickitti(tmp_path / "data")
    dataset = open_split(root)
    assert dataset.manifest is not None
    assert dataset.manifest.classes == CLASSES
    mask = dataset[1].cameras[0].mask()
    np.testing.assert_array_equal(mask, np.random.default_rng((9, 1)).choice([0, 1, 2, 255], SIZE[::-1]))
    (root / "camseg").rename(tmp_path / "elsewhere")
    assert open_split(root).manifest is None
    assert open_split(root)[0].cameras[0].mask_path is None
    moved = open_split(root, masks=tmp_path / "elsewhere")
    np.testing.assert_array_equal(moved[1].cameras[0].mask(), mask)


def test_official_splits_are_disjoint_and_hold_the_published_sequences():
    assert sorted(SPLITS["train"] + SPLITS["val"]) == sorted(SPLITS["trainval"]) == [f"{n:02d}" for n in range(11)]
    assert SPLITS["val"] == ("08",)
    assert SPLITS["test"] == tuple(str(n) for n in range(11, 22))


def test_named_and_listed_splits_choose_sequences(tmp_path):
    root = build_semantickitti(tmp_path, SPLITS["trainval"], frames=(0,), cameras=(), camseg=False)
    assert [token[:2] for token in tokens(open_split(root, "train"))] == list(SPLITS["train"])
    assert tokens(open_split(root, "val")) == ["08/000000"]
    assert len(open_split(root, "trainval")) == 11
    assert tokens(open_split(root, ["10", "00"])) == ["10/000000", "00/000000"]


def test_subsets_follow_the_published_rule(tmp_path):
    root = build_semantickitti(tmp_path, ["00", "01", "02"], frames=range(5), cameras=(), camseg=False)
    assert tokens(open_split(root, every=7)) == ["00/000000", "01/000002", "02/000004"]
    assert tokens(open_split(root, every=2, unit="scene")) == [f"01/{frame:06d}" for frame in range(5)]
    # 192 scans are the published 1 % of the 19 130 scans of `train`, which leaves only [0, 100, 200, …].
    assert len(range(19130)[::100]) == 192
    assert len(range(19130)[99::100]) == 191


def test_a_missing_folder_split_or_sequence_is_named(tmp_path):
    assert "sequences/" in one_line_error(open_split, tmp_path)
    root = build_semantickitti(tmp_path / "data")
    assert "trainval" in one_line_error(open_split, root, "training")
    assert "01, 02" in one_line_error(open_split, root, "train")
    assert "sequence 05" in one_line_error(open_split, root, ["00", "05"])
    with pytest.raises(UserError, match="no scans"):
        open_split(root, every=9, unit="scene")


def test_an_empty_sequence_is_an_empty_selection(tmp_path):
    root = build_semantickitti(tmp_path, ["00"])
    for scan in (root / "dataset/sequences/00/velodyne").iterdir():
        scan.unlink()
    assert "no scans" in one_line_error(open_split, root)


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("velodyne/000001.bin", lambda path: path.write_bytes(path.read_bytes()[:-3]), "truncated scan"),
        ("velodyne/000001.bin", lambda path: path.write_bytes(b""), "truncated scan"),
        ("labels/000001.label", lambda path: path.write_bytes(path.read_bytes()[:-4]), "scan of 200 points"),
        ("labels/000001.label", lambda path: path.unlink(), "cannot read"),
        ("image_2/000001.png", lambda path: path.unlink(), "cannot read"),
        ("image_2/000001.png", lambda path: path.write_bytes(b"not a picture"), "cannot read"),
    ],
)
def test_a_damaged_file_of_a_frame_is_named(tmp_path, file, damage, message):
    root = build_semantickitti(tmp_path, ["00"])
    dataset = open_split(root)
    path = root / "dataset/sequences/00" / file
    damage(path)
    error = one_line_error(dataset.__getitem__, 1)
    assert str(path) in error
    assert message in error
    assert dataset[0].token == "00/000000"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("calib.txt", None, "cannot read"),
        ("calib.txt", "P2: 1 2 3\n", "'Tr'"),
        ("calib.txt", f"Tr: {' '.join(map(str, TR.ravel()))}\nP2: 1 2 3\n", "'P2'"),
        ("calib.txt", f"Tr: {' '.join(map(str, TR.ravel()))}\nP2: {'0 ' * 12}\n", "'P2'"),
        ("poses.txt", "1 0 0 0 0 1 0 0 0 0 1 0\n", "1 lines"),
        ("poses.txt", "1 0 zero\n", "12 numbers"),
        ("times.txt", "0\n0.1\n", "2 lines"),
    ],
)
def test_a_damaged_file_of_a_sequence_is_named(tmp_path, file, text, message):
    root = build_semantickitti(tmp_path, ["00"])
    path = root / "dataset/sequences/00" / file
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    error = one_line_error(open_split, root)
    assert str(path) in error
    assert message in error


def test_a_scan_without_a_frame_number_is_named(tmp_path):
    root = build_semantickitti(tmp_path, ["00"])
    (root / "dataset/sequences/00/velodyne/copy of 0.bin").write_bytes(b"")
    assert "copy of 0.bin" in one_line_error(open_split, root)


@pytest.mark.real
def test_real_sequences_project_thousands_of_points_and_drive_forward():
    if "OLIVINE_REAL_DATA" not in os.environ:
        pytest.skip("set OLIVINE_REAL_DATA to the folder of real samples")
    root = Path(os.environ["OLIVINE_REAL_DATA"]) / "semantickitti-mini"
    dataset = open_split(root, ["10"])
    assert tokens(dataset) == [f"10/{frame:06d}" for frame in (0, 3, 6, 9)]
    frame = dataset[1]
    pairs = find_pairs(frame)
    assert 10_000 < len(pairs) < 30_000
    forward, left, up = frame.global_from_lidar[:3, 3]
    assert 0.2 < forward < 5
    assert abs(left) < 0.2
    assert abs(up) < 0.2
    assert frame.timestamp_us == 311_874
    # Road points of the labels lie on pixels the network calls road far more often than not.
    road = frame.labels[pairs.point] == 9
    assert (pairs.label[road] == 0).mean() > 0.7


def test_scans_are_listed_by_number_with_endings_in_any_case(tmp_path):
    folder = tmp_path / "velodyne"
    folder.mkdir()
    for name in ("10.bin", "2.BIN", "1.Bin", "._1.bin", "notes.txt"):
        (folder / name).touch()
    assert [path.name for path in kitti._scans(folder).values()] == ["1.Bin", "2.BIN", "10.bin"]
    (folder / "000002.bin").touch()
    with pytest.raises(UserError, match=r"frame 2 is there twice"):
        kitti._scans(folder)


@pytest.mark.parametrize("word", ["nan", "inf", "-inf", "1e300"])
@pytest.mark.parametrize(("name", "columns"), [("times.txt", 1), ("poses.txt", 12)])
def test_times_and_poses_that_are_no_plausible_numbers_are_named(tmp_path, word, name, columns):
    path = tmp_path / name
    path.write_text("\n".join([" ".join(["1"] * columns), " ".join([*["1"] * (columns - 1), word])]), encoding="utf-8")
    with pytest.raises(UserError, match=rf"{name}: line 2 is not finite"):
        kitti._table(path, columns, 2)


def test_two_rows_of_a_calibration_that_differ_are_refused(tmp_path):
    path = tmp_path / "calib.txt"
    row = "Tr: 1 0 0 0 0 1 0 0 0 0 1 0\n"
    path.write_text(row + row, encoding="utf-8")
    kitti.read_calibration(path, ())
    path.write_text(row + row.replace("1 0 0 0 0", "1 0 0 9 0", 1), encoding="utf-8")
    with pytest.raises(UserError, match="two rows 'Tr' that differ"):
        kitti.read_calibration(path, ())
