"""Bags of every container: the same readings, the topics that their indices tell of, and what is refused."""

import itertools
import shutil
import sqlite3

import numpy as np
import pytest

from builders.bags import FORMS, Message, cloud_fields, header, image_fields, write_bag
from builders.drive import CAMERAS, EPOCH_NS, LIDARS
from olivine.errors import UserError
from olivine.logs import bags
from olivine.logs.bags import open_bag
from olivine.logs.containers import Container, is_bag

POINTS, CLOUD = "/points", "sensor_msgs/msg/PointCloud2"
IMAGE, RAW = "/camera/image_raw", "sensor_msgs/msg/Image"
SECOND_NS = 1_000_000_000


def points(log_ns, stamp_ns=None, count=3, topic=POINTS):
    records = np.zeros(count, [("x", "<f4"), ("y", "<f4"), ("z", "<f4")])
    records["x"] = np.arange(count) + 1
    return Message(topic, CLOUD, log_ns, cloud_fields(records, log_ns if stamp_ns is None else stamp_ns, "lidar"))


def image(log_ns, width=4, topic=IMAGE):
    return Message(topic, RAW, log_ns, image_fields(np.zeros((3, width, 3), np.uint8), "rgb8", log_ns, "camera"))


def status(log_ns, text="on", topic="/status"):
    return Message(topic, "std_msgs/msg/String", log_ns, {"data": text})


def digest(reading):
    """All that a reading means, as comparable values."""
    kind = reading.topic.kind
    head = (reading.topic.name, reading.log_ns, reading.stamp_ns, reading.frame_id)
    if kind == "lidar":
        scan = reading.scan()
        parts = (scan.points_m, scan.intensity, scan.offsets_s, scan.rings)
        return (*head, *(None if part is None else part.tobytes() for part in parts))
    if kind == "camera":
        return (*head, reading.picture().rgb().tobytes())
    if kind == "camera_info":
        return (*head, repr(reading.camera_info()))
    if kind == "transforms":
        return (*head, *((one.parent, one.child, one.parent_from_child.tobytes()) for one in reading.transforms()))
    return (*head, reading.pose().parent_from_child.tobytes()) if kind == "odometry" else head


def read_all(path, **span):
    with open_bag(path) as bag:
        return [digest(reading) for reading in bag.readings([topic.name for topic in bag.topics], **span)]


def test_every_container_gives_the_same_readings_in_the_same_order(drive_bags):
    first, second, third = (read_all(drive_bags[form]) for form in FORMS)
    assert len(first) == 1 + 2 * 10 + 2 * 2 * 10 + 50 + 1
    assert first == second == third
    times = [entry[1] for entry in first]
    assert times == sorted(times)


@pytest.mark.parametrize("form", FORMS)
def test_the_index_tells_of_every_topic(drive_bags, form):
    with open_bag(drive_bags[form]) as bag:
        topics = {topic.name: topic for topic in bag.topics}
    top = topics["/lidar_top/points"]
    assert (top.type, top.count, top.kind, top.frame_id) == (CLOUD, 10, "lidar", "lidar_top")
    assert EPOCH_NS + 0.1 * SECOND_NS < top.first_ns < EPOCH_NS + 0.105 * SECOND_NS
    assert EPOCH_NS + SECOND_NS < top.last_ns < EPOCH_NS + 1.005 * SECOND_NS
    assert top.rate_hz == pytest.approx(10, rel=0.01)
    assert topics["/odom"].rate_hz == pytest.approx(50, rel=0.01)
    assert topics["/tf_static"].rate_hz is None
    kinds = {name: topic.kind for name, topic in topics.items()}
    assert kinds == {
        "/cam_front/camera_info": "camera_info",
        "/cam_front/image_raw": "camera",
        "/cam_left/camera_info": "camera_info",
        "/cam_left/image_raw/compressed": "camera",
        "/lidar_front/points": "lidar",
        "/lidar_top/points": "lidar",
        "/odom": "odometry",
        "/tf_static": "transforms",
        "/vehicle/status": "other",
    }


@pytest.mark.parametrize("form", FORMS)
def test_listing_reads_one_message_of_a_topic_at_most(drive_bags, form, monkeypatch):
    read = []
    original = Container.messages

    def counted(self, *arguments):
        for record in original(self, *arguments):
            read.append(record.connection.topic)
            yield record

    monkeypatch.setattr(Container, "messages", counted)
    with open_bag(drive_bags[form]) as bag:
        assert len(bag.topics) == 9
    assert sorted(read) == sorted(set(read) - {"/tf_static", "/vehicle/status"})


