"""Folders as logs: what they are taken for, when their files were taken, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builders.drive import CAMERAS, EPOCH_NS, pose_at
from olivine.calibration import Calibration, CameraCalibration, calibration_text, camera_model
from olivine.cli import main
from olivine.data.data_record import read_data_record
from olivine.data.file_times import time_of_name
from olivine.errors import UserError
from olivine.geometry import invert, quaternion_from_rotation
from olivine.logs.convert import convert
from olivine.logs.frames import frames
from olivine.logs.log import Log
from olivine.logs.odometry import find_motion
from olivine.logs.opening import open_log
from olivine.logs.sources.files import FileReading
from olivine.logs.sources.kitti_raw import global_poses
from olivine.logs.sources.times import read_timestamps
from olivine.logs.told import told_recipe

SIZE = (64, 48)
CAMERA_FROM_LIDAR = invert(CAMERAS[0].base_from_camera)
START_NS = EPOCH_NS
EVERY = ["keyframe_hz=null", "lidars.0.columns.names=[x,y,z,intensity]"]


def ring(seed: int = 0) -> np.ndarray:
    """[720, 4] float32 points all around, with intensities 0…255 and every tenth row without return."""
    generator = np.random.default_rng(seed)
    angle = np.arange(720) * np.pi / 360
    reach = generator.uniform(5, 30, 720)
    points = np.column_stack([reach * np.cos(angle), reach * np.sin(angle), generator.uniform(-1, 1, 720), angle * 40])
    points[::10, :3] = 0
    return points.astype(np.float32)


def picture(path: Path, size: tuple[int, int] = SIZE, shade: int = 128) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), shade, np.uint8)).save(path)


def scan(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ring(seed).tofile(path)


def calibration(names: tuple[str, ...] = ("front",)) -> str:
    model = camera_model(SIZE, [40.0, 40.0, 31.5, 23.5], source="test")
    cameras = {name: CameraCalibration(model, CAMERA_FROM_LIDAR) for name in names}
    return calibration_text(Calibration("", "", cameras))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five moments, a quarter of a second apart, with times in the names."""
    root = tmp_path / "yard"
    for number in range(5):
        scan(root / "lidar" / f"{START_NS + number * 250_000_000}.bin", number)
        picture(root / "front" / f"{START_NS + number * 250_000_000 + 10_000_000}.jpg", shade=50 + number)
    (root / "calibration.yaml").write_text(calibration())
    (root / "labels").mkdir()
    return root


def converted(source: Path, out: Path, *overrides: str):
    with open_log(source) as log:
        return convert(log, out, told_recipe(log, None, [*EVERY, *overrides]))


def test_a_folder_is_read_by_the_times_in_its_names(folder, tmp_path):
    with open_log(folder) as log:
        setup = log.propose()
        assert log.form == "a folder of scans"
        assert list(setup.config.cameras) == ["front"]  # as the calibration calls it
        assert [topic.name for topic in log.topics] == ["front/*.jpg", "lidar/*.bin"]
        first = next(iter(frames(log, told_recipe(log, None, EVERY))))
        assert first.time_ns == START_NS
        assert [image.time_ns for image in first.images] == [START_NS + 10_000_000]
        np.testing.assert_array_equal(first.cloud().points_m, ring()[np.arange(720) % 10 != 0, :3])
    said = converted(folder, tmp_path / "out")
    assert (said.keyframes, said.images, said.poses) == (5, {"front": 5}, "unknown")
    recorded = sorted(path.read_bytes() for path in (folder / "front").iterdir())
    written = sorted(path.read_bytes() for path in (tmp_path / "out" / "samples" / "front").iterdir())
    assert written == recorded  # nothing had to be done to them


def test_poses_beside_the_scans_are_those_of_the_lidar(folder, tmp_path):
    lines = []
    for number in range(12):
        pose = pose_at(number * 0.1)
        w, x, y, z = quaternion_from_rotation(pose[:3, :3])
        seconds, rest = divmod(START_NS + number * 100_000_000, 1_000_000_000)
        lines.append(f"{seconds}.{rest:09d} {' '.join(map(repr, map(float, (*pose[:3, 3], x, y, z, w))))}")
    (folder / "poses.txt").write_text("# time x y z qx qy qz qw\n" + "\n".join(lines))
    with open_log(folder) as log:
        found = list(frames(log, told_recipe(log, None, EVERY)))
    assert len(found) == 5
    np.testing.assert_allclose(found[2].global_from_lidar, pose_at(0.5), atol=1e-9)
    moved = found[2].camera_from_lidar(found[2].images[0])
    expected = CAMERA_FROM_LIDAR @ invert(pose_at(0.51)) @ pose_at(0.5)
    np.testing.assert_allclose(moved, expected, atol=1e-3)


