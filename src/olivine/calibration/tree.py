"""The frames of a vehicle and how they stand to each other, as ROS's tf has them: edges with a time or without."""

from __future__ import annotations

import itertools
from array import array
from collections import deque

import numpy as np
from numpy.typing import ArrayLike, NDArray

from olivine.calibration.poses import MAX_GAP_NS, REACH_NS, Trajectory, trajectory
from olivine.errors import UserError
from olivine.geometry import Float, invert

_SAME_M = 1e-4
"""Two static transforms of one edge that differ by less, metres and entries of the rotation, are one."""


class TransformTree:
    """Transforms between named frames.

    Args:
        source: where they are from, named in errors.
        max_gap_ns: a timed transform is interpolated across at most this gap.
        reach_ns: and is extrapolated by at most this much beyond its first and last time.
    """

    def __init__(self, source: str = "tf", *, max_gap_ns: int = MAX_GAP_NS, reach_ns: int = REACH_NS) -> None:
        self.source = source
        self.max_gap_ns, self.reach_ns = max_gap_ns, reach_ns
        self._static: dict[tuple[str, str], NDArray[np.float64]] = {}
        self._timed: dict[tuple[str, str], tuple[array[int], array[float]]] = {}  # times, and 12 numbers each
        self._tracks: dict[tuple[str, str], Trajectory] = {}
        self._paths: dict[tuple[str, str], list[str]] = {}
        self._neighbours: dict[str, dict[str, None]] = {}

    def add(self, parent: str, child: str, parent_from_child: Float, time_ns: int | None = None) -> None:
        """Add what tf calls a transform: the pose of a child frame in its parent.

        Args:
            parent: name of the parent frame; a slash before it is dropped, as in ROS 1.
            child: name of the child frame.
            parent_from_child: [4, 4], metres.
            time_ns: when it holds; None always.

        Raises:
            UserError: a frame in itself, an edge given both ways, as static and as timed, or as two different static
                ones.
        """
        if time_ns is not None:
            self.extend(parent, child, [time_ns], np.asarray(parent_from_child)[None])
            return
        edge = self._edge_of(parent, child, timed=False)
        transform = np.asarray(parent_from_child, np.float64)
        if np.abs(self._static.setdefault(edge, transform) - transform).max() > _SAME_M:
            raise UserError(
                f"{self.source}: two static transforms from {edge[0]!r} to {edge[1]!r} that differ; keep the right one"
            )

    def extend(self, parent: str, child: str, times_ns: ArrayLike, parent_from_child: Float) -> None:
        """Add many transforms of one edge, in any order; of several at one time the first counts, as in tf.

        Args:
            parent: as of `add`.
            child: as of `add`.
            times_ns: [T] when each holds.
            parent_from_child: [T, 4, 4], metres.

        Raises:
            UserError: as of `add`.
        """
        edge = self._edge_of(parent, child, timed=True)
        times, values = self._timed.setdefault(edge, (array("q"), array("d")))
        times.frombytes(np.asarray(times_ns, np.int64).tobytes())
        values.frombytes(np.ascontiguousarray(parent_from_child[:, :3], np.float64).tobytes())
        self._tracks.pop(edge, None)

    def _edge_of(self, parent: str, child: str, *, timed: bool) -> tuple[str, str]:
        """The edge between two frames, made known."""
        edge = (parent.removeprefix("/"), child.removeprefix("/"))
        self._refuse(edge, timed=timed)
        if edge[1] not in self._neighbours.get(edge[0], {}):
            self._neighbours.setdefault(edge[0], {})[edge[1]] = None
            self._neighbours.setdefault(edge[1], {})[edge[0]] = None
            self._paths.clear()
        return edge

    @property
    def frames(self) -> tuple[str, ...]:
        """Names of all frames, sorted."""
        return tuple(sorted(self._neighbours))

    def connected(self, frame: str) -> tuple[str, ...]:
        """The frames that a frame has a path to, itself included, sorted; none where it is not known."""
        name = frame.removeprefix("/")
        return tuple(sorted(self._reached(name))) if name in self._neighbours else ()

    def is_static(self, target: str, source: str) -> bool:
        """Whether the transform between two frames never changes; raises `UserError` as of `transform`."""
        return all(self._edge(a, b)[0] in self._static for a, b in _steps(self.path(target, source)))

    def times_ns(self, target: str, source: str) -> NDArray[np.int64]:
        """[T] all times at which a timed edge between two frames is given, rising; none where all are static."""
        edges = [self._edge(a, b)[0] for a, b in _steps(self.path(target, source))]
        given = [self._track(edge).times_ns for edge in edges if edge in self._timed]
        return np.unique(np.concatenate(given)) if given else np.empty(0, np.int64)

    def transform(self, target: str, source: str, time_ns: int | None = None) -> NDArray[np.float64]:
        """The transform between two frames at a time.

        Args:
            target: name of the frame wanted.
            source: name of the frame that is carried over.
            time_ns: when; may be left out where all edges between the two are static.

        Returns:
            [4, 4] float64 target_from_source, metres.

        Raises:
            UserError: a frame that is not known, no path (what each is connected to is said), two paths, or no
                transform at that time.
        """
        result = np.eye(4)
        for near, far in _steps(self.path(target, source)):
            edge, forward = self._edge(near, far)
            step = self._static.get(edge)
            if step is None:
                step = self._at(edge, time_ns)
            result = result @ (step if forward else invert(step))
        return result

    def _transforms(self, target: str, source: str, times_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """`transform` at [T] times, [T, 4, 4]."""
        result = np.broadcast_to(np.eye(4), (len(times_ns), 4, 4))
        for near, far in _steps(self.path(target, source)):
            edge, forward = self._edge(near, far)
            step = self._static[edge] if edge in self._static else self._track(edge).at(times_ns)
            result = result @ (step if forward else np.linalg.inv(step))
        return result

    def trajectory(self, world: str, body: str, origin: str = "tf") -> Trajectory:
        """The poses of a frame in another at every time that a timed edge between them is given and all are known.

        Raises:
            UserError: as of `transform`, or all edges between the two are static.
        """
        times = self.times_ns(world, body)
        known = np.ones(len(times), bool)
        for near, far in _steps(self.path(world, body)):
            edge, _ = self._edge(near, far)
            if edge in self._timed:
                known &= self._track(edge).covers(times)
        if not known.any():
            raise UserError(
                f"{self.source}: {body!r} never moves in {world!r}, there are only static transforms between them; "
                "name the frame that the vehicle drives in, e.g. odom or map"
            )
        poses = self._transforms(world, body, times[known])
        return trajectory(times[known], poses, origin, max_gap_ns=self.max_gap_ns, reach_ns=self.reach_ns)

    def path(self, target: str, source: str) -> list[str]:
        """The frames on the way from target to source, both included; raises `UserError` where there is not one way."""
        ends = (target.removeprefix("/"), source.removeprefix("/"))
        if ends not in self._paths:
            self._paths[ends] = self._only_path(*ends)
        return self._paths[ends]

    def _only_path(self, target: str, source: str) -> list[str]:
        for frame in (target, source):
            if frame not in self._neighbours and target != source:
                raise UserError(
                    f"{self.source}: no frame {frame!r}; there are {', '.join(self.frames) or 'no frames at all'}"
                )
        before = self._reached(target) if target != source else {target: target}
        if source not in before:
            raise UserError(
                f"{self.source}: no path from {source!r} to {target!r}: {target!r} is connected to "
                f"{_others(self.connected(target), target)}, {source!r} to {_others(self.connected(source), source)}; "
                "record the missing transform, or give a calibration file"
            )
        path = _traced(before, target, source)
        for step in _steps(path):
            other = self._reached(target, without=step)
            if source in other:
                raise UserError(
                    f"{self.source}: two ways from {source!r} to {target!r}, {' - '.join(path)} and "
                    f"{' - '.join(_traced(other, target, source))}; transforms must form a tree, drop an edge"
                )
        return path

    def _reached(self, start: str, without: tuple[str, str] = ("", "")) -> dict[str, str]:
        """Every frame that there is a path to, with the frame before it on the shortest."""
        before, waiting = {start: start}, deque([start])
        while waiting:
            frame = waiting.popleft()
            for near in self._neighbours.get(frame, {}):
                if near not in before and {frame, near} != set(without):
                    before[near] = frame
                    waiting.append(near)
        return before

    def _edge(self, near: str, far: str) -> tuple[tuple[str, str], bool]:
        """The edge between two neighbours, (parent, child), and whether the nearer is the parent."""
        forward = (near, far) in self._static or (near, far) in self._timed
        return ((near, far), True) if forward else ((far, near), False)

    def _at(self, edge: tuple[str, str], time_ns: int | None) -> NDArray[np.float64]:
        if time_ns is None:
            raise UserError(
                f"{self.source}: the transform from {edge[0]!r} to {edge[1]!r} changes over time; ask for it at a time"
            )
        return self._track(edge).at(int(time_ns))

    def _track(self, edge: tuple[str, str]) -> Trajectory:
        if edge not in self._tracks:
            given, values = (np.array(numbers) for numbers in self._timed[edge])
            times, first = np.unique(given, return_index=True)
            poses = np.zeros((len(times), 4, 4))
            poses[:, :3], poses[:, 3, 3] = values.reshape(-1, 3, 4)[first], 1
            self._tracks[edge] = trajectory(
                times,
                poses,
                f"{self.source} ({edge[0]} to {edge[1]})",
                max_gap_ns=self.max_gap_ns,
                reach_ns=self.reach_ns,
            )
        return self._tracks[edge]

    def _refuse(self, edge: tuple[str, str], *, timed: bool) -> None:
        parent, child = edge
        if parent == child or not parent or not child:
            raise UserError(f"{self.source}: a transform from {parent!r} to {child!r}; name two different frames")
        if edge[::-1] in self._static or edge[::-1] in self._timed:
            raise UserError(
                f"{self.source}: {parent!r} is said to be the parent of {child!r} and the other way round; keep one"
            )
        if edge in (self._static if timed else self._timed):
            raise UserError(
                f"{self.source}: the transform from {parent!r} to {child!r} is given both with times and as a static "
                "one; keep one of them"
            )


def _steps(path: list[str]) -> list[tuple[str, str]]:
    return list(itertools.pairwise(path))


def _traced(before: dict[str, str], target: str, source: str) -> list[str]:
    """The path from target to source, from the frame before each."""
    path = [source]
    while path[-1] != target:
        path.append(before[path[-1]])
    return path[::-1]


def _others(frames: tuple[str, ...], frame: str) -> str:
    return ", ".join(name for name in frames if name != frame) or "nothing"
