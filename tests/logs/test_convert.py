"""Converting a log: the same bytes from every container and after any kill, and tables that hold together."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from builders.drive import EPOCH_NS, LIDARS, pose_at
from olivine.cli import main
from olivine.config import load_recipe
from olivine.data.data_record import read_data_record
from olivine.data.nuscenes import NuScenesConfig
from olivine.data.pairs import find_pairs
from olivine.data.splits import SplitConfig
from olivine.errors import UserError
from olivine.geometry import transform_points
from olivine.logs import journal
from olivine.logs.convert import Finished, convert
from olivine.logs.frames import frames
from olivine.logs.opening import open_log
from olivine.logs.recipe import ConvertConfig
from olivine.logs.told import told_recipe

EVERY = ["keyframe_hz=null", "cameras.CAM_LEFT.clock_offset_ms=-30"]
"""Every scan, and the clock of the camera put right."""


def run(source: Path, out: Path, overrides=EVERY, **options):
    with open_log(source) as log:
        return convert(log, out, told_recipe(log, None, overrides), **options)


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def converted(drive_bags, tmp_path_factory):
    """The drive, converted from its MCAP with all scans kept, and what was said of it."""
    root = tmp_path_factory.mktemp("converted") / "drive"
    return root, run(drive_bags["mcap"], root, [*EVERY, "name=drive"])


def test_every_container_gives_the_same_bytes(converted, drive_bags, tmp_path):
    expected = content(converted[0])
    for form in ("bag", "db3"):
        run(drive_bags[form], tmp_path / form, [*EVERY, "name=drive"])
        assert content(tmp_path / form) == expected


def test_the_number_of_threads_changes_nothing(converted, drive_bags, tmp_path):
    run(drive_bags["mcap"], tmp_path / "one", [*EVERY, "name=drive"], workers=1)
    assert content(tmp_path / "one") == content(converted[0])


def test_frames_are_matched_posed_and_calibrated(converted):
    root, said = converted
    assert (said.keyframes, said.scenes, said.images) == (10, 1, {"CAM_FRONT": 10, "CAM_LEFT": 10})
    dataset = NuScenesConfig(root=root, version="v1.0-log").open(SplitConfig(split="all"))
    record = read_data_record(root / "v1.0-log")
    assert record is not None
    assert (record.poses, record.intensity_max, record.sensors) == (
        "odometry",
        255.0,
        ("/lidar_top/points", "/lidar_front/points"),
    )
    for index in range(len(dataset)):
        frame = dataset[index]
        start_s = (frame.timestamp_us * 1000 - EPOCH_NS) / 1e9
        assert np.allclose(frame.global_from_lidar, pose_at(start_s) @ LIDARS[0].base_from_lidar, atol=2e-4)
        assert [camera.name for camera in frame.cameras] == ["CAM_FRONT", "CAM_LEFT"]
        assert all(abs(camera.timestamp_us - frame.timestamp_us) <= 50_000 for camera in frame.cameras)
        assert (find_pairs(frame, labels=False).per_camera(2) > 20).all()


def test_points_lie_where_the_beams_hit_though_the_vehicle_moved(drive_bags):
    """Every point, carried to the world, is where its own beam ended at its own time, for both LiDARs."""
    with open_log(drive_bags["mcap"]) as log:
        found = frames(log, told_recipe(log, None, EVERY))
        frame = list(found)[4]
        cloud = frame.cloud()
        assert cloud.undistorted
        assert set(cloud.sensor.tolist()) == {0, 1}
        world = transform_points(frame.global_from_lidar, cloud.points_m)
        expected = []
        for scan, lidar in zip(frame.scans, LIDARS, strict=True):
            raw = scan.reading.scan().without_gaps()
            times_s = (scan.time_ns - EPOCH_NS) / 1e9 + raw.offsets_s
            poses = np.array([pose_at(time_s) @ lidar.base_from_lidar for time_s in times_s])
            expected.append(np.einsum("nij,nj->ni", poses[:, :3, :3], raw.points_m) + poses[:, :3, 3])
        assert np.abs(world - np.concatenate(expected)).max() < 0.01
        stays = frames(log, told_recipe(log, None, [*EVERY, "undistort=false"]))
        apart = transform_points(frame.global_from_lidar, list(stays)[4].cloud().points_m) - np.concatenate(expected)
        assert np.abs(apart).max() > 0.3  # the vehicle does 8 m/s


def stop_after(frames_done: int, source: Path, out: Path, overrides, monkeypatch) -> None:
    """Interrupt a conversion when so many frames are noted."""
    left, add = [frames_done], journal.Journal.add

    def stopping(self, entry):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        add(self, entry)

    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "add", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(source, out, overrides)


@pytest.mark.parametrize("stop", [0, 3, 9])
def test_started_again_after_a_stop_anywhere_it_ends_in_the_same_bytes(
    stop, converted, drive_bags, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    stop_after(stop, drive_bags["mcap"], out, [*EVERY, "name=drive"], monkeypatch)
    notes = out / ".convert" / "journal.jsonl"
    if notes.exists():
        notes.write_bytes(notes.read_bytes() + b'{"scene":1,"ti')  # cut off in the middle of a line
    said = run(drive_bags["mcap"], out, [*EVERY, "name=drive"])
    assert (said.kept, said.keyframes) == (stop, 10)
    assert content(out) == content(converted[0])


def test_killed_it_goes_on_to_the_same_bytes(converted, drive_bags, tmp_path):
    out = tmp_path / "killed"
    words = ["convert", str(drive_bags["mcap"]), str(out), *EVERY, "name=drive"]
    process = subprocess.Popen([sys.executable, "-m", "olivine", *words], stderr=subprocess.DEVNULL)
    while not (out / "samples").exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.05)
    process.kill()
    process.wait()
    assert main(words) == 0
    assert content(out) == content(converted[0])


def test_a_changed_recipe_or_source_is_refused_on_the_way_and_at_the_end(drive_bags, tmp_path, monkeypatch):
    out = tmp_path / "out"
    stop_after(3, drive_bags["mcap"], out, EVERY, monkeypatch)
    with pytest.raises(UserError, match="another recipe: jpeg_quality was 95, and is 80 now"):
        run(drive_bags["mcap"], out, [*EVERY, "jpeg_quality=80"])
    with pytest.raises(UserError, match="another source"):
        run(drive_bags["bag"], out, [*EVERY, "name=mcap"])
    run(drive_bags["mcap"], out)
    (out / ".convert").mkdir()  # as if killed when all was written and the notes were not yet removed
    with pytest.raises(Finished, match="finished before"):
        run(drive_bags["mcap"], out)
    assert not (out / ".convert").exists()
    with pytest.raises(UserError, match="a finished dataset of another recipe"):
        run(drive_bags["mcap"], out, [*EVERY, "jpeg_quality=80"])


def test_a_folder_with_other_things_in_it_is_left_alone(drive_bags, tmp_path):
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(UserError, match="not an empty folder"):
        run(drive_bags["mcap"], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.tex"]


def test_the_listing_is_a_recipe_that_gives_the_same_dataset(converted, drive_bags, tmp_path, capsys):
    assert main(["convert", str(drive_bags["mcap"]), "--list", *EVERY, "name=drive"]) == 0
    listed = capsys.readouterr().out
    for shown in ("LiDAR", "/lidar_front/points", "sensor_msgs/msg/PointCloud2", "10.00 Hz", "ROS 2 (MCAP)"):
        assert shown in listed
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(listed)
    assert load_recipe(ConvertConfig, recipe).lidars[0].topic == "/lidar_top/points"
    out = tmp_path / "out"
    assert main(["convert", str(drive_bags["mcap"]), str(out), "--recipe", str(recipe)]) == 0
    assert "10 keyframes in 1 scenes" in capsys.readouterr().out
    assert content(out) == content(converted[0])
    assert main(["convert", str(drive_bags["mcap"]), str(out), "--recipe", str(recipe)]) == 0
    assert "finished before" in capsys.readouterr().out
    assert main(["convert", str(drive_bags["mcap"]), "--list", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["recipe"]["poses"] == "odometry"
    assert {topic["kind"] for topic in report["topics"]} >= {"lidar", "camera", "odometry", "transforms"}


def test_tables_are_those_of_the_official_layout(converted):
    root, _ = converted
    tables = {path.stem: json.loads(path.read_text()) for path in (root / "v1.0-log").glob("*.json")}
    del tables["olivine"]
    assert len(tables) == 13
    rows = {name: {row["token"]: row for row in table} for name, table in tables.items()}
    for reading in tables["sample_data"]:
        assert (root / reading["filename"]).is_file()
        for key in ("ego_pose", "calibrated_sensor", "sample"):
            assert reading[f"{key}_token"] in rows[key]
        if reading["next"]:
            assert rows["sample_data"][reading["next"]]["prev"] == reading["token"]
    (scene,) = tables["scene"]
    samples, token = [], scene["first_sample_token"]
    while token:
        samples.append(rows["sample"][token])
        token = samples[-1]["next"]
    assert len(samples) == scene["nbr_samples"] == 10
    assert samples[-1]["token"] == scene["last_sample_token"]
    sensors = {path.name: path.stat().st_size for path in (root / "sensors" / "LIDAR_TOP").iterdir()}
    for path in (root / "samples" / "LIDAR_TOP").iterdir():
        assert sensors[path.name.replace(".pcd.bin", ".bin")] * 20 == path.stat().st_size


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["cameras.CAM_FRONT.topic=/cam_frnt/image_raw"],
            "no topic /cam_frnt/image_raw; did you mean /cam_front/image_raw",
        ),
        (["cameras.CAM_FRONT.info=null"], "CAM_FRONT .* has no camera_info; give calibration=FILE"),
        (["poses=tf", "global_frame=odom"], "no frame 'odom'"),
        (["odometry=/odometry"], "has no topic /odometry; did you mean /odom"),
        (["max_gap_ms=1"], "none of 10 scans can be used"),
        (["name=../../etc"], "becomes the name of a folder"),
        (["cameras={../CAM: {topic: /cam_front/image_raw}}"], "becomes the name of a folder"),
        (["start_s=20"], "leaves nothing of a log of"),
        (["poses=file"], "none of a bag"),
        (["lidars.0.topic=/odom"], "is a nav_msgs/msg/Odometry"),
        (["calibration=missing.yaml"], "missing.yaml: "),
    ],
)
def test_what_does_not_fit_the_log_is_one_line(overrides, message, drive_bags, tmp_path, capsys):
    assert main(["convert", str(drive_bags["mcap"]), str(tmp_path / "out"), *overrides]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("olivine: ")
    with pytest.raises(UserError, match=message):
        run(drive_bags["mcap"], tmp_path / "out", overrides)


def test_after_a_recipe_that_finds_nothing_another_may_be_tried(drive_bags, tmp_path):
    with pytest.raises(UserError, match="none of 10 scans can be used"):
        run(drive_bags["mcap"], tmp_path / "out", [*EVERY, "max_gap_ms=1"])
    assert run(drive_bags["mcap"], tmp_path / "out").keyframes == 10