def test_names_that_are_no_times_pair_by_name(folder, tmp_path, capsys):
    for place in ("lidar", "front"):
        for number, path in enumerate(sorted((folder / place).iterdir())):
            path.rename(path.with_name(f"{number:06d}{path.suffix}"))
    assert main(["convert", str(folder), "--list"]) == 0
    assert "files of one name belong together, and are taken 0.1 s apart" in capsys.readouterr().out
    assert converted(folder, tmp_path / "out").keyframes == 5
    for path in (folder / "front").iterdir():
        path.rename(path.with_name(f"img{path.name}"))
    with pytest.raises(UserError, match=r"names of front/\*\.jpg are no times"):
        converted(folder, tmp_path / "other")


def test_folders_of_one_name_below_the_sensors_are_recordings(folder, tmp_path):
    for place in ("lidar", "front"):
        for number, path in enumerate(sorted((folder / place).iterdir())):
            day = folder / place / ("monday" if number < 3 else "tuesday")
            day.mkdir(exist_ok=True)
            path.rename(day / f"{number + 8}{path.suffix}")  # 8, 9, 10: by their values
    with open_log(folder) as log:
        assert [topic.name for topic in log.topics] == ["front/*.jpg", "lidar/*.bin"]
        found = list(frames(log, told_recipe(log, None, EVERY)))
    assert [(frame.scene, Path(frame.scans[0].reading.source).stem) for frame in found] == [
        (1, "8"), (1, "9"), (1, "10"), (2, "11"), (2, "12"),
    ]  # fmt: skip
    assert all(Path(frame.images[0].reading.source).stem == Path(frame.scans[0].reading.source).stem for frame in found)


@pytest.mark.parametrize(
    ("name", "expected_ns"),
    [
        ("1678066887800777984", 1678066887800777984),
        ("cam0_1678066887800777", 1678066887800777000),
        ("1678066887800", 1678066887800000000),
        ("1581624663_149", 1581624663149000000),
        ("1581624663.5", 1581624663500000000),
        ("000123", None),
        ("20260101", None),
        ("9999999999999999999", None),
    ],
)
def test_times_in_names(name, expected_ns):
    assert time_of_name(name) == expected_ns


def test_images_of_two_sizes_are_refused(folder, tmp_path):
    picture(sorted((folder / "front").iterdir())[3], (32, 24))
    with pytest.raises(UserError, match=r"an image of 32×24 pixels, but an earlier one of front/.* has 64×48"):
        converted(folder, tmp_path / "out")


def test_scans_without_a_return_are_rejected_and_counted(folder, tmp_path):
    for path in sorted((folder / "lidar").iterdir())[1:3]:
        np.zeros((720, 4), np.float32).tofile(path)
    said = converted(folder, tmp_path / "out")
    assert (said.keyframes, said.rejected) == (3, {"the cloud has no points": 2})
    for path in (folder / "lidar").iterdir():
        np.zeros((720, 4), np.float32).tofile(path)
    with pytest.raises(UserError, match=r"none of 5 scans can be used .*the cloud has no points"):
        converted(folder, tmp_path / "none")


def test_a_damaged_image_costs_its_frame_and_is_said(folder, tmp_path, caplog):
    path = sorted((folder / "front").iterdir())[1]
    path.write_bytes(path.read_bytes()[:-40])
    said = converted(folder, tmp_path / "out")
    assert said.rejected == {"an image of front cannot be decoded": 1}
    assert str(path) in caplog.text
    written = [path.name for path in (tmp_path / "out" / "samples" / "LIDAR_TOP").iterdir()]
    assert len(written) == 4


