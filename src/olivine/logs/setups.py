"""What all sources share: channels of cameras, their calibrations by name, and whether scans alone can give poses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from olivine.calibration import Calibration, CameraCalibration
from olivine.errors import UserError, printable
from olivine.logs.recipe import Poses, safe_name
from olivine.logs.topics import Topic

_NOISE = {"sensing", "sensor", "sensors", "driver", "node", "image", "images", "raw", "rect", "color", "colour", "rgb"}
_NOISE |= {"mono", "compressed", "camera", "cam", "cameras", "topic", "data", "rectified"}
_NOISE |= {"jpg", "jpeg", "png", "tif", "tiff", "bmp", "webp", "ppm"}

_FEWEST, _SLOWEST_HZ = 10, 2.0
"""Scans, and scans a second, from which poses can be told by matching them."""


def channel_names(topics: Iterable[str]) -> dict[str, str]:
    """A channel for every topic of a camera: `CAM_` and the words that tell it from others."""
    channels: dict[str, str] = {}
    for topic in topics:
        words = [word for word in re.findall(r"[A-Za-z0-9]+", topic.replace("_", " ")) if word.lower() not in _NOISE]
        number = "" if words else "".join(re.findall(r"\d+", topic))
        numbered = [re.sub(r"(?i)^(cam|camera|image)(\d+)$", r"\2", word) for word in words]
        name = safe_name(f"CAM {' '.join(numbered) or number}".strip().upper(), "CAM")
        taken = set(channels.values())
        channels[topic] = next(
            one for one in (name, *(f"{name}_{count}" for count in range(2, len(taken) + 3))) if one not in taken
        )
    return channels


def scans_alone(lidar: Topic) -> tuple[Poses, str]:
    """Whether poses are estimated from scans where nothing else gives any, and what is to be said about it."""
    rate_hz = lidar.rate_hz or 0.0
    if lidar.count < _FEWEST or rate_hz < _SLOWEST_HZ:
        few = f"{lidar.count} scans at {rate_hz:.1f} Hz are too few to estimate them"
        return "unknown", f"no poses: no odometry and no moving transforms, and {few}"
    if find_spec("kiss_icp") is None:
        return "unknown", "no poses: no odometry and no moving transforms; pip install 'olivine[logs]' to estimate them"
    return "kiss-icp", "no odometry and no moving transforms; poses are estimated from the scans"


def named_camera(channel: str, topic: str, calibration: Calibration) -> CameraCalibration:
    """The camera that a file has for a channel: by that name, the topic's or its folder's, or the only one it has.

    Raises:
        UserError: it has several, and none of these names; they are said.
    """
    folder = Path(topic).parent.name if Path(topic).name.startswith("*") else Path(topic).name
    for name in (channel, topic, folder):
        if name in calibration.cameras:
            return calibration.cameras[name]
    if len(calibration.cameras) == 1:
        return next(iter(calibration.cameras.values()))
    raise UserError(
        f"{calibration.source}: no camera {printable(channel)!r} in this calibration, which has "
        f"{', '.join(calibration.cameras)}; give the channel of the recipe the name that it has there"
    )
