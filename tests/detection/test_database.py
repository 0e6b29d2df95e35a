"""A database of objects: what it holds, and that it is never taken for one of other data."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders.box_frames import box_frame
from builders.frames import Frames
from olivine.detection.database import MARGIN_M, open_database
from olivine.errors import UserError


@pytest.fixture
def split():
    return Frames([box_frame(seed, ("Car", "Van", "Pedestrian")) for seed in range(4)])


def test_an_object_is_the_points_in_its_box_and_a_centimetre_beside_it(tmp_path, split):
    database = open_database(tmp_path / "db", split)
    assert database.names == ("Car", "Van", "Pedestrian") * 4
    assert database.frame.tolist() == [row // 3 for row in range(12)]
    for row in range(len(database)):
        frame = split.frames[database.frame[row]]
        expected = []
        x, y, z, dx, dy, dz, yaw = database.boxes[row]
        for (px, py, pz), intensity in zip(frame.points_lidar_m.astype(float), frame.intensity, strict=True):
            along = (px - x) * np.cos(yaw) + (py - y) * np.sin(yaw)
            across = (py - y) * np.cos(yaw) - (px - x) * np.sin(yaw)
            if abs(along) < dx / 2 + MARGIN_M and abs(across) < dy / 2 + MARGIN_M and abs(pz - z) <= dz / 2:
                expected.append((px - x, py - y, pz - z, intensity))
        np.testing.assert_allclose(database.points(row), np.array(expected).reshape(-1, 4), atol=1e-5)
    assert database.counts.sum() > 100
    assert (database.difficulty == np.tile([0, 1, 2], 4)).all()


def test_it_is_made_once_and_again_only_when_asked(tmp_path, split):
    open_database(tmp_path / "db", split)
    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "db").iterdir()}
    assert set(made) == {"index.json", "objects.npz", "points.bin"}
    open_database(tmp_path / "db", split)
    assert made == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "db").iterdir()}
    open_database(tmp_path / "db", split, rebuild=True)
    assert made != {path.name: path.stat().st_mtime_ns for path in (tmp_path / "db").iterdir()}


def moved(frame):
    boxes = frame.boxes.boxes.copy()
    boxes[0, 0] += 0.1
    return replace(frame, boxes=replace(frame.boxes, boxes=boxes))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda frames: frames[:3], "frames, boxes, points"),
        (lambda frames: [*frames[:3], replace(frames[3], token="else")], "frames"),
        (lambda frames: [*frames[:3], moved(frames[3])], "boxes"),
        (lambda frames: [*frames[:3], replace(frames[3], intensity=frames[3].intensity / 2)], "points"),
    ],
)
def test_a_database_of_other_data_is_refused_in_a_line(tmp_path, split, change, what):
    open_database(tmp_path / "db", split)
    other = Frames(change(split.frames))
    with pytest.raises(
        UserError, match=rf"db: a database of other data, .* \(other {what}\); choose another"
    ) as caught:
        open_database(tmp_path / "db", other)
    assert "\n" not in str(caught.value)
    assert len(open_database(tmp_path / "db", other, rebuild=True)) == 3 * len(other)


@pytest.mark.parametrize("name", ["index.json", "objects.npz", "points.bin"])
def test_a_damaged_database_is_refused(tmp_path, split, name):
    open_database(tmp_path / "db", split)
    path = tmp_path / "db" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"no readable database of objects .*set sampling\.rebuild=true"):
        open_database(tmp_path / "db", split)
    assert len(open_database(tmp_path / "db", split, rebuild=True)) == 12


def test_a_database_whose_building_was_interrupted_is_built_anew(tmp_path, split, monkeypatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("olivine.detection.database.write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            open_database(tmp_path / "db", split)
    assert not (tmp_path / "db" / "index.json").exists()
    assert len(open_database(tmp_path / "db", split)) == 12


def open_it(folder: Path, queue) -> None:
    split = Frames([box_frame(seed, ("Car", "Van", "Pedestrian")) for seed in range(4)])
    database = open_database(folder, split)
    queue.put(float(sum(database.points(row).sum() for row in range(len(database)))))


def test_several_programs_may_want_it_at_once(tmp_path, split):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    programs = [context.Process(target=open_it, args=(tmp_path / "db", queue)) for _ in range(2)]
    for program in programs:
        program.start()
    sums = [queue.get(timeout=120) for _ in programs]
    for program in programs:
        program.join()
    assert sums[0] == sums[1]
    assert json.loads((tmp_path / "db" / "index.json").read_text())["objects"] == {"Car": 4, "Pedestrian": 4, "Van": 4}


def test_frames_without_boxes_and_boxes_without_sides_are_refused(tmp_path, split):
    frame = split.frames[1]
    with pytest.raises(UserError, match="'frame-1': no annotated boxes"):
        open_database(tmp_path / "db", Frames([split.frames[0], replace(frame, boxes=None)]))
    boxes = frame.boxes.boxes.copy()
    boxes[2, 4] = 0
    flat = replace(frame, boxes=replace(frame.boxes, boxes=boxes))
    with pytest.raises(UserError, match=r"'frame-1': a Pedestrian has a box of [\d.]+ × 0 × [\d.]+ m"):
        open_database(tmp_path / "db", Frames([split.frames[0], flat]))
