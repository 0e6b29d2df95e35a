"""The recipe for a bag, guessed from the names, types and frames of its topics."""

from __future__ import annotations

import re
from pathlib import Path

from olivine.calibration import TransformTree
from olivine.errors import UserError, printable
from olivine.logs.log import Setup
from olivine.logs.recipe import CameraStream, ConvertConfig, LidarStream, Poses, safe_name
from olivine.logs.setups import channel_names, scans_alone
from olivine.logs.topics import Topic

_DERIVED = ("concat", "merged", "fused", "filter", "ground", "obstacle", "crop", "downsampl", "cluster", "map", "voxel")
"""Words of topics whose points are made of other topics' points."""

_NO_PICTURE = ("depth", "disparity", "label", "mask", "segment", "thumbnail", "confidence")
"""Words of topics of images that are no photographs."""

_MAIN = ("top", "roof", "main", "center", "centre")
"""Words of the LiDAR that the others are merged into."""

_WORLDS = ("map", "odom", "world")
_VEHICLES = ("base_link", "base_footprint", "vehicle", "ego")


def propose_for_bag(path: Path, topics: tuple[Topic, ...], tree: TransformTree) -> Setup:
    """The recipe for a bag.

    Args:
        path: names it.
        topics: what is in it, points among them.
        tree: its transforms.

    Returns:
        The recipe, and what is missing or was left out.
    """
    missing: list[str] = []
    lidars = _lidars(topics, tree, missing)
    cameras = _cameras(topics, lidars[0], tree, missing)
    poses = _poses(topics, lidars[0], tree, missing)
    streams = tuple(LidarStream(topic=lidar.name) for lidar in lidars)
    config = ConvertConfig.model_validate(
        {"name": safe_name(path.stem, "log"), "lidars": streams, "cameras": cameras, **poses}
    )
    return Setup(config, tuple(missing))


def _lidars(topics: tuple[Topic, ...], tree: TransformTree, missing: list[str]) -> list[Topic]:
    """The LiDARs, the one that the others are merged into first."""
    found = [topic for topic in topics if topic.kind == "lidar" and topic.count]
    raw = [topic for topic in found if not _has(topic.name, _DERIVED)] or found
    raw.sort(key=lambda topic: (not _has(topic.name, _MAIN), topic.name))
    reached = tree.connected(raw[0].frame_id or "")
    chosen = [raw[0], *(topic for topic in raw[1:] if topic.frame_id in reached)]
    for topic in found:
        if topic not in raw:
            missing.append(f"{printable(topic.name)} is left out: by its name it is made from other points")
        elif topic not in chosen:
            frames = f"{raw[0].frame_id!r} and {topic.frame_id!r}"
            missing.append(f"{printable(topic.name)} is left out: no transform between the frames {frames}")
    return chosen


def _cameras(
    topics: tuple[Topic, ...], lidar: Topic, tree: TransformTree, missing: list[str]
) -> dict[str, CameraStream]:
    """One topic of pictures for each camera, by channel."""
    bases: dict[str, list[Topic]] = {}
    for topic in topics:
        if topic.kind == "camera" and topic.count and not _has(topic.name, _NO_PICTURE):
            bases.setdefault(_base(topic.name), []).append(topic)
    infos = {_base(topic.name): topic for topic in topics if topic.kind == "camera_info" and topic.count}
    reached = tree.connected(lidar.frame_id or "")
    cameras = {}
    for base, channel in channel_names(bases).items():
        picture = min(bases[base], key=_rank)
        info = infos.get(base) or _alike(picture, infos)
        frame = picture.frame_id or (info.frame_id if info else None)
        if info is None:
            missing.append(f"{channel}: no camera_info for {printable(picture.name)}; give calibration=FILE")
        elif frame != lidar.frame_id and frame not in reached:
            frames = f"{frame!r} and {lidar.frame_id!r}"
            missing.append(f"{channel}: no transform between the frames {frames}; give calibration=FILE")
        cameras[channel] = CameraStream(
            topic=picture.name, info=info.name if info else None, rectified=_is_rectified(picture.name)
        )
    return cameras


def _poses(topics: tuple[Topic, ...], lidar: Topic, tree: TransformTree, missing: list[str]) -> dict[str, object]:
    """Where poses are from: odometry whose frame is known, else transforms that move, else the scans, else nowhere."""
    reached = (*tree.connected(lidar.frame_id or ""), lidar.frame_id)
    odometry = [topic for topic in topics if topic.kind == "odometry" and topic.count]
    if odometry:
        best = max(odometry, key=lambda topic: topic.count)
        ego = next((frame for frame in _VEHICLES if frame in reached), None)
        return {"poses": "odometry", "odometry": best.name, "ego_frame": ego}
    vehicle = next((frame for frame in (*_VEHICLES, lidar.frame_id) if frame in reached), None)
    for world in _WORLDS:
        if vehicle and world in reached and _moves(tree, world, vehicle):
            return {"poses": "tf", "global_frame": world, "ego_frame": vehicle}
    poses: Poses
    poses, said = scans_alone(lidar)
    missing.append(said)
    return {"poses": poses}


def _moves(tree: TransformTree, world: str, vehicle: str) -> bool:
    try:
        return len(tree.times_ns(world, vehicle)) > 1
    except UserError:
        return False


def _base(name: str) -> str:
    """What the topics of one camera have in common: the name without `image…`, `compressed`, `camera_info`."""
    words = name.split("/")
    while len(words) > 1 and re.match(r"(?i)image|compressed|camera_info|rgb$|color$", words[-1]):
        words.pop()
    return "/".join(words)


def _rank(topic: Topic) -> tuple[int, bool, bool, str]:
    """Pictures as recorded before rectified ones, compressed ones before raw ones, where there are as many of them."""
    return -topic.count, _is_rectified(topic.name), not topic.type.endswith("CompressedImage"), topic.name


def _is_rectified(name: str) -> bool:
    return re.search(r"(?i)(^|[/_])rect(ified)?([/_]|$)", name) is not None


def _alike(picture: Topic, infos: dict[str, Topic]) -> Topic | None:
    """The calibration of the picture's frame, where one alone has it."""
    same = [info for info in infos.values() if picture.frame_id and info.frame_id == picture.frame_id]
    return same[0] if len(same) == 1 else None


def _has(name: str, words: tuple[str, ...]) -> bool:
    return any(word in name.lower() for word in words)