def test_a_damaged_scan_costs_its_frame_and_is_said(folder, tmp_path, caplog):
    first, _, third, *_ = sorted((folder / "lidar").iterdir())
    third.write_bytes(b"1234567")
    said = converted(folder, tmp_path / "out")
    assert (said.keyframes, said.rejected) == (4, {"a scan of lidar/*.bin cannot be decoded": 1})
    assert str(third) in caplog.text
    first.write_bytes(b"12345")
    with pytest.raises(UserError, match=rf"{first}: .*; the first scan has to be whole \(start_s=… begins later\)"):
        converted(folder, tmp_path / "none")
    assert not (tmp_path / "none" / "samples").exists()
    assert converted(folder, tmp_path / "later", "start_s=0.6").keyframes == 2


def test_a_damaged_scan_costs_its_pose_and_is_said(folder, caplog):
    third = sorted((folder / "lidar").iterdir())[2]
    third.write_bytes(b"1234567")
    with open_log(folder) as log:
        found = find_motion(log, told_recipe(log, None, [*EVERY, "poses=kiss-icp"]))
    assert len(found.world_from_ego.times_ns) == 4
    assert f"no pose from {third}" in caplog.text
    min((folder / "lidar").iterdir()).write_bytes(b"12345")
    with open_log(folder) as log, pytest.raises(UserError, match="the first scan has to be whole"):
        find_motion(log, told_recipe(log, None, [*EVERY, "poses=kiss-icp"]))


def test_scans_that_are_taken_away_end_the_conversion(folder, tmp_path, monkeypatch):
    """A disk that is unplugged must not leave a dataset of half of the frames that looks finished."""
    third = sorted((folder / "lidar").iterdir())[2]
    read = FileReading.scan

    def until_unplugged(reading, columns=None):
        if reading.path == third:
            third.unlink(missing_ok=True)
        return read(reading, columns)

    monkeypatch.setattr(FileReading, "scan", until_unplugged)
    with pytest.raises(UserError, match=f"{third}: "):
        converted(folder, tmp_path / "out")
    assert not (tmp_path / "out" / "v1.0-log" / "olivine.json").exists()


def test_a_conversion_into_the_log_itself_is_refused(folder):
    with pytest.raises(UserError, match="lies inside the log"):
        converted(folder, folder / "converted")


