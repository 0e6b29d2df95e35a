"""The nuScenes tables, resolved: for every keyframe its files, times, poses and calibration, as plain arrays.

Built once from the streamed tables (`nuscenes_tables`), kept in the cache (`cache`), and read by `nuscenes`. Rows are
keyframes (F), ordered by the scene table, then by time; columns are the channels that are read (C), the LiDAR first
(`nuscenes_channels`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.data.cache import Arrays, cached_arrays, stamp_of
from olivine.data.nuscenes_channels import channels_of
from olivine.data.nuscenes_poses import box_rows, ego_poses, quaternion_of
from olivine.data.nuscenes_tables import (
    Annotation,
    CalibratedSensor,
    Category,
    Instance,
    LidarSeg,
    R,
    Sample,
    SampleData,
    Scene,
    Sensor,
    read_table,
)
from olivine.errors import UserError
from olivine.reading import below

_LAYOUT = 4
_TABLES = ("scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor", "lidarseg")
_BOX_TABLES = ("scene", "sample", "sample_annotation", "instance", "category")


@dataclass(frozen=True)
class NuScenesIndex:
    """What the tables say about each keyframe, except its boxes. F keyframes, C channels, K calibrated sensors.

    Attributes:
        channels: [C] names of the channels, the LiDAR first, then the cameras.
        scenes: [S] names in scene-table order.
        scene: [F] int64 row of `scenes`.
        sample: [F] bytes, token of the keyframe.
        lidar: [F] bytes, token of the keyframe's LiDAR reading.
        files: [F, C] bytes, path below the root; empty where the keyframe has no such camera.
        labels: [F] bytes, path of the lidarseg file below the root; empty where there is none.
        timestamp_us: [F, C] int64.
        size: [F, C, 2] int64 (width, height) of images, pixels.
        calibration: [F, C] int64 row of the sensor arrays.
        ego_pose: [F, C, 7] float64 `global_from_ego` at the reading's own time: quaternion (w, x, y, z), translation m;
            NaN where the tables do not know it.
        sensor_pose: [K, 7] float64 `ego_from_sensor`, likewise.
        intrinsics: [K, 3, 3] float64 camera matrix, pixels; zero for the LiDAR.
    """

    channels: NDArray[np.str_]
    scenes: NDArray[np.str_]
    scene: NDArray[np.int64]
    sample: NDArray[np.bytes_]
    lidar: NDArray[np.bytes_]
    files: NDArray[np.bytes_]
    labels: NDArray[np.bytes_]
    timestamp_us: NDArray[np.int64]
    size: NDArray[np.int64]
    calibration: NDArray[np.int64]
    ego_pose: NDArray[np.float64]
    sensor_pose: NDArray[np.float64]
    intrinsics: NDArray[np.float64]


@dataclass(frozen=True)
class BoxIndex:
    """The annotated boxes of all keyframes, in the global frame. A boxes, ordered by keyframe.

    Attributes:
        offsets: [F + 1] int64 keyframe f owns the boxes `offsets[f]:offsets[f + 1]`.
        boxes: [A, 10] float64 centre (x, y, z), nuScenes size (width, length, height), quaternion (w, x, y, z).
        category: [A] int64 row of `categories`.
        categories: names, in table order.
    """

    offsets: NDArray[np.int64]
    boxes: NDArray[np.float64]
    category: NDArray[np.int64]
    categories: NDArray[np.str_]


def load_index(tables: Path, lidar: str | None = None) -> NuScenesIndex:
    """The index of a version folder, from the cache or built anew.

    Args:
        tables: the version folder, e.g. `<root>/v1.0-trainval`.
        lidar: channel of the LiDAR to read; None is `LIDAR_TOP`, or the only one.

    Raises:
        UserError: a table is missing or damaged, a token points nowhere, or no LiDAR can be chosen.
    """
    stamp = stamp_of(_paths(tables, _TABLES), _LAYOUT)
    name = _name(tables, "index" if lidar is None else f"index-{hashlib.sha256(lidar.encode()).hexdigest()[:8]}")
    return NuScenesIndex(**_known(NuScenesIndex, cached_arrays(name, stamp, lambda: _build(tables, lidar))))


def load_boxes(tables: Path, sample: NDArray[np.bytes_]) -> BoxIndex:
    """The boxes of a version folder, from the cache or built anew.

    Args:
        tables: the version folder.
        sample: [F] keyframe tokens, in the order of the index.

    Raises:
        UserError: a table is missing or damaged, or a token points nowhere.
    """
    stamp = stamp_of(_paths(tables, _BOX_TABLES), _LAYOUT)
    arrays = cached_arrays(_name(tables, "boxes"), stamp, lambda: _build_boxes(tables, sample))
    return BoxIndex(**_known(BoxIndex, arrays))


def _name(tables: Path, what: str) -> str:
    return f"nuscenes-{tables.name}-{hashlib.sha256(str(tables.resolve()).encode()).hexdigest()[:16]}-{what}"


def _paths(tables: Path, names: Iterable[str]) -> list[Path]:
    return [tables / f"{name}.json" for name in names]


def _known(kind: type, arrays: Arrays) -> dict[str, Any]:
    return {field.name: arrays[field.name] for field in fields(kind)}


def _all(tables: Path, table: str, kind: type[R]) -> list[R]:
    """All rows of a table; of equal rows one."""
    path = tables / f"{table}.json"
    return list(
        _distinct(((row.token, row) for rows in read_table(path, kind) for row in rows), path, "token").values()
    )


def _distinct(entries: Iterable[tuple[str, R]], path: Path, key: str) -> dict[str, R]:
    """Rows by a key that must name one: a key that stands twice with different content is refused."""
    rows: dict[str, R] = {}
    for value, row in entries:
        if rows.setdefault(value, row) != row:
            raise UserError(f"{path}: {key} {value!r} stands twice, in rows that differ; keep the right one")
    return rows


def _rows_of(tokens: Sequence[str], wanted: Sequence[str], owner: str, key: str) -> NDArray[np.int64]:
    """Row in `tokens` of each token in `wanted`; `owner` and `key` name the reference in the error."""
    row = {token: index for index, token in enumerate(tokens)}
    return _resolve(row, wanted, owner, key)


def _resolve(row: Mapping[str, int], wanted: Sequence[str], owner: str, key: str) -> NDArray[np.int64]:
    try:
        return np.fromiter((row[token] for token in wanted), np.int64, len(wanted))
    except KeyError as error:
        target = key.removesuffix("_token")
        raise UserError(
            f"{owner}: {key} {error.args[0]!r} is no row of {target}.json; the tables do not match"
        ) from None


def _bytes(texts: Sequence[str]) -> NDArray[np.bytes_]:
    return np.array([text.encode() for text in texts], np.bytes_) if texts else np.zeros(0, "S1")


def _files(tables: Path, table: str, names: Sequence[str]) -> NDArray[np.bytes_]:
    """Names of files as bytes, each below the dataset's root; an empty one is no file."""
    for name in names:
        if name:
            below(tables.parent, name, str(tables / f"{table}.json"))
    return _bytes(names)


