"""Writing the nuScenes v1.0 tables: tokens, rows, and tables of any length a row at a time.

The simulator and `olivine convert` write by these; `olivine.data.nuscenes_tables` reads.

Format: https://github.com/nutonomy/nuscenes-devkit/blob/master/docs/schema_nuscenes.md
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from olivine.files import replacing, writing
from olivine.geometry import Float, quaternion_from_rotation

Row = dict[str, Any]

_MAP = "maps/none.png"


def token(*parts: object) -> str:
    """The 32-digit token of something, the same whenever it is named by the same parts."""
    return hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=16).hexdigest()


def chain(rows: list[Row]) -> None:
    """Link rows, in order, through `prev` and `next`."""
    for before, after in pairwise(rows):
        link(before, after)


def link(before: Row, after: Row) -> None:
    """Link two rows through `next` and `prev`."""
    before["next"], after["prev"] = after["token"], before["token"]


def sample_row(sample_token: str, scene_token: str, timestamp_us: int) -> Row:
    """A row of `sample`, not linked yet."""
    return {"token": sample_token, "timestamp": timestamp_us, "prev": "", "next": "", "scene_token": scene_token}


def reading_row(
    sample_token: str, channel: str, calibration_token: str, timestamp_us: int, filename: str, size: tuple[int, int]
) -> Row:
    """A row of `sample_data`, not linked yet.

    Args:
        sample_token: of its keyframe.
        channel: of its sensor; with the keyframe's it makes the token, also that of its `ego_pose`.
        calibration_token: of its `calibrated_sensor`.
        timestamp_us: microseconds since 1970.
        filename: below the root; a cloud unless it ends in `.jpg`.
        size: (width, height) of an image, pixels; zeros for a cloud.
    """
    return {
        "token": token(sample_token, channel),
        "sample_token": sample_token,
        "ego_pose_token": token(sample_token, channel),
        "calibrated_sensor_token": calibration_token,
        "timestamp": timestamp_us,
        "fileformat": "jpg" if filename.endswith(".jpg") else "pcd",
        "is_key_frame": True,
        "height": size[1],
        "width": size[0],
        "filename": filename,
        "prev": "",
        "next": "",
    }


def ego_pose_row(
    pose_token: str, timestamp_us: int, rotation_wxyz: Iterable[float], translation_m: Iterable[float]
) -> Row:
    """A row of `ego_pose`."""
    return {
        "token": pose_token,
        "timestamp": timestamp_us,
        "rotation": list(rotation_wxyz),
        "translation": list(translation_m),
    }


def sensor_rows(channels: Iterable[tuple[str, str]]) -> list[Row]:
    """Rows of `sensor`, of channels and their modality, `lidar` or `camera`."""
    return [{"token": token("sensor", name), "channel": name, "modality": kind} for name, kind in channels]


def calibrated_sensor_row(channel: str, ego_from_sensor: Float, intrinsics: list[list[float]]) -> Row:
    """A row of `calibrated_sensor`.

    Args:
        channel: of the sensor.
        ego_from_sensor: [4, 4] its pose on the vehicle, metres.
        intrinsics: [3, 3] camera matrix, pixels; empty but for cameras.
    """
    return {
        "token": token("calibrated_sensor", channel),
        "sensor_token": token("sensor", channel),
        "translation": ego_from_sensor[:3, 3].tolist(),
        "rotation": quaternion_from_rotation(ego_from_sensor[:3, :3]).tolist(),
        "camera_intrinsic": intrinsics,
    }


def scene_row(scene_token: str, name: str, samples: int, first: str, last: str, description: str) -> Row:
    """A row of `scene`: how many keyframes, and the tokens of the first and last."""
    return {
        "token": scene_token,
        "log_token": token("log"),
        "nbr_samples": samples,
        "first_sample_token": first,
        "last_sample_token": last,
        "name": name,
        "description": description,
    }


def log_tables(logfile: str, vehicle: str, date: str, location: str) -> dict[str, list[Row]]:
    """The tables `log` and `map`, of one log and a blank map."""
    log = {"token": token("log"), "logfile": logfile, "vehicle": vehicle, "date_captured": date, "location": location}
    blank = {"token": token("map"), "log_tokens": [token("log")], "category": "semantic_prior", "filename": _MAP}
    return {"log": [log], "map": [blank]}


class TableFile:
    """A table that is being written, a row at a time."""

    def __init__(self, write: Any) -> None:
        self._write, self._rows = write, 0

    def add(self, row: Row) -> None:
        """Write a row."""
        text = msgspec.json.format(msgspec.json.encode(row), indent=1).replace(b"\n", b"\n ")
        self._write((b",\n " if self._rows else b"[\n ") + text)
        self._rows += 1

    def end(self) -> None:
        """Write what closes the table."""
        self._write(b"\n]" if self._rows else b"[]")


@contextmanager
def table_file(path: Path) -> Iterator[TableFile]:
    """A table to add rows to, which takes the name `path` when it is whole.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    with writing(path), replacing(path) as file:
        table = TableFile(file.write)
        yield table
        table.end()


def write_tables(root: Path, version: str, tables: Mapping[str, Iterable[Row]]) -> None:
    """Write tables to `root/version`, and the blank map that they name."""
    for name, rows in tables.items():
        with table_file(root / version / f"{name}.json") as table:
            for row in rows:
                table.add(row)
    write_map(root)


def write_map(root: Path) -> None:
    """Write the blank map that the tables name."""
    path = root / _MAP
    with writing(path), replacing(path) as file:
        Image.fromarray(np.full((8, 8), 255, np.uint8)).save(file, "PNG")