def test_what_was_simulated_comes_out(drive_bags):
    with open_bag(drive_bags["mcap"]) as bag:
        readings = list(bag.readings(["/lidar_top/points", "/lidar_front/points", "/tf_static", "/odom"]))
    static = readings[0].transforms()
    assert [one.child for one in static] == [sensor.name for sensor in (*LIDARS, *CAMERAS[:2])]
    np.testing.assert_allclose(static[1].parent_from_child, LIDARS[1].base_from_lidar, atol=1e-9)
    for reading in readings:
        if reading.topic.kind == "lidar":
            scan = reading.scan()
            assert scan.frame_id == reading.frame_id == reading.topic.name.split("/")[1]
            assert 0.02 < 1 - scan.returns().mean() < 0.9
            assert scan.rings.max() == 7
            known = scan.offsets_s[scan.returns()]
            assert known.min() >= 0
            assert 0.09 < known.max() < 0.1
            # Each column of beams has one time, in seconds on one LiDAR and in nanoseconds on the other.
            assert len(np.unique(np.round(known, 6))) <= 60


@pytest.mark.parametrize("form", FORMS)
def test_a_span_of_time_is_a_part_of_the_whole(drive_bags, form):
    whole = read_all(drive_bags[form])
    start, stop = whole[20][1], whole[70][1]
    part = read_all(drive_bags[form], start_ns=start, stop_ns=stop)
    assert part == [entry for entry in whole if start <= entry[1] < stop]


def test_several_files_are_read_as_one(tmp_path):
    for form in FORMS:
        folder = tmp_path / form
        parts = ([points(10), points(30)], [points(5), image(20)], [points(12)])
        for number, part in enumerate(parts):
            name = f"part{number}.bag" if form == "bag" else f"part{number}"
            written = write_bag(folder / name, part, form)
            if form != "bag":
                shutil.move(next(written.glob(f"*.{form}")), folder)
                shutil.rmtree(written)
        with open_bag(folder) as bag:
            topic = bag.topic(POINTS)
            assert (topic.count, topic.first_ns, topic.last_ns) == (4, 5, 30)
            assert [(r.topic.name, r.log_ns) for r in bag.readings([POINTS, IMAGE])] == [
                (POINTS, 5), (POINTS, 10), (POINTS, 12), (IMAGE, 20), (POINTS, 30),
            ]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_messages_of_one_time_come_by_topic(tmp_path, form):
    path = tmp_path / ("a.bag" if form == "bag" else "a")
    write_bag(path, [status(7, topic=name) for name in ("/c", "/a", "/b")], form)
    with open_bag(path) as bag:
        assert [reading.topic.name for reading in bag.readings(["/a", "/b", "/c"])] == ["/a", "/b", "/c"]


def test_a_crowd_at_one_time_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(bags, "SAME_TIME_BYTES", 1000)
    path = write_bag(tmp_path / "a.bag", [status(7, "x" * 300) for _ in range(5)])
    with open_bag(path) as bag, pytest.raises(UserError, match="set no times"):
        list(bag.readings(["/status"]))


@pytest.mark.parametrize("form", FORMS)
def test_a_wrong_topic_gets_the_closest_offered(drive_bags, form):
    with open_bag(drive_bags[form]) as bag, pytest.raises(UserError) as caught:
        next(bag.readings(["/lidar_top/point"]))
    assert f"{drive_bags[form]}: has no topic /lidar_top/point; did you mean /lidar_top/points" in str(caught.value)


def test_a_bag_without_points_says_what_it_holds(tmp_path):
    path = write_bag(tmp_path / "a.bag", [status(1), image(2)])
    with open_bag(path) as bag, pytest.raises(UserError) as caught:
        bag.lidars()
    assert str(caught.value) == (
        f"{path}: has no points (no topic of sensor_msgs/PointCloud2 with messages); "
        "it holds sensor_msgs/msg/Image, std_msgs/msg/String"
    )


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("velodyne_msgs/msg/VelodyneScan", {"header": header(1, "v")}, "raw packets of a Velodyne LiDAR"),
        ("ouster_ros/msg/PacketMsg", {"buf": np.zeros(5)}, "raw packets of an Ouster LiDAR"),
    ],
)
def test_packets_are_named_for_what_they_are(tmp_path, kind, fields, said):
    path = write_bag(tmp_path / "a.bag", [Message("/packets", kind, 1, fields)])
    with open_bag(path) as bag:
        assert bag.topics[0].kind == "packets"
        with pytest.raises(UserError, match=rf"/packets \({kind}\) holds {said}; record PointCloud2"):
            bag.lidars()


