"""The cloud of a frame: the scans of all LiDARs at one moment, in the frame of the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olivine.calibration import Trajectory, undistort
from olivine.errors import UserError
from olivine.geometry import transform_points
from olivine.logs.log import Motion, SensorReading
from olivine.logs.recipe import ConvertConfig
from olivine.logs.rejected import Rejected
from olivine.logs.rig import Rig
from olivine.scans import Scan, ScanColumns


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points of one moment. N points, those of each LiDAR together and in the order of its scan.

    Attributes:
        points_m: [N, 3] float32, metres, in the frame of the first LiDAR; without rows that are no return.
        intensity: [N] float32 raw values, or None where a LiDAR has none.
        rings: [N] uint16 beam of each point in its own LiDAR, or None where a LiDAR has none.
        sensor: [N] uint8 which LiDAR each is from, by its place in the recipe.
        intensity_types: numpy types of the raw intensities, e.g. `u1`.
        undistorted: whether every point was carried to the moment of the cloud.
    """

    points_m: NDArray[np.float32]
    intensity: NDArray[np.float32] | None
    rings: NDArray[np.uint16] | None
    sensor: NDArray[np.uint8]
    intensity_types: tuple[str, ...]
    undistorted: bool


@dataclass(frozen=True)
class TimedScan:
    """A scan that is still to be decoded.

    Attributes:
        place: of its LiDAR in the recipe.
        time_ns: its time on the vehicle's clock.
        reading: the reading.
    """

    place: int
    time_ns: int
    reading: SensorReading


def decoded(reading: SensorReading, columns: ScanColumns | None) -> Scan:
    """The scan of a reading.

    Args:
        reading: of a LiDAR.
        columns: what its columns are, where they do not say so themselves.

    Raises:
        Rejected: it is damaged.
        UserError: its file is gone or cannot be read, as all files of a disk that was taken away.
    """
    try:
        return reading.scan(columns)
    except UserError as error:
        if isinstance(error.__cause__, OSError):
            raise
        raise Rejected(f"a scan of {reading.topic.name} cannot be decoded", str(error)) from error


def require_decodable(reading: SensorReading, columns: ScanColumns | None) -> None:
    """Refuse a log by the first scan of a LiDAR, where a later one costs its frame only.

    Where columns or types are not what the recipe says, no scan can be decoded.

    Args:
        reading: the first of a LiDAR.
        columns: as for `decoded`.

    Raises:
        UserError: it cannot be decoded.
    """
    try:
        reading.scan(columns)
    except UserError as error:
        raise UserError(f"{error}; the first scan has to be whole (start_s=… begins later)") from error


def merged_cloud(scans: Sequence[TimedScan], moment_ns: int, rig: Rig, motion: Motion, config: ConvertConfig) -> Cloud:
    """Decode scans and bring them together.

    Args:
        scans: of one moment, the first LiDAR's first.
        moment_ns: when the cloud is of; points are carried to it where poses are known.
        rig: where the LiDARs are.
        motion: where the vehicle was.
        config: the recipe.

    Raises:
        Rejected: one cannot be decoded, no return in any of them, or points at times without a pose.
        UserError: the coordinates of one are those of a map, or its file cannot be read.
    """
    parts: list[tuple[int, Scan, NDArray[np.float32], bool]] = []
    for timed in scans:
        scan = decoded(timed.reading, config.lidars[timed.place].columns).without_gaps()
        if any(scan.origin_m):
            raise UserError(
                f"{scan.source}: its coordinates are those of a map, not of the sensor; cameras and poses need the "
                "sensor's own frame"
            )
        if len(scan):
            points, undistorted = _placed(timed, scan, moment_ns, rig, motion, config)
            parts.append((timed.place, scan, points, undistorted))
    if not parts:
        raise Rejected("the cloud has no points", scans[0].reading.source)
    found = [scan for _, scan, _, _ in parts]
    intensities = [scan.intensity for scan in found if scan.intensity is not None]
    rings = [scan.rings for scan in found if scan.rings is not None]
    return Cloud(
        np.concatenate([points for _, _, points, _ in parts]),
        np.concatenate(intensities) if len(intensities) == len(parts) else None,
        np.concatenate(rings) if len(rings) == len(parts) else None,
        np.concatenate([np.full(len(scan), place, np.uint8) for place, scan, _, _ in parts]),
        tuple(sorted({scan.intensity_type for scan in found if scan.intensity_type is not None})),
        all(undistorted for _, _, _, undistorted in parts),
    )


def _placed(
    timed: TimedScan, scan: Scan, moment_ns: int, rig: Rig, motion: Motion, config: ConvertConfig
) -> tuple[NDArray[np.float32], bool]:
    """Points of a scan in the frame of the first LiDAR at a moment, and whether each was carried from its own time."""
    lidar_from_sensor = rig.lidar_from_sensor[config.lidars[timed.place].topic]
    points, own_times = scan.points_m, config.undistort and scan.offsets_s is not None
    poses = motion.world_from_ego
    if poses is not None and (own_times or timed.time_ns != moment_ns):
        offsets_ns = np.rint(scan.offsets_s * 1e9).astype(np.int64) if own_times and scan.offsets_s is not None else 0
        times = np.broadcast_to(np.int64(timed.time_ns) + offsets_ns, len(points))
        track = poses.of(motion.ego_from_lidar @ lidar_from_sensor)
        points = _carried(points, times, moment_ns, track, timed)
    if not (lidar_from_sensor == np.eye(4)).all():
        points = transform_points(lidar_from_sensor, points).astype(np.float32)
    return points, poses is not None and own_times


def _carried(
    points: NDArray[np.float32], times: NDArray[np.int64], moment_ns: int, track: Trajectory, timed: TimedScan
) -> NDArray[np.float32]:
    ends = np.array([times.min(), times.max(), moment_ns])
    if not track.covers(ends).all():
        raise Rejected("points were taken when the pose is not known", timed.reading.source)
    return undistort(points, times, moment_ns, track)
