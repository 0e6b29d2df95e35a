"""Messages of a log as what they mean: clouds, pictures, camera calibrations, transforms and poses.

The library `rosbags` splits a message's bytes into its fields, without copying arrays; what is here reads those
fields. Stamps are nanoseconds since 1970 of the header.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.calibration import CameraModel, camera_model
from olivine.errors import UserError, printable
from olivine.geometry.transforms import rigid_transform, rotation_from_quaternion

_DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class StampedTransform:
    """Where a frame stands in another at a time.

    Attributes:
        stamp_ns: nanoseconds since 1970.
        parent: name of the frame that coordinates are given in.
        child: name of the frame whose pose it is.
        parent_from_child: float64 [4, 4], takes points of the child to the parent, metres.
    """

    stamp_ns: int
    parent: str
    child: str
    parent_from_child: NDArray[np.float64]


@dataclass(frozen=True)
class CameraInfo:
    """A `sensor_msgs/CameraInfo`, for the pixels as they are published (binning and region of interest applied).

    Attributes:
        stamp_ns: nanoseconds since 1970.
        frame_id: the camera's optical frame (x right, y down, z forward).
        camera: of the image as it was taken (K and D).
        rectified: of the image that ROS makes of it and publishes as `image_rect` (P); None where P is not given.
    """

    stamp_ns: int
    frame_id: str
    camera: CameraModel
    rectified: CameraModel | None


def frame_name(name: str) -> str:
    """The name of a frame; ROS 1 writes some with a leading `/`, which means nothing."""
    return name.removeprefix("/")


def stamp_of(stamp: Any) -> int:
    """Nanoseconds of a `Time`."""
    return int(stamp.sec) * _NANOSECONDS + int(stamp.nanosec)


def cloud_records(message: Any, source: str) -> NDArray[np.void]:
    """The points of a `PointCloud2` as a structured array that views the message where rows are not padded.

    Args:
        message: with `height`, `width`, `fields`, `is_bigendian`, `point_step`, `row_step` and `data`.
        source: named in errors.

    Returns:
        [height · width] structured array, a field for each of the cloud's; a name that occurs twice gets a number.

    Raises:
        UserError: fields beyond the point's bytes, of unknown type, or a cloud that claims more than the message holds.
    """
    layout = _point_layout(message, source)
    height, width, step = int(message.height), int(message.width), int(message.point_step)
    data: NDArray[np.uint8] = message.data
    row = int(message.row_step) if height > 1 else width * step
    if row < width * step:  # A row_step that was never filled in; rows can then only be tight.
        row = width * step
    if width == 0 or height == 0:
        return np.zeros(0, layout)
    if row * (height - 1) + width * step > data.size:
        raise UserError(
            f"{source}: claims {height} × {width} points of {step} bytes, but the message holds {data.size} bytes"
        )
    if row == width * step:
        return np.frombuffer(data, layout, height * width)
    padded: NDArray[np.void] = np.ndarray((height, width), layout, data, strides=(row, step))
    return padded.reshape(-1)


def _point_layout(message: Any, source: str) -> np.dtype[np.void]:
    """The dtype of one point."""
    order = ">" if message.is_bigendian else "<"
    step = int(message.point_step)
    names: list[str] = []
    formats: list[Any] = []
    offsets: list[int] = []
    for field in message.fields:
        kind = _DATATYPES.get(int(field.datatype))
        if kind is None:
            raise UserError(f"{source}: field {printable(field.name)} has the unknown datatype {field.datatype}")
        count = max(int(field.count), 1)  # Old drivers write 0 for one value.
        if int(field.offset) + count * int(kind[1]) > step:
            raise UserError(
                f"{source}: field {printable(field.name)} ends after the {step} bytes of a point (point_step)"
            )
        names.append(_unused(field.name, names))
        formats.append(order + kind if count == 1 else (order + kind, (count,)))
        offsets.append(int(field.offset))
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": step})


def _unused(name: str, names: list[str]) -> str:
    """A name that no earlier field has."""
    if name and name not in names:
        return name
    return next(new for number in range(2, len(names) + 3) if (new := f"{name}_{number}") not in names)


def transforms(message: Any, source: str) -> list[StampedTransform]:
    """The transforms of a `TFMessage`.

    Raises:
        UserError: a rotation that is none.
    """
    return [
        StampedTransform(
            stamp_of(one.header.stamp),
            parent := frame_name(one.header.frame_id),
            child := frame_name(one.child_frame_id),
            _matrix(one.transform.translation, one.transform.rotation, f"{source}: {parent} ← {child}"),
        )
        for one in message.transforms
    ]


def pose(message: Any, source: str) -> StampedTransform:
    """The pose of an `Odometry`: the child is the vehicle's frame.

    Raises:
        UserError: a rotation that is none.
    """
    parent, child = frame_name(message.header.frame_id), frame_name(message.child_frame_id)
    matrix = _matrix(message.pose.pose.position, message.pose.pose.orientation, f"{source}: {parent} ← {child}")
    return StampedTransform(stamp_of(message.header.stamp), parent, child, matrix)


def _matrix(position: Any, rotation: Any, source: str) -> NDArray[np.float64]:
    """[4, 4] of a position and a quaternion (x, y, z, w)."""
    quaternion = np.array([rotation.w, rotation.x, rotation.y, rotation.z], np.float64)
    translation = np.array([position.x, position.y, position.z], np.float64)
    length = float(np.linalg.norm(quaternion))
    if not np.isfinite(translation).all() or not abs(length - 1) < 0.01:
        raise UserError(
            f"{printable(source)}: is no transform (translation {translation.tolist()}, "
            f"quaternion x y z w of length {length:.3g}, which must be 1)"
        )
    return rigid_transform(rotation_from_quaternion(quaternion), translation)


def camera_info(message: Any, source: str) -> CameraInfo:
    """A calibration as published.

    Raises:
        UserError: an uncalibrated camera (K is zero), sizes that make no image, or a distortion that is not known.
    """
    d, k, p = (np.array(getattr(message, key if hasattr(message, key) else key.upper())) for key in "dkp")
    if not k.any():
        raise UserError(f"{source}: the camera is not calibrated (K is zero); give its calibration in a file")
    roi = message.roi
    corner = np.array([roi.x_offset, roi.y_offset])
    binning = np.array([max(int(message.binning_x), 1), max(int(message.binning_y), 1)])
    size = np.array([roi.width or message.width, roi.height or message.height]) // binning
    # Pixel centres are whole numbers: the corner of the image lies half a pixel before the first.
    published = np.diag([*(1 / binning), 1.0])
    published[:2, 2] = (0.5 - corner) / binning - 0.5
    pixels = (int(size[0]), int(size[1]))
    return CameraInfo(
        stamp_of(message.header.stamp),
        frame_name(message.header.frame_id),
        camera_model(pixels, published @ k.reshape(3, 3), str(message.distortion_model), d.tolist(), source=source),
        camera_model(pixels, published @ p.reshape(3, 4)[:, :3], source=source) if p.any() else None,
    )
