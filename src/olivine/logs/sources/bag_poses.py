"""Transforms and poses of a bag, read whole: they are small, and everything else is placed by them."""

from __future__ import annotations

from array import array
from collections import defaultdict

import numpy as np

from olivine.calibration import TransformTree, trajectory
from olivine.errors import UserError, printable
from olivine.logs.bags import Bag
from olivine.logs.log import Motion
from olivine.logs.recipe import ConvertConfig

_STATIC = "tf_static"
_STILL = 1e-6
"""A timed transform whose numbers never differ by more is a static one that is said again and again."""


class _Edge:
    """The transforms between two frames, compactly."""

    def __init__(self) -> None:
        self.times_ns = array("q")
        self.values = array("d")


def read_transforms(bag: Bag) -> TransformTree:
    """All transforms of a bag.

    Raises:
        UserError: a rotation that is none, or transforms that contradict each other.
    """
    tree = TransformTree(f"{bag.path}: tf")
    timed: dict[tuple[str, str], _Edge] = defaultdict(_Edge)
    for reading in bag.readings(topic.name for topic in bag.of_kind("transforms")):
        for one in reading.transforms():
            if reading.topic.name.endswith(_STATIC):
                tree.add(one.parent, one.child, one.parent_from_child)
            else:
                edge = timed[one.parent, one.child]
                edge.times_ns.append(one.stamp_ns)
                edge.values.extend(one.parent_from_child[:3].ravel())
    for (parent, child), edge in timed.items():
        _add(tree, parent, child, edge)
    return tree


def _add(tree: TransformTree, parent: str, child: str, edge: _Edge) -> None:
    values = np.frombuffer(edge.values).reshape(-1, 3, 4)
    matrices = np.zeros((len(values), 4, 4))
    matrices[:, :3], matrices[:, 3, 3] = values, 1
    if np.ptp(values, axis=0).max() <= _STILL:
        tree.add(parent, child, matrices[0])
        return
    tree.extend(parent, child, edge.times_ns, matrices)


def odometry_poses(bag: Bag, tree: TransformTree, config: ConvertConfig, lidar_frame: str) -> Motion:
    """The poses of a topic of odometry.

    Raises:
        UserError: no such topic, no message in it, times that run backwards, or no path from its frame to the LiDAR.
    """
    assert config.odometry is not None, "the recipe asks for odometry"
    times, values, child = array("q"), array("d"), ""
    for reading in bag.readings((config.odometry,)):
        pose = reading.pose()
        times.append(pose.stamp_ns)
        values.extend(pose.parent_from_child.ravel())
        child = child or pose.child
    if not times:
        raise UserError(f"{bag.path}: topic {printable(config.odometry)} has no messages; set poses=tf or unknown")
    track = trajectory(times, np.frombuffer(values).reshape(-1, 4, 4), f"odometry ({printable(config.odometry)})")
    return Motion(track, tree.transform(child or config.ego_frame or lidar_frame, lidar_frame), "odometry")


def tf_poses(tree: TransformTree, config: ConvertConfig, lidar_frame: str) -> Motion:
    """The poses that the transforms give.

    Raises:
        UserError: no path between the frames, or none of the transforms between them changes.
    """
    assert config.global_frame is not None, "the recipe names it"
    ego = config.ego_frame or lidar_frame
    return Motion(tree.trajectory(config.global_frame, ego), tree.transform(ego, lidar_frame), "tf")