def _build(tables: Path, lidar: str | None) -> Arrays:
    """Resolve every table into the arrays of `NuScenesIndex`."""
    scenes = _all(tables, "scene", Scene)
    samples, scene = _ordered_samples(tables, scenes)
    sensors = _all(tables, "calibrated_sensor", CalibratedSensor)
    channels, channel = _channels(tables, sensors, lidar)
    readings = _keyframe_readings(tables, {s.token for s, c in zip(sensors, channel, strict=True) if c >= 0})
    where = _keyframe_and_channel(tables, readings, samples, sensors, channels, channel)
    table = tables / "sample_data.json"
    calibration = _rows_of(
        [s.token for s in sensors], [r.calibrated_sensor_token for r in readings], str(table), "calibrated_sensor_token"
    )
    shape = (len(samples), len(channels))
    return {
        "channels": np.array(channels, np.str_),
        "scenes": np.array([s.name for s in scenes], np.str_),
        "scene": scene,
        "sample": _bytes([s.token for s in samples]),
        "lidar": _scatter(shape, where, _bytes([r.token for r in readings]))[:, 0],
        "files": _scatter(shape, where, _files(tables, "sample_data", [r.filename for r in readings])),
        "labels": _label_files(tables, readings, where, len(samples)),
        "timestamp_us": _scatter(shape, where, np.array([r.timestamp for r in readings], np.int64)),
        "size": _scatter(
            shape, where, np.array([(r.width or 0, r.height or 0) for r in readings], np.int64).reshape(-1, 2)
        ),
        "calibration": _scatter(shape, where, calibration),
        "ego_pose": _scatter(shape, where, ego_poses(tables, [r.ego_pose_token for r in readings])),
        "sensor_pose": _sensor_poses(tables, sensors, channel),
        "intrinsics": _intrinsics(tables, sensors, channel),
    }


def _ordered_samples(tables: Path, scenes: Sequence[Scene]) -> tuple[list[Sample], NDArray[np.int64]]:
    """Keyframes by scene-table order, then time; with the scene row of each."""
    samples = _all(tables, "sample", Sample)
    path = str(tables / "sample.json")
    scene = _rows_of([s.token for s in scenes], [s.scene_token for s in samples], path, "scene_token")
    order = np.lexsort((np.array([s.timestamp for s in samples], np.int64), scene))
    return [samples[row] for row in order], scene[order]