@pytest.mark.parametrize("form", FORMS)
def test_stamps_that_run_backwards_are_refused(tmp_path, form):
    path = tmp_path / ("a.bag" if form == "bag" else "a")
    stamps = [5 * SECOND_NS, 6 * SECOND_NS, 4 * SECOND_NS]
    write_bag(path, [points(10 * SECOND_NS + n, stamp) for n, stamp in enumerate(stamps)], form)
    with open_bag(path) as bag, pytest.raises(UserError, match=r"backwards \(4\.000000 s comes after 6\.000000 s\)"):
        list(bag.readings([POINTS]))


def test_a_header_without_a_stamp_has_the_time_of_the_log(tmp_path):
    path = write_bag(tmp_path / "a.bag", [points(SECOND_NS, 0), points(2 * SECOND_NS, 0)])
    with open_bag(path) as bag:
        assert [reading.stamp_ns for reading in bag.readings([POINTS])] == [SECOND_NS, 2 * SECOND_NS]


def test_images_of_two_sizes_on_one_topic_are_refused(tmp_path):
    path = write_bag(tmp_path / "a", [image(1), image(2, topic="/other"), image(3, width=5)], "mcap")
    with open_bag(path) as bag:
        readings = list(bag.readings([IMAGE, "/other"]))
        assert [reading.picture().size for reading in readings[:2]] == [(4, 3), (4, 3)]
        with pytest.raises(UserError, match="an image of 5×3, but earlier ones of this topic have 4×3"):
            readings[2].picture()


def test_a_cloud_without_points_is_a_scan_without_points(tmp_path):
    path = write_bag(tmp_path / "a.bag", [points(1, count=0)])
    with open_bag(path) as bag:
        (reading,) = bag.readings([POINTS])
        assert len(reading.scan().points_m) == 0


def test_a_reading_is_of_one_kind(tmp_path):
    path = write_bag(tmp_path / "a.bag", [points(1)])
    with open_bag(path) as bag:
        (reading,) = bag.readings([POINTS])
        with pytest.raises(UserError, match=r"is a sensor_msgs/msg/PointCloud2 \(lidar\), no camera"):
            reading.picture()


def test_hostile_names_stay_on_one_line(tmp_path):
    name = "/../../etc\n\x1b[31m"
    path = write_bag(
        tmp_path / "a", [points(2, 1, topic=name), points(3, 0, topic=name), points(4, 1, topic=name)], "mcap"
    )
    with open_bag(path) as bag:
        assert bag.topics[0].name == name
        with pytest.raises(UserError) as caught:
            bag.topic("/etc\n")
    assert str(caught.value).isprintable()


def test_what_is_no_bag_is_refused(tmp_path):
    (tmp_path / "points.pcd").touch()
    (tmp_path / "x.bag").write_text("not a bag")
    write_bag(tmp_path / "both" / "a.bag", [status(1)])
    shutil.copy(tmp_path / "both" / "a.bag", tmp_path / "both" / "a.db3")
    cases = {
        "none": "there is no such bag",
        "points.pcd": "is no bag",
        "x.bag": "cannot be opened as a bag",
        "both": "of several kinds",
    }
    for name, said in cases.items():
        with pytest.raises(UserError, match=said):
            open_bag(tmp_path / name)
    assert not is_bag(tmp_path / "points.pcd")
    assert is_bag(tmp_path / "both")


def test_a_folder_is_read_whatever_its_metadata_say(drive_bags, tmp_path):
    folder = shutil.copytree(drive_bags["db3"], tmp_path / "copy")
    metadata = folder / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("/odom", "/other"))
    assert len(read_all(folder)) == len(read_all(drive_bags["db3"]))
    metadata.unlink()
    assert len(read_all(folder)) == len(read_all(drive_bags["db3"]))


def test_an_old_database_without_definitions_is_read_with_those_of_ros(tmp_path):
    path = write_bag(tmp_path / "a", [points(1), points(2)], "db3") / "a.db3"
    with sqlite3.connect(path) as database:
        database.executescript("DROP TABLE schema; DROP TABLE message_definitions;")
    with open_bag(path) as bag:
        assert [len(reading.scan().points_m) for reading in bag.readings([POINTS])] == [3, 3]