def test_what_is_no_log_is_said_in_one_line(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("…")
    for path, message in ((tmp_path, "no log recognised"), (tmp_path / "none", "there is no such log")):
        assert main(["convert", str(path), str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    """A drive of KITTI raw, three moments."""
    drive = tmp_path / "2011_09_26" / "2011_09_26_drive_0001_sync"
    times = "\n".join(f"2011-09-26 13:02:25.{951199337 + number * 10_000_000:09d}" for number in range(3))
    for number in range(3):
        scan(drive / "velodyne_points" / "data" / f"{number:010d}.bin", number)
        picture(drive / "image_02" / "data" / f"{number:010d}.png")
        place = drive / "oxts" / "data" / f"{number:010d}.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"49.01 {8.43 + number * 1e-5} 112.8 0.01 0.02 {0.1 * number} 1 2 3\n")
    for name in ("velodyne_points", "image_02", "oxts"):
        (drive / name / "timestamps.txt").write_text(times + "\n")
    day = drive.parent
    turn = "0 -1 0 0 0 -1 1 0 0"
    (day / "calib_velo_to_cam.txt").write_text(f"R: {turn}\nT: 0 -0.08 -0.27\n")
    (day / "calib_imu_to_velo.txt").write_text("R: 1 0 0 0 1 0 0 0 1\nT: -0.8 0.3 -0.8\n")
    rows = ["R_rect_00: 1 0 0 0 1 0 0 0 1", "S_rect_02: 64.0 48.0", "P_rect_02: 40 0 31.5 2.4 0 40 23.5 0 0 0 1 0"]
    (day / "calib_cam_to_cam.txt").write_text("\n".join(rows) + "\n")
    return drive


def test_a_drive_of_kitti_raw_has_its_poses_and_rectified_cameras(kitti, tmp_path):
    with open_log(kitti) as log:
        assert log.form == "a drive of KITTI raw"
        config = told_recipe(log, None, EVERY)
        assert (config.poses, list(config.cameras)) == ("file", ["CAM_LEFT"])
        found = list(frames(log, config))
    assert [frame.time_ns % 1_000_000_000 for frame in found] == [951199337, 961199337, 971199337]
    step = found[1].global_from_ego[:3, 3] - found[0].global_from_ego[:3, 3]
    # A hundred-thousandth of a degree of longitude at 49.01° north, on a sphere of 6378.137 km.
    np.testing.assert_allclose(step, [np.radians(1e-5) * 6378137 * np.cos(np.radians(49.01)), 0, 0], atol=1e-3)
    ego_from_lidar = invert(found[0].global_from_ego) @ found[0].global_from_lidar
    np.testing.assert_allclose(ego_from_lidar[:3, 3], [0.8, -0.3, 0.8], atol=1e-9)
    assert converted(kitti, tmp_path / "out").images == {"CAM_LEFT": 3}


def test_mercator_keeps_distances_to_the_north_too():
    rows = np.array([[49.0, 8.0, 100, 0, 0, 0], [49.0001, 8.0, 101, 0, 0, np.pi / 2]])
    first, second = global_poses(rows)
    np.testing.assert_allclose((second - first)[:3, 3], [0, np.radians(1e-4) * 6378137, 1], atol=1e-3)
    np.testing.assert_allclose(second[:3, :3] @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_lists_of_times_with_a_line_that_is_none_are_refused(tmp_path):
    path = tmp_path / "timestamps.txt"
    path.write_text("2011-09-26 13:02:25.951199337\nyesterday\n")
    with pytest.raises(UserError, match="line 2 is no date and time: 'yesterday'"):
        read_timestamps(path)


def test_several_sequences_of_rellis_are_one_too_many(tmp_path):
    for sequence in ("00000", "00001"):
        scan(tmp_path / sequence / "os1_cloud_node_kitti_bin" / "000000.bin")
        picture(tmp_path / sequence / "pylon_camera_node" / "frame000000-1581624652_750.jpg")
    with open_log(tmp_path) as log, pytest.raises(UserError, match="holds the sequences 00000, 00001; convert one"):
        log.propose()
    shutil.rmtree(tmp_path / "00001")
    with open_log(tmp_path) as log:
        assert log.form == "a sequence of RELLIS-3D"
        assert log.topics[0].first_ns == 1581624652_750_000_000


def test_every_source_inherits_the_seam():
    from olivine.logs.opening import SOURCES

    assert all(issubclass(kind, Log) for kind in SOURCES)


def written_clouds(root: Path) -> np.ndarray:
    """[N, 5] rows of all clouds of a converted folder, in order."""
    files = sorted((root / "samples" / "LIDAR_TOP").iterdir())
    return np.concatenate([np.fromfile(path, "<f4").reshape(-1, 5) for path in files])


def test_intensities_are_measured_over_the_log_or_cut_off_where_the_range_is_told(folder, tmp_path):
    path = sorted((folder / "lidar").iterdir())[-1]  # not among the first scans, which --list looks at
    points = ring(4)
    points[5:8, 3] = np.nan, -3, 30000
    points.tofile(path)
    said = converted(folder, tmp_path / "measured")
    record = read_data_record(tmp_path / "measured" / "v1.0-log")
    assert (record.intensity_max, record.intensity_from) == (65535, "measured")
    assert record.columns[3:] == ("intensity", "unused")
    assert "2 were negative or no numbers, and are written as 0" in str(said)
    rows = written_clouds(tmp_path / "measured")
    assert (rows[:, 3].min(), rows[:, 3].max()) == (0, 30000)
    assert not rows[:, 4].any()
    converted(folder, tmp_path / "told", "intensity_max=100")
    record = read_data_record(tmp_path / "told" / "v1.0-log")
    assert (record.intensity_max, record.intensity_from) == (100, "told")
    np.testing.assert_array_equal(written_clouds(tmp_path / "told")[:, 3], np.minimum(rows[:, 3], 100))
    converted(folder, tmp_path / "none", "lidars.0.columns.names=[x,y,z,_]")
    record = read_data_record(tmp_path / "none" / "v1.0-log")
    assert (record.intensity_max, record.intensity_from) == (None, "none")


def test_an_edited_recipe_has_its_keys_listed(folder, tmp_path, capsys):
    assert main(["convert", str(folder), "--list", *EVERY]) == 0
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out)
    assert main(["keys", str(tmp_path / "mine.yaml"), "keyframe_hz"]) == 0
    assert "keyframe_hz = null" in capsys.readouterr().out
