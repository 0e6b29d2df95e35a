"""A simulated drive as a vehicle's recorder would keep it: two LiDARs, four cameras, odometry, tf, and what else is on
the bus, as one stream of messages that `builders.bags` writes to any container.

The sensors differ in whatever real ones differ in: padded and big-endian clouds, times of points in seconds and
nanoseconds, raw, Bayer, JPEG and PNG pictures, every model of distortion, and clocks that are off. Points are measured
while the vehicle moves, so that sweeps are bent until they are undistorted. Everything repeats to the byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from builders.bags import Form, Message, cloud_fields, header, image_fields, pose_fields, write_bag
from builders.drive_world import SPEED_M_S, World, build_world, vehicle_pose
from olivine.streams import stream

EPOCH_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000
BASE, ODOM = "base_link", "odom"

_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""Columns: a camera's right, down and forward in a body that looks along x."""


def placed(position_m: tuple[float, float, float], yaw_deg: float, *, optical: bool = False) -> np.ndarray:
    """[4, 4] base from sensor."""
    yaw = np.radians(yaw_deg)
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ _OPTICAL if optical else turn
    matrix[:3, 3] = position_m
    return matrix


@dataclass(frozen=True)
class DriveLidar:
    """A LiDAR: its frame, place, beams and how its driver lays points out."""

    name: str
    base_from_lidar: np.ndarray
    layout: Literal["padded", "big_endian"]
    field_of_view_deg: float = 360.0

    @property
    def topic(self) -> str:
        return f"/{self.name}/points"


@dataclass(frozen=True)
class DriveCamera:
    """A camera: its frame, place, lens and how its driver encodes pictures."""

    name: str
    base_from_camera: np.ndarray
    encoding: Literal["bayer_rggb8", "jpeg", "png", "bgr8"]
    distortion_model: str
    coefficients: tuple[float, ...]
    clock_s: float = 0.0
    phase_s: float = 0.0

    @property
    def topic(self) -> str:
        return f"/{self.name}/image_raw" + ("/compressed" if self.encoding in ("jpeg", "png") else "")

    @property
    def info_topic(self) -> str:
        return f"/{self.name}/camera_info"