def test_an_mcap_without_an_index_is_scanned(tmp_path):
    path = write_bag(tmp_path / "a", [points(1), image(2), points(3)], "mcap") / "a.mcap"
    content = bytearray(path.read_bytes())
    content[-28:-12] = bytes(16)  # The footer's offsets of the summary.
    path.write_bytes(content)
    with open_bag(path) as bag:
        assert {topic.name: topic.count for topic in bag.topics} == {IMAGE: 1, POINTS: 2}
        assert [reading.log_ns for reading in bag.readings([POINTS, IMAGE])] == [1, 2, 3]


def test_chunks_without_an_index_of_messages_are_scanned(tmp_path):
    path = write_bag(tmp_path / "a", [points(1), image(2), points(3)], "mcap") / "a.mcap"
    content = path.read_bytes()
    place = start = int.from_bytes(content[-28:-20], "little")
    summary = b""
    while place < len(content) - 37:
        kind, length = content[place], int.from_bytes(content[place + 1 : place + 9], "little")
        record = content[place + 9 : place + 9 + length]
        if kind == 0x08:  # A chunk; its offsets of message indices stand behind four numbers of 8 bytes.
            offsets = int.from_bytes(record[32:36], "little")
            record = record[:32] + bytes(4) + record[36 + offsets :]
        summary += bytes([kind]) + len(record).to_bytes(8, "little") + record
        place += 9 + length
    path.write_bytes(content[:start] + summary + content[-37:])
    with open_bag(path) as bag:
        assert {topic.name: topic.count for topic in bag.topics} == {IMAGE: 1, POINTS: 2}
        assert [reading.log_ns for reading in bag.readings([POINTS, IMAGE])] == [1, 2, 3]


def test_nothing_but_what_is_at_hand_is_held(tmp_path):
    """An MCAP of many chunks gives its first message without reading the last chunk."""
    messages = [image(number * SECOND_NS, width=60_000) for number in range(1, 31)]
    path = write_bag(tmp_path / "a", messages, "mcap") / "a.mcap"
    with open_bag(path) as bag:
        size = path.stat().st_size
        readings = bag.readings([IMAGE])
        list(itertools.islice(readings, 2))
        content = path.read_bytes()
        with path.open("r+b") as file:  # Spoil the messages in the second half; the first are still read.
            file.seek(size // 2)
            file.write(bytes(size // 4))
        assert len(list(itertools.islice(readings, 8))) == 8
        with pytest.raises(UserError, match="cannot be read"):
            list(readings)
        path.write_bytes(content)


def test_a_database_whose_recorder_was_killed_is_refused_before_its_last_messages_are_lost(tmp_path):
    path = write_bag(tmp_path / "a", [points(1)], "db3") / "a.db3"
    path.with_name("a.db3-wal").write_bytes(b"frames")
    with pytest.raises(UserError, match=r"left messages in a\.db3-wal; take them in with: sqlite3 a\.db3"):
        open_bag(path)
    path.with_name("a.db3-wal").write_bytes(b"")
    with open_bag(path) as bag:
        assert bag.topics[0].count == 1
    (tmp_path / "b.bag.active").touch()
    with pytest.raises(UserError, match=r"rosbag reindex b\.bag\.active"):
        open_bag(tmp_path / "b.bag.active")


def test_an_mcap_of_another_system_is_named(tmp_path):
    path = write_bag(tmp_path / "a", [points(1)], "mcap") / "a.mcap"
    path.write_bytes(path.read_bytes().replace(b"ros2", b"ros1", 1))
    with pytest.raises(UserError, match="is an MCAP of profile ros1; only those of ROS 2"):
        open_bag(path)


@pytest.mark.parametrize("squeezed", ["lz4", "bz2", "message", "file", "storage"])
def test_compressed_bags_are_read_as_others(tmp_path, squeezed):
    messages = [points(1), image(2), points(3)]
    path = tmp_path / ("a.bag" if squeezed in ("lz4", "bz2") else "a")
    form = {"storage": "mcap"}.get(squeezed, "db3" if path.suffix != ".bag" else "bag")
    write_bag(path, messages, form, compression=squeezed)
    with open_bag(path) as bag:
        assert [(topic.name, topic.count, topic.last_ns) for topic in bag.topics] == [(IMAGE, 1, 2), (POINTS, 2, 3)]
        assert [reading.log_ns for reading in bag.readings([POINTS, IMAGE])] == [1, 2, 3]
        assert len(next(bag.readings([POINTS])).scan().points_m) == 3
