"""Messages against readers that go value by value, and what is refused."""

import struct
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from builders.bags import build, header, typestore
from olivine.errors import UserError
from olivine.logs.messages import camera_info, cloud_records, pose, transforms

TYPES = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 8: "d"}


def cloud(fields, data, **changes):
    fields = [SimpleNamespace(name=n, offset=o, datatype=d, count=c) for n, o, d, c in fields]
    said = {"height": 1, "width": 1, "is_bigendian": False, "point_step": 16, "row_step": 0, **changes}
    return SimpleNamespace(fields=fields, data=np.frombuffer(data, np.uint8), **said)


@st.composite
def clouds(draw):
    """A layout with padding between fields, and the bytes of a cloud with padded rows."""
    fields, place = [], 0
    for number in range(draw(st.integers(1, 6))):
        place += draw(st.integers(0, 5))
        datatype, count = draw(st.sampled_from(sorted(TYPES))), draw(st.sampled_from([1, 1, 1, 3]))
        fields.append((f"f{number}", place, datatype, count))
        place += count * struct.calcsize("=" + TYPES[datatype])
    step = place + draw(st.integers(0, 4))
    height, width = draw(st.integers(1, 4)), draw(st.integers(0, 5))
    row = step * width + draw(st.integers(0, 9))
    data = np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, 256, row * height, np.uint8).tobytes()
    big = draw(st.booleans())
    return cloud(fields, data, height=height, width=width, point_step=step, row_step=row, is_bigendian=big)


@settings(max_examples=80, deadline=None)
@given(clouds())
def test_a_cloud_of_any_layout_is_read_as_value_by_value(message):
    records = cloud_records(message, "a.bag")
    content = message.data.tobytes()
    assert records.shape == (message.height * message.width,)
    order = ">" if message.is_bigendian else "<"
    for number, record in enumerate(records):
        start = number // message.width * message.row_step + number % message.width * message.point_step
        for field in message.fields:
            expected = struct.unpack_from(f"{order}{field.count}{TYPES[field.datatype]}", content, start + field.offset)
            np.testing.assert_array_equal(np.atleast_1d(record[field.name]), expected)


def test_points_without_row_padding_are_views_of_the_message():
    message = cloud([("x", 0, 7, 1)], bytes(64), width=4)
    assert np.shares_memory(cloud_records(message, "a"), message.data)


def test_a_field_named_twice_keeps_both_and_one_of_no_values_is_one_value():
    message = cloud([("x", 0, 7, 0), ("x", 4, 7, 1), ("", 8, 7, 1), ("x_2", 12, 7, 1)], struct.pack("<4f", 1, 2, 3, 4))
    (record,) = cloud_records(message, "a").tolist()
    assert record == (1, 2, 3, 4)
    assert cloud_records(message, "a").dtype.names[0] == "x"


def test_rows_without_a_stated_step_are_tight():
    message = cloud([("x", 0, 7, 1)], struct.pack("<4f", 1, 2, 3, 4), height=2, width=2, point_step=4)
    assert cloud_records(message, "a")["x"].tolist() == [1, 2, 3, 4]


def test_a_cloud_of_no_points_has_no_points():
    assert cloud_records(cloud([("x", 0, 7, 1)], b"", width=0), "a").shape == (0,)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 1_000_000_000}, "claims 1 × 1000000000 points"),
        ({"height": 1_000_000_000, "width": 4_000_000_000}, "claims"),
        ({"point_step": 3}, "ends after the 3 bytes"),
        ({"point_step": 0}, "ends after the 0 bytes"),
        ({"fields": [SimpleNamespace(name="x", offset=0, datatype=9, count=1)]}, "unknown datatype 9"),
        ({"fields": [SimpleNamespace(name="x", offset=0, datatype=7, count=2**31)]}, "ends after"),
    ],
)
def test_clouds_that_claim_more_than_they_hold_are_refused(changes, said):
    message = cloud([("x", 0, 7, 1)], bytes(16))
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(UserError, match=said):
        cloud_records(message, "a.bag: /points")


def moved(quaternion_xyzw=(0.0, 0.0, 0.0, 1.0), place=(1.0, 2.0, 3.0)):
    return {
        "header": header(1_500_000_007, "/map"),
        "child_frame_id": "/lidar",
        "transform": {
            "translation": dict(zip("xyz", place, strict=True)),
            "rotation": dict(zip("xyzw", quaternion_xyzw, strict=True)),
        },
    }