LIDARS = (
    DriveLidar("lidar_top", placed((0.9, 0.0, 1.9), 0.0), "padded"),
    DriveLidar("lidar_front", placed((3.6, 0.0, 0.7), 5.0), "big_endian", 120.0),
)
CAMERAS = (
    DriveCamera(
        "cam_front", placed((1.6, 0.0, 1.5), 0.0, optical=True), "bayer_rggb8", "plumb_bob",
        (-0.08, 0.02, 0.0005, -0.0004, 0.0), phase_s=0.013,
    ),
    DriveCamera(
        "cam_left", placed((1.2, 0.5, 1.5), 60.0, optical=True), "jpeg", "equidistant",
        (0.02, -0.004, 0.001, 0.0), clock_s=0.030, phase_s=0.021,
    ),
    DriveCamera(
        "cam_right", placed((1.2, -0.5, 1.5), -60.0, optical=True), "bgr8", "plumb_bob", (0.0,) * 5, clock_s=-0.012,
        phase_s=0.034,
    ),
    DriveCamera(
        "cam_back", placed((-0.3, 0.0, 1.5), 180.0, optical=True), "png", "rational_polynomial",
        (0.11, -0.04, 0.0002, 0.0003, 0.002, 0.15, -0.03, 0.001), phase_s=0.047,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Drive:
    """What is recorded.

    Attributes:
        seconds: length.
        lidars: which.
        cameras: which.
        poses: where poses come from: `odometry` (50 Hz), `tf`, both, or neither.
        lidar_hz: sweeps a second; each begins at its stamp.
        camera_hz: pictures a second.
        beams: of each LiDAR.
        azimuths: of a full turn.
        image_size: (width, height), pixels.
        seed: of the world and of the recorder's delays.
        gap_s: (start, end) of a time in which nothing is recorded.
    """

    seconds: float = 3.0
    lidars: tuple[DriveLidar, ...] = LIDARS
    cameras: tuple[DriveCamera, ...] = CAMERAS
    poses: tuple[Literal["odometry", "tf"], ...] = ("odometry",)
    lidar_hz: float = 10.0
    camera_hz: float = 10.0
    beams: int = 16
    azimuths: int = 180
    image_size: tuple[int, int] = (96, 64)
    seed: int = 0
    gap_s: tuple[float, float] | None = None

    @property
    def intrinsics(self) -> np.ndarray:
        """[3, 3] of every camera."""
        width, height = self.image_size
        return np.array([[0.55 * width, 0, (width - 1) / 2], [0, 0.55 * width, (height - 1) / 2], [0, 0, 1.0]])

    def messages(self) -> Iterator[Message]:
        """The stream, in the order of log times."""
        world = build_world(SPEED_M_S * self.seconds, self.seed)
        scene = _Scene(self, world)
        due = sorted(scene.due(), key=lambda one: (one[0], one[1]))
        for log_ns, topic, kind, make in due:
            yield Message(topic, kind, log_ns, make())

    def write(self, path: Path, form: Form | None = None) -> Path:
        """Write the drive; see `builders.bags.write_bag`."""
        return write_bag(path, self.messages(), form)


def pose_at(time_s: float) -> np.ndarray:
    """[4, 4] odom from base_link, seconds after `EPOCH_NS`."""
    rotations, positions = vehicle_pose(np.array([time_s]))
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotations[0], positions[0]
    return matrix


@dataclass
class _Scene:
    """Makes the messages of a drive."""

    drive: Drive
    world: World
    rays: dict[str, np.ndarray] = field(default_factory=dict)

    def due(self) -> Iterator[tuple[int, str, str, Any]]:
        """Log time, topic, type and maker of each message."""
        yield EPOCH_NS - 50_000_000, "/tf_static", "tf2_msgs/msg/TFMessage", self.static
        for lidar in self.drive.lidars:
            for start in self.times(self.drive.lidar_hz, 0.0):
                end = start + 1 / self.drive.lidar_hz
                yield self.logged(end), lidar.topic, "sensor_msgs/msg/PointCloud2", _later(self.cloud, lidar, start)
        for camera in self.drive.cameras:
            kind = "Compressed" * camera.topic.endswith("compressed") + "Image"
            for time in self.times(self.drive.camera_hz, camera.phase_s):
                made = _later(self.picture, camera, time)
                yield self.logged(time + 0.015), camera.topic, f"sensor_msgs/msg/{kind}", made
                yield (
                    self.logged(time + 0.015),
                    camera.info_topic,
                    "sensor_msgs/msg/CameraInfo",
                    _later(self.info, camera, time),
                )
        for time in self.times(50.0, 0.0):
            if "odometry" in self.drive.poses:
                yield self.logged(time + 0.002), "/odom", "nav_msgs/msg/Odometry", _later(_odometry, time)
            if "tf" in self.drive.poses:
                yield self.logged(time + 0.002), "/tf", "tf2_msgs/msg/TFMessage", _later(_moving, time)
        for time in self.times(1.0, 0.5):
            yield self.logged(time), "/vehicle/status", "std_msgs/msg/String", _later(_status, time)

    def times(self, rate_hz: float, phase_s: float) -> Iterator[float]:
        """When something at a rate happens, seconds."""
        gap = self.drive.gap_s or (0.0, 0.0)
        for number in range(int(self.drive.seconds * rate_hz + 1e-9)):
            time = number / rate_hz + phase_s
            if not gap[0] <= time < gap[1]:
                yield time

    def logged(self, time_s: float) -> int:
        """Log time of what is ready at a time: the recorder is a few milliseconds late."""
        time_ns = round(time_s * SECOND_NS)
        return EPOCH_NS + time_ns + int(stream("scene", self.drive.seed, 15, time_ns).integers(1_000_000, 4_000_000))

    def static(self) -> dict[str, Any]:
        """The frames of all sensors."""
        return {
            "transforms": [
                _transform(EPOCH_NS, BASE, sensor.name, matrix)
                for sensor, matrix in (
                    *((lidar, lidar.base_from_lidar) for lidar in self.drive.lidars),
                    *((camera, camera.base_from_camera) for camera in self.drive.cameras),
                )
            ]
        }

    def cloud(self, lidar: DriveLidar, start_s: float) -> dict[str, Any]:
        """A sweep: each column of beams at its own time; about one row in twenty without return."""
        steps = int(self.drive.azimuths * lidar.field_of_view_deg / 360)
        turn = np.arange(steps) / self.drive.azimuths * 2 * np.pi - np.radians(lidar.field_of_view_deg) / 2
        tilt = np.radians(np.linspace(-22.0, 6.0, self.drive.beams))
        offsets_s = np.repeat(np.arange(steps) / steps / self.drive.lidar_hz, self.drive.beams)
        turn, rings = np.repeat(turn, self.drive.beams), np.tile(np.arange(self.drive.beams), steps)
        flat = np.cos(tilt[rings])
        rays = np.stack([flat * np.cos(turn), flat * np.sin(turn), np.sin(tilt[rings])], axis=1)
        rotations, positions = vehicle_pose(start_s + offsets_s)
        turned = np.einsum("nij,jk,nk->ni", rotations, lidar.base_from_lidar[:3, :3], rays)
        origins = np.einsum("nij,j->ni", rotations, lidar.base_from_lidar[:3, 3]) + positions
        reach, _, reflectivity = self.world.cast(origins, turned)
        generator = stream("scene", self.drive.seed, 16, round(start_s * 1e6), len(lidar.name))
        lost = ~np.isfinite(reach) | (generator.random(len(reach)) < 0.03)
        points = rays * np.where(lost, 0, reach + generator.normal(0, 0.01, len(reach)))[:, None]
        time_ns = EPOCH_NS + round(start_s * SECOND_NS)
        columns = (points, reflectivity * ~lost, rings, offsets_s, lost)
        if lidar.layout == "padded":
            return cloud_fields(_padded(*columns), time_ns, lidar.name)
        records = _big_endian(*columns).reshape(steps, self.drive.beams).T.reshape(-1)
        return cloud_fields(records, time_ns, lidar.name, height=self.drive.beams, row_padding=12)

    def picture(self, camera: DriveCamera, time_s: float) -> dict[str, Any]:
        """What a camera sees, through its lens."""
        width, height = self.drive.image_size
        if camera.name not in self.rays:
            self.rays[camera.name] = _pixel_rays(camera, self.drive)
        pose = pose_at(time_s) @ camera.base_from_camera
        rays = self.rays[camera.name] @ pose[:3, :3].T
        _, colours, _ = self.world.cast(np.broadcast_to(pose[:3, 3], rays.shape), rays)
        rgb = np.clip(colours, 0, 255).astype(np.uint8).reshape(height, width, 3)
        return _encoded(rgb, camera, EPOCH_NS + round((time_s + camera.clock_s) * SECOND_NS))

    def info(self, camera: DriveCamera, time_s: float) -> dict[str, Any]:
        """The calibration of a camera."""
        return {
            "header": header(EPOCH_NS + round((time_s + camera.clock_s) * SECOND_NS), camera.name),
            "width": self.drive.image_size[0],
            "height": self.drive.image_size[1],
            "distortion_model": camera.distortion_model,
            "d": camera.coefficients,
            "k": self.drive.intrinsics,
            "r": np.eye(3),
            "p": np.column_stack([self.drive.intrinsics, np.zeros(3)]),
        }


def _later(make: Any, *arguments: Any) -> Any:
    return lambda: make(*arguments)


def _padded(
    points_m: np.ndarray, reflectivity: np.ndarray, rings: np.ndarray, offsets_s: np.ndarray, lost: np.ndarray
) -> np.ndarray:
    """As Velodyne's driver: 16 bytes for x, y, z, and points that were lost left at zero; intensity 0…255."""
    layout = {
        "names": ["x", "y", "z", "intensity", "ring", "time"],
        "formats": ["<f4", "<f4", "<f4", "<f4", "<u2", "<f4"],
        "offsets": [0, 4, 8, 16, 20, 24],
        "itemsize": 32,
    }
    records = np.zeros(len(points_m), layout)
    for column, axis in enumerate("xyz"):
        records[axis] = points_m[:, column]
    records["intensity"], records["ring"], records["time"] = np.round(reflectivity * 255), rings, offsets_s
    return records


def _big_endian(
    points_m: np.ndarray, reflectivity: np.ndarray, rings: np.ndarray, offsets_s: np.ndarray, lost: np.ndarray
) -> np.ndarray:
    """As some embedded drivers: big-endian, times in nanoseconds, points that were lost are NaN."""
    names = [("x", ">f4"), ("y", ">f4"), ("z", ">f4"), ("t", ">u4"), ("reflectivity", ">u2"), ("ring", "u1")]
    records = np.zeros(len(points_m), names)
    for column, axis in enumerate("xyz"):
        records[axis] = np.where(lost, np.nan, points_m[:, column])
    records["reflectivity"], records["ring"] = np.round(reflectivity * 255), rings
    records["t"] = np.round(offsets_s * SECOND_NS)
    return records


def _pixel_rays(camera: DriveCamera, drive: Drive) -> np.ndarray:
    """[H · W, 3] directions of pixels in the camera's frame, the lens undone."""
    width, height = drive.image_size
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 1, 2).astype(np.float64)
    coefficients = np.array(camera.coefficients)
    if camera.distortion_model == "equidistant":
        flat = cv2.fisheye.undistortPoints(pixels, drive.intrinsics, coefficients)
    else:
        flat = cv2.undistortPoints(pixels, drive.intrinsics, coefficients)
    return np.concatenate([flat.reshape(-1, 2), np.ones((width * height, 1))], axis=1)


def _encoded(rgb: np.ndarray, camera: DriveCamera, time_ns: int) -> dict[str, Any]:
    """A picture as the camera's driver publishes it."""
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    if camera.encoding == "bgr8":
        return image_fields(bgr, "bgr8", time_ns, camera.name, row_padding=5)
    if camera.encoding == "bayer_rggb8":
        return image_fields(mosaic(rgb, "rggb"), "bayer_rggb8", time_ns, camera.name)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 92] if camera.encoding == "jpeg" else []
    done, content = cv2.imencode(f".{camera.encoding}", bgr, quality)
    assert done
    form = f"bgr8; {camera.encoding} compressed bgr8"
    return {"header": header(time_ns, camera.name), "format": form, "data": content}