def _channels(
    tables: Path, sensors: Sequence[CalibratedSensor], lidar: str | None
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The channels that are read, and the column of each calibrated sensor, -1 for those that are not (radars)."""
    names = _all(tables, "sensor", Sensor)
    path = str(tables / "calibrated_sensor.json")
    row = _rows_of([s.token for s in names], [s.sensor_token for s in sensors], path, "sensor_token")
    channels = channels_of(names, lidar, tables)
    column = [channels.index(s.channel) if s.channel in channels else -1 for s in names]
    return channels, np.array(column, np.int64)[row]


def _sensor_poses(tables: Path, sensors: Sequence[CalibratedSensor], channel: NDArray[np.int64]) -> NDArray[np.float64]:
    """[K, 7] `ego_from_sensor`; zero for sensors that are not read."""
    poses, path = np.zeros((len(sensors), 7)), tables / "calibrated_sensor.json"
    for row in np.flatnonzero(channel >= 0).tolist():
        sensor = sensors[row]
        poses[row] = (*quaternion_of(sensor.rotation, f"{path}: token {sensor.token!r}"), *sensor.translation)
    return poses


def _intrinsics(tables: Path, sensors: Sequence[CalibratedSensor], channel: NDArray[np.int64]) -> NDArray[np.float64]:
    """[K, 3, 3] camera matrices; zero for sensors that are no cameras."""
    matrices = np.zeros((len(sensors), 3, 3))
    for row, sensor in enumerate(sensors):
        if channel[row] > 0:
            if len(sensor.camera_intrinsic) != 3:
                path = tables / "calibrated_sensor.json"
                raise UserError(f"{path}: {sensor.token!r} is a camera but its camera_intrinsic is not 3×3")
            matrices[row] = sensor.camera_intrinsic
    return matrices


def _keyframe_readings(tables: Path, sensors: set[str]) -> list[SampleData]:
    """The rows of `sample_data` that belong to keyframes and to the sensors that are read, in table order."""
    return [
        row
        for rows in read_table(tables / "sample_data.json", SampleData)
        for row in rows
        if row.is_key_frame and row.calibrated_sensor_token in sensors
    ]


def _keyframe_and_channel(
    tables: Path,
    readings: Sequence[SampleData],
    samples: Sequence[Sample],
    sensors: Sequence[CalibratedSensor],
    channels: Sequence[str],
    channel: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keyframe row and channel column of each reading; every keyframe must have exactly one LiDAR reading."""
    path = str(tables / "sample_data.json")
    keyframe = _rows_of([s.token for s in samples], [r.sample_token for r in readings], path, "sample_token")
    column_of = {sensor.token: int(column) for sensor, column in zip(sensors, channel, strict=True)}
    column = _resolve(column_of, [r.calibrated_sensor_token for r in readings], path, "calibrated_sensor_token")
    count = np.zeros((len(samples), len(channels)), np.int64)
    np.add.at(count, (keyframe, column), 1)
    for rows, problem in ((np.argwhere(count > 1), "more than one keyframe"), (np.argwhere(count[:, :1] == 0), "no")):
        if len(rows):
            row, at = rows[0]
            raise UserError(f"{path}: sample {samples[row].token!r} has {problem} reading of {channels[at]}")
    return keyframe, column


def _scatter(
    shape: tuple[int, int], where: tuple[NDArray[np.int64], NDArray[np.int64]], values: NDArray[Any]
) -> NDArray[Any]:
    """Put each reading's value at its keyframe and channel; places without a reading are zero or empty."""
    table = np.zeros((*shape, *values.shape[1:]), values.dtype)
    table[where] = values
    return table


def _label_files(
    tables: Path,
    readings: Sequence[SampleData],
    where: tuple[NDArray[np.int64], NDArray[np.int64]],
    keyframes: int,
) -> NDArray[np.bytes_]:
    """[F] lidarseg file of each keyframe's LiDAR reading; empty where `lidarseg.json` does not exist or name one."""
    path = tables / "lidarseg.json"
    rows = _all(tables, "lidarseg", LidarSeg) if path.exists() else []
    named = _distinct(((row.sample_data_token, row) for row in rows), path, "sample_data_token")
    file_of = {token: row.filename for token, row in named.items()}
    files = [""] * keyframes
    for reading, keyframe, column in zip(readings, *where, strict=True):
        if column == 0:
            files[keyframe] = file_of.get(reading.token, "")
    return _files(tables, "lidarseg", files)


def _build_boxes(tables: Path, sample: NDArray[np.bytes_]) -> Arrays:
    """Resolve the annotation tables into the arrays of `BoxIndex`."""
    path = str(tables / "sample_annotation.json")
    categories = _all(tables, "category", Category)
    instances = _all(tables, "instance", Instance)
    category_of = dict(
        zip(
            (i.token for i in instances),
            _rows_of(
                [c.token for c in categories],
                [i.category_token for i in instances],
                str(tables / "instance.json"),
                "category_token",
            ).tolist(),
            strict=True,
        )
    )
    keyframe_of = {token.decode(): row for row, token in enumerate(sample)}
    keyframe, category, boxes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros((0, 10))]
    for rows in read_table(tables / "sample_annotation.json", Annotation):
        keyframe.append(_resolve(keyframe_of, [r.sample_token for r in rows], path, "sample_token"))
        category.append(_resolve(category_of, [r.instance_token for r in rows], path, "instance_token"))
        boxes.append(box_rows(rows, tables / "sample_annotation.json"))
    of = np.concatenate(keyframe)
    order = np.argsort(of, kind="stable")
    return {
        "offsets": np.concatenate([[0], np.cumsum(np.bincount(of, minlength=len(sample)))]).astype(np.int64),
        "boxes": np.concatenate(boxes)[order],
        "category": np.concatenate(category)[order],
        "categories": np.array([c.name for c in categories], np.str_),
    }