@pytest.mark.parametrize("generation", [1, 2])
def test_a_transform_is_the_pose_of_the_child_in_its_parent(generation):
    turn = Rotation.from_euler("xyz", [0.3, -0.2, 1.1])
    message = build(typestore(generation), "tf2_msgs/msg/TFMessage", {"transforms": [moved(turn.as_quat())]})
    (one,) = transforms(message, "a")
    assert (one.stamp_ns, one.parent, one.child) == (1_500_000_007, "map", "lidar")
    np.testing.assert_allclose(one.parent_from_child[:3, :3], turn.as_matrix(), atol=1e-12)
    np.testing.assert_array_equal(one.parent_from_child[:, 3], [1, 2, 3, 1])


@pytest.mark.parametrize(
    "fields", [moved((0, 0, 0, 0)), moved((1, 1, 0, 0)), moved(place=(np.nan, 0, 0)), moved((np.nan, 0, 0, 1))]
)
def test_what_is_no_transform_is_refused(fields):
    message = build(typestore(2), "tf2_msgs/msg/TFMessage", {"transforms": [fields]})
    with pytest.raises(UserError, match=r"a\.bag: map ← lidar: is no transform"):
        transforms(message, "a.bag")


def test_odometry_is_the_pose_of_the_vehicle():
    turn = Rotation.from_euler("z", 0.5)
    fields = {
        "header": header(42, "odom"),
        "child_frame_id": "base_link",
        "pose": {"pose": {"position": {"x": 4.0}, "orientation": dict(zip("xyzw", turn.as_quat(), strict=True))}},
    }
    found = pose(build(typestore(1), "nav_msgs/msg/Odometry", fields), "a")
    assert (found.stamp_ns, found.parent, found.child) == (42, "odom", "base_link")
    np.testing.assert_allclose(found.parent_from_child[:3, :3], turn.as_matrix(), atol=1e-12)
    assert found.parent_from_child[0, 3] == 4.0


def calibrated(generation, **changes):
    fields = {
        "header": header(7, "/camera"),
        "width": 1920,
        "height": 1200,
        "distortion_model": "plumb_bob",
        "d": [-0.1, 0.02, 0.001, 0.002, 0.0],
        "k": [1000, 0, 960, 0, 1001, 600, 0, 0, 1],
        "p": [900, 0, 950, 0, 0, 901, 590, 0, 0, 0, 1, 0],
        **changes,
    }
    return build(typestore(generation), "sensor_msgs/msg/CameraInfo", fields)


@pytest.mark.parametrize("generation", [1, 2])
def test_a_calibration_is_read_under_both_generations_names(generation):
    found = camera_info(calibrated(generation), "a")
    assert (found.frame_id, found.camera.size, found.camera.distortion) == ("camera", (1920, 1200), "plumb_bob")
    np.testing.assert_array_equal(found.camera.intrinsics, [[1000, 0, 960], [0, 1001, 600], [0, 0, 1]])
    assert found.camera.coefficients == (-0.1, 0.02, 0.001, 0.002, 0.0)
    np.testing.assert_array_equal(found.rectified.intrinsics, [[900, 0, 950], [0, 901, 590], [0, 0, 1]])
    assert found.rectified.distortion == "none"


def test_binning_and_a_region_of_interest_move_the_pixels():
    region = {"x_offset": 100, "y_offset": 40, "width": 1600, "height": 1000}
    found = camera_info(calibrated(2, binning_x=4, binning_y=2, roi=region), "a")
    assert found.camera.size == (400, 500)
    ray = np.array([0.1, -0.2, 1.0])
    whole = np.array([[1000, 0, 960], [0, 1001, 600.0]]) @ ray
    # The centre of the first binned pixel is the mean of the pixels that it is made of.
    expected = [(whole[0] - 101.5) / 4, (whole[1] - 40.5) / 2]
    np.testing.assert_allclose((found.camera.intrinsics @ ray)[:2], expected, atol=1e-9)


def test_a_camera_that_was_never_calibrated_is_refused():
    with pytest.raises(UserError, match="not calibrated"):
        camera_info(calibrated(2, k=None), "a.bag: /camera_info")


def test_a_calibration_without_a_projection_has_no_rectified_camera():
    assert camera_info(calibrated(2, p=None), "a").rectified is None