def mosaic(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """[H, W] samples of [H, W, 3] under a Bayer filter, whose letters go by row from the first pixel."""
    samples = np.empty(rgb.shape[:2], np.uint8)
    for place, letter in enumerate(pattern):
        rows, columns = slice(place // 2, None, 2), slice(place % 2, None, 2)
        samples[rows, columns] = rgb[rows, columns, "rgb".index(letter)]
    return samples


def _transform(time_ns: int, parent: str, child: str, matrix: np.ndarray) -> dict[str, Any]:
    return {
        "header": header(time_ns, parent),
        "child_frame_id": child,
        "transform": pose_fields(matrix, "translation", "rotation"),
    }


def _odometry(time_s: float) -> dict[str, Any]:
    time_ns = EPOCH_NS + round(time_s * SECOND_NS)
    pose = pose_fields(pose_at(time_s), "position", "orientation")
    return {"header": header(time_ns, ODOM), "child_frame_id": BASE, "pose": {"pose": pose}}


def _moving(time_s: float) -> dict[str, Any]:
    return {"transforms": [_transform(EPOCH_NS + round(time_s * SECOND_NS), ODOM, BASE, pose_at(time_s))]}


def _status(time_s: float) -> dict[str, Any]:
    return {"data": f"driving for {time_s:.1f} s"}
