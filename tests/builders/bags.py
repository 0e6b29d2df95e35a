"""Bags written by rosbags from one stream of messages: ROS 1 bag, ROS 2 db3 and MCAP.

Messages are nested dictionaries in ROS 2's names; what a type's definition has beside them is zero or empty.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.rosbag1 import Writer as BagWriter
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as StorageWriter
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

Form = Literal["bag", "db3", "mcap"]
FORMS: tuple[Form, ...] = ("bag", "db3", "mcap")

EXTRA_TYPES = {
    "tf2_msgs/msg/TFMessage": "geometry_msgs/TransformStamped[] transforms",
    "velodyne_msgs/msg/VelodynePacket": "time stamp\nuint8[1206] data",
    "velodyne_msgs/msg/VelodyneScan": "std_msgs/Header header\nvelodyne_msgs/VelodynePacket[] packets",
    "ouster_ros/msg/PacketMsg": "uint8[] buf",
}
"""Types that rosbags does not bring along."""


@dataclass(frozen=True)
class Message:
    """A message to be written: topic, type `package/msg/Name`, log time in nanoseconds, and its fields."""

    topic: str
    type: str
    log_ns: int
    fields: dict[str, Any]


@functools.cache
def typestore(generation: int) -> Any:
    """The types of ROS 1 or 2, with `EXTRA_TYPES`."""
    store = get_typestore(Stores.ROS1_NOETIC if generation == 1 else Stores.LATEST)
    for name, text in EXTRA_TYPES.items():
        if generation == 2:
            text = text.replace("time stamp", "builtin_interfaces/Time stamp")
        store.register(get_types_from_msg(text, name))
    return store


def build(store: Any, name: str, fields: dict[str, Any]) -> Any:
    """A message object of rosbags; ROS 1 has some names in capitals."""
    _, definition = store.fielddefs[name]
    given = {field: _value(store, kind, fields.get(field, fields.get(field.lower()))) for field, kind in definition}
    return store.types[name](**given)


def _value(store: Any, kind: tuple[Any, Any], value: Any) -> Any:
    node, detail = kind
    if node == Nodetype.NAME:
        return build(store, detail, value or {})
    if node == Nodetype.BASE:
        empty: Any = "" if detail[0] == "string" else 0
        return empty if value is None else value
    (inner, inner_detail), count = detail
    if inner == Nodetype.BASE and inner_detail[0] != "string":
        size = count if node == Nodetype.ARRAY else 0
        return np.zeros(size, inner_detail[0]) if value is None else np.asarray(value, inner_detail[0]).reshape(-1)
    return [_value(store, (inner, inner_detail), one) for one in value or []]


def write_bag(path: Path, messages: Iterable[Message], form: Form | None = None, compression: str = "") -> Path:
    """Write a bag.

    Args:
        path: a file `NAME.bag`, or a folder for db3 and MCAP.
        messages: in the order in which they are written.
        form: the container; `bag` where the path ends so.
        compression: `lz4` or `bz2` of chunks of a ROS 1 bag; zstd by `message`, `file` or `storage` of others.

    Returns:
        The path.
    """
    form = form or ("bag" if path.suffix == ".bag" else "mcap")
    path.parent.mkdir(parents=True, exist_ok=True)
    store = typestore(1 if form == "bag" else 2)
    writer = _writer(path, form)
    if compression and form == "bag":
        writer.set_compression(BagWriter.CompressionFormat[compression.upper()])
    elif compression:
        writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    with writer:
        serialize: Callable[..., Any] = store.serialize_ros1 if form == "bag" else store.serialize_cdr
        connections: dict[tuple[str, str], Any] = {}
        for message in messages:
            key = (message.topic, message.type)
            if key not in connections:
                connections[key] = writer.add_connection(*key, typestore=store)
            content = serialize(build(store, message.type, message.fields), message.type)
            writer.write(connections[key], message.log_ns, content)
    return path


def _writer(path: Path, form: Form) -> Any:
    if form == "bag":
        return BagWriter(path)
    return StorageWriter(
        path, version=9, storage_plugin=StoragePlugin.MCAP if form == "mcap" else StoragePlugin.SQLITE3
    )


def stamp(time_ns: int) -> dict[str, int]:
    """A `Time`."""
    return {"sec": time_ns // 1_000_000_000, "nanosec": time_ns % 1_000_000_000}


def header(time_ns: int, frame_id: str) -> dict[str, Any]:
    """A `Header`."""
    return {"stamp": stamp(time_ns), "frame_id": frame_id}


def pose_fields(parent_from_child: np.ndarray, place: str, turn: str) -> dict[str, Any]:
    """Position and quaternion of a [4, 4], under the names that a type has for them."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(parent_from_child[:3, :3]).as_quat().tolist()
    px, py, pz = parent_from_child[:3, 3].tolist()
    return {place: {"x": px, "y": py, "z": pz}, turn: {"x": x, "y": y, "z": z, "w": w}}


def cloud_fields(
    records: np.ndarray, time_ns: int, frame_id: str, *, height: int = 1, row_padding: int = 0
) -> dict[str, Any]:
    """The fields of a `PointCloud2` of structured records, whose dtype is the layout (padding, byte order, counts)."""
    codes = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
    layout = []
    for name in records.dtype.names:
        kind, offset = records.dtype.fields[name][:2]
        count = int(np.prod(kind.shape)) if kind.shape else 1
        layout.append({"name": name, "offset": offset, "datatype": codes[kind.base.str[1:]], "count": count})
    rows = np.frombuffer(records.tobytes(), np.uint8).reshape(height, -1)
    padded = np.pad(rows, ((0, 0), (0, row_padding)), constant_values=0xAB)
    return {
        "header": header(time_ns, frame_id),
        "height": height,
        "width": len(records) // height,
        "fields": layout,
        "is_bigendian": any(records.dtype[name].base.byteorder == ">" for name in records.dtype.names),
        "point_step": records.dtype.itemsize,
        "row_step": padded.shape[1],
        "data": padded,
        "is_dense": False,
    }


def image_fields(
    pixels: np.ndarray, encoding: str, time_ns: int, frame_id: str, *, row_padding: int = 0
) -> dict[str, Any]:
    """The fields of an `Image` of uint8 samples [H, W] or [H, W, C]."""
    rows = np.pad(pixels.reshape(len(pixels), -1), ((0, 0), (0, row_padding)), constant_values=0xCD)
    return {
        "header": header(time_ns, frame_id),
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "encoding": encoding,
        "step": rows.shape[1],
        "data": rows,
    }
