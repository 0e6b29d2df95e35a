"""Logs with something wrong in them: one line that says what and where, and nothing written outside the folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from builders.bags import Message, cloud_fields, write_bag
from builders.drive import CAMERAS, EPOCH_NS, LIDARS, Drive
from olivine.cli import main

DRIVE = Drive(seconds=0.5, cameras=CAMERAS[1:2], lidars=LIDARS[:1], beams=8, azimuths=60, image_size=(48, 32))
CLOUD, IMAGE, STATIC = LIDARS[0].topic, CAMERAS[1].topic, "/tf_static"
EVERY = ["keyframe_hz=null", "cameras.CAM_LEFT.clock_offset_ms=-30"]

Change = Callable[[list[Message]], Iterable[Message]]


@pytest.fixture(scope="module")
def messages() -> list[Message]:
    return list(DRIVE.messages())


def convert(messages: Iterable[Message], folder: Path, capsys, overrides=EVERY) -> tuple[int, str, str]:
    """Exit status, standard output and error of a conversion."""
    bag = write_bag(folder / "drive.bag", messages)
    status = main(["convert", str(bag), str(folder / "out"), *overrides])
    said = capsys.readouterr()
    return status, said.out, said.err


def without(topic: str) -> Change:
    return lambda messages: (message for message in messages if message.topic != topic)


def changed(topic: str, change: Callable[[int, Message], Message]) -> Change:
    """The messages with those of a topic changed, each by its place among them."""

    def apply(messages):
        place = 0
        for message in messages:
            if message.topic == topic:
                message, place = change(place, message), place + 1
            yield message

    return apply


def other_size(place: int, message: Message) -> Message:
    picture = np.zeros((32, 48, 3), np.uint8) if place < 3 else np.zeros((20, 30, 3), np.uint8)
    _, content = cv2.imencode(".jpg", picture)
    return replace(message, fields={**message.fields, "data": content})


def no_rows(place: int, message: Message) -> Message:
    records = np.zeros(0, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4")])
    return replace(message, fields=cloud_fields(records, message.log_ns, "lidar_top"))


def backwards(place: int, message: Message) -> Message:
    records = np.ones(3, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4")])
    return replace(message, fields=cloud_fields(records, EPOCH_NS + (3 - place) * 10**8, "lidar_top"))


def unconnected(place: int, message: Message) -> Message:
    kept = [one for one in message.fields["transforms"] if one["child_frame_id"] != "cam_left"]
    return replace(message, fields={"transforms": kept})


def no_rotation(place: int, message: Message) -> Message:
    for one in message.fields["transforms"]:
        one["transform"]["rotation"] = {"x": 0.5, "y": 0.5, "z": 0.0, "w": 0.0}
    return message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without(CLOUD), "has no points"),
        (without("/cam_left/camera_info"), "has no camera_info; give calibration=FILE"),
        (without(STATIC), "no frame '"),
        (changed(STATIC, unconnected), "no frame 'cam_left'"),
        (changed(CLOUD, no_rows), "none of 5 scans can be used (4: the cloud has no points"),
        (changed(CLOUD, backwards), "stamps run backwards"),
        (without("/odom"), "drive.bag"),
    ],
)
def test_a_fault_is_one_line(change, said, messages, tmp_path, capsys):
    overrides = [*EVERY, "odometry=/odom", "poses=odometry"]
    status, _, error = convert(change(messages), tmp_path, capsys, overrides)
    assert status == 2
    line = error.splitlines()[-1]
    assert line.startswith("olivine: ")
    assert said in line


def test_images_of_two_sizes_on_one_topic_are_refused(messages, tmp_path, capsys):
    status, _, error = convert(changed(IMAGE, other_size)(messages), tmp_path, capsys)
    assert status == 2
    assert "an image of 30×20, but earlier ones of this topic have 48×32" in error.splitlines()[-1]


def test_names_that_lead_elsewhere_become_harmless_channels(messages, tmp_path, capsys):
    def hostile(message: Message) -> Message:
        if message.topic.startswith("/cam_left"):
            return replace(message, topic=message.topic.replace("/cam_left", "/../../etc/../cron.d\n"))
        return message

    folder = tmp_path / "a" / "b"
    assert convert(map(hostile, messages), folder, capsys, ["keyframe_hz=null", "max_gap_ms=100"])[0] == 0
    channels = sorted(path.name for path in (folder / "out" / "samples").iterdir())
    assert channels == ["CAM_ETC_CRON_D", "LIDAR_TOP"]
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file() and folder not in path.parents) == []
    assert main(["convert", str(folder / "drive.bag"), "--list"]) == 0
    assert "cron.d\\n" in capsys.readouterr().out


def test_a_bag_of_packets_names_them(messages, tmp_path, capsys):
    bag = write_bag(tmp_path / "drive.bag", without(CLOUD)(messages))
    assert main(["convert", str(bag), "--list"]) == 0
    listed = capsys.readouterr().out
    assert "missing:" in listed
    assert "has no points" in listed
    assert "kind: convert" not in listed


def test_a_truncated_bag_is_refused(messages, tmp_path, capsys):
    bag = write_bag(tmp_path / "drive.bag", messages)
    content = bag.read_bytes()
    bag.write_bytes(content[: len(content) // 2])
    assert main(["convert", str(bag), str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "drive.bag" in line
    assert not (tmp_path / "out").exists()
