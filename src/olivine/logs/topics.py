"""What the topics of a log are for, judged by the type of their messages.

A topic of packets holds what a sensor sent over the network; its points or pictures come out of the maker's driver
alone, so such topics are named for what they are and what to do about them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from olivine.errors import UserError, printable

Kind = Literal["lidar", "camera", "camera_info", "transforms", "odometry", "packets", "other"]
"""What a topic is for."""

_KINDS: dict[str, Kind] = {
    "sensor_msgs/msg/PointCloud2": "lidar",
    "sensor_msgs/msg/Image": "camera",
    "sensor_msgs/msg/CompressedImage": "camera",
    "sensor_msgs/msg/CameraInfo": "camera_info",
    "tf2_msgs/msg/TFMessage": "transforms",
    "tf/msg/tfMessage": "transforms",
    "nav_msgs/msg/Odometry": "odometry",
}

_POINTS = "record PointCloud2 instead, or play the log through {} and record what it publishes"
_VIDEO = "record CompressedImage instead, or decode the stream first"

_PACKETS = {
    "velodyne_msgs/msg/VelodyneScan": ("raw packets of a Velodyne LiDAR", _POINTS.format("velodyne_pointcloud")),
    "pandar_msgs/msg/PandarScan": ("raw packets of a Hesai LiDAR", _POINTS.format("hesai_lidar or nebula")),
    "hesai_ros_driver/msg/UdpFrame": ("raw packets of a Hesai LiDAR", _POINTS.format("hesai_ros_driver")),
    "ouster_ros/msg/PacketMsg": ("raw packets of an Ouster LiDAR", _POINTS.format("ouster_ros")),
    "ouster_sensor_msgs/msg/PacketMsg": ("raw packets of an Ouster LiDAR", _POINTS.format("ouster_ros")),
    "rslidar_msgs/msg/rslidarScan": ("raw packets of a RoboSense LiDAR", _POINTS.format("rslidar_sdk")),
    "rslidar_msg/msg/RslidarPacket": ("raw packets of a RoboSense LiDAR", _POINTS.format("rslidar_sdk")),
    "robosense_msgs/msg/RobosenseScan": ("raw packets of a RoboSense LiDAR", _POINTS.format("nebula")),
    "nebula_msgs/msg/NebulaPackets": ("raw packets of a LiDAR", _POINTS.format("nebula")),
    "livox_ros_driver/msg/CustomMsg": ("points in Livox's own form", _POINTS.format("livox_ros_driver")),
    "livox_ros_driver2/msg/CustomMsg": ("points in Livox's own form", _POINTS.format("livox_ros_driver2")),
    "livox_interfaces/msg/CustomMsg": ("points in Livox's own form", _POINTS.format("livox_ros2_driver")),
    "theora_image_transport/msg/Packet": ("a Theora video stream", _VIDEO),
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket": ("an FFmpeg video stream", _VIDEO),
    "foxglove_msgs/msg/CompressedVideo": ("a video stream", _VIDEO),
}


@dataclass(frozen=True)
class Topic:
    """A topic of a log.

    Attributes:
        name: as recorded; printable or not.
        type: of its messages, as `package/msg/Name` for both generations of ROS; several are joined by " and ".
        count: messages.
        first_ns: log time of the first message, nanoseconds since 1970; None where there is none.
        last_ns: log time of the last message; None where there is none.
        kind: what it is for.
        frame_id: coordinate frame of the first message; None where it was not read or has none.
    """

    name: str
    type: str
    count: int
    first_ns: int | None
    last_ns: int | None
    kind: Kind
    frame_id: str | None = None

    @property
    def rate_hz(self) -> float | None:
        """Messages a second between the first and the last; None for fewer than two, or no time between them."""
        if self.first_ns is None or self.last_ns is None or self.count < 2 or self.last_ns <= self.first_ns:
            return None
        return (self.count - 1) / (self.last_ns - self.first_ns) * 1e9

    @property
    def remark(self) -> str:
        """What a topic of packets holds and what to do about it, e.g. for a listing; empty for other kinds."""
        return "; ".join(_PACKETS.get(self.type, ()))


def kind_of(message_type: str) -> Kind:
    """What topics of a type `package/msg/Name` are for."""
    if message_type in _PACKETS:
        return "packets"
    return _KINDS.get(message_type, "other")


def named(topics: Iterable[Topic], name: str, source: object) -> Topic:
    """The topic of that name.

    Raises:
        UserError: there is none; offers the closest names.
    """
    names = {topic.name: topic for topic in topics}
    if name in names:
        return names[name]
    close = difflib.get_close_matches(name, names, 3, 0.5) or sorted(names)[:5]
    offer = f"; did you mean {' or '.join(map(printable, close))}?" if close else "; it has no topics"
    raise UserError(f"{source}: has no topic {printable(name)}{offer}")


def with_points(topics: Iterable[Topic], source: object) -> tuple[Topic, ...]:
    """The topics of point clouds that hold messages.

    Raises:
        UserError: there is none; names topics of packets for what they are, or else what the log holds.
    """
    topics = tuple(topics)
    lidars = tuple(topic for topic in topics if topic.kind == "lidar" and topic.count)
    if lidars:
        return lidars
    packets = next((topic for topic in topics if topic.kind == "packets"), None)
    if packets is not None:
        held = f"{printable(packets.name)} ({printable(packets.type)}) holds {packets.remark}"
    else:
        types = sorted({printable(topic.type) for topic in topics if topic.count})
        held = f"it holds {', '.join(types[:8])}{', …' if len(types) > 8 else ''}" if types else "it holds no messages"
    raise UserError(f"{source}: has no points (no topic of sensor_msgs/PointCloud2 with messages); {held}")
