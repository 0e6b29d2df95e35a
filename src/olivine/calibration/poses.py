"""Poses over time: straight between two known ones in place, at a constant rate in rotation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from olivine.errors import UserError
from olivine.geometry import Float

MAX_GAP_NS = 500_000_000
"""Poses are interpolated across at most half a second: odometry comes at 10 Hz and more."""

REACH_NS = 100_000_000
"""A pose holds, by the motion of its neighbours, for at most a tenth of a second before the first or after the last."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The poses of one body, made and checked by `trajectory`.

    Attributes:
        times_ns: [T] int64, strictly rising.
        poses: [T, 4, 4] float64 world_from_body, metres.
        origin: where they are from: odometry, tf, kiss-icp, or a file.
        max_gap_ns: poses farther apart than this are not interpolated between.
        reach_ns: how long before the first and after the last pose one is extrapolated.
    """

    times_ns: NDArray[np.int64]
    poses: NDArray[np.float64]
    origin: str
    max_gap_ns: int = MAX_GAP_NS
    reach_ns: int = REACH_NS

    def covers(self, times_ns: ArrayLike) -> NDArray[np.bool_]:
        """Which of [N] times have a pose: inside a gap of at most `max_gap_ns`, or within `reach_ns` of an end."""
        times = np.atleast_1d(np.asarray(times_ns, np.int64))
        before = np.searchsorted(self.times_ns, times, side="right") - 1
        inside = np.clip(before, 0, max(len(self.times_ns) - 2, 0))
        following = np.minimum(inside + 1, len(self.times_ns) - 1)
        narrow = self.times_ns[following] - self.times_ns[inside] <= self.max_gap_ns
        exact = self.times_ns[np.clip(before, 0, None)] == times
        early, late = self.times_ns[0] - times, times - self.times_ns[-1]
        outside = (early > 0) | (late > 0)
        near = (early <= self.reach_ns) & (late <= self.reach_ns)
        still = outside & near & (len(self.times_ns) == 1)
        return np.asarray(exact | still | (narrow & near & (len(self.times_ns) > 1)))

    def at(self, times_ns: ArrayLike) -> NDArray[np.float64]:
        """The poses at [N] times (or one), by interpolation.

        Returns:
            [N, 4, 4] float64 world_from_body, or [4, 4] for one time.

        Raises:
            UserError: a time inside a gap, or beyond reach of the first and last pose; both are said.
        """
        times = np.atleast_1d(np.asarray(times_ns, np.int64))
        self.require(times)
        if len(self.times_ns) == 1:
            poses = np.repeat(self.poses, len(times), axis=0)
        else:
            first = np.clip(np.searchsorted(self.times_ns, times, side="right") - 1, 0, len(self.times_ns) - 2)
            span = self.times_ns[first + 1] - self.times_ns[first]
            poses = between(self.poses[first], self.poses[first + 1], (times - self.times_ns[first]) / span)
        return poses[0] if np.ndim(times_ns) == 0 else poses

    def require(self, times_ns: ArrayLike) -> None:
        """Raise `UserError` where one of the times has no pose."""
        times = np.atleast_1d(np.asarray(times_ns, np.int64))
        missing = times[~self.covers(times)]
        if len(missing) == 0:
            return
        time = int(missing[0])
        start, stop = int(self.times_ns[0]), int(self.times_ns[-1])
        if start <= time <= stop:
            place = int(np.searchsorted(self.times_ns, time))
            gap_s = (int(self.times_ns[place]) - int(self.times_ns[place - 1])) / 1e9
            bridged_s = self.max_gap_ns / 1e9
            why = f"it falls into a gap of {gap_s:.3f} s between poses, and at most {bridged_s:g} s are bridged"
        else:
            why = f"poses are known from {start / 1e9:.3f} to {stop / 1e9:.3f} s, and {self.reach_ns / 1e9:g} s beyond"
        raise UserError(f"no pose from {self.origin} at {time / 1e9:.3f} s: {why}")

    def of(self, body_from_other: Float) -> Trajectory:
        """The trajectory of another frame that is fixed to the body, from its pose [4, 4] in the body's frame."""
        return replace(self, poses=self.poses @ np.asarray(body_from_other, np.float64))


def trajectory(
    times_ns: ArrayLike, poses: ArrayLike, origin: str, *, max_gap_ns: int = MAX_GAP_NS, reach_ns: int = REACH_NS
) -> Trajectory:
    """A `Trajectory` of poses as they come.

    Args:
        times_ns: [T] integers, rising; a time that is repeated with the same pose is dropped.
        poses: [T, 4, 4] world_from_body, metres.
        origin: where they are from, named in errors.
        max_gap_ns: see `Trajectory`.
        reach_ns: see `Trajectory`.

    Raises:
        UserError: no poses, numbers that are not finite, times that run backwards, or two poses of one time.
    """
    times, values = np.asarray(times_ns, np.int64), np.asarray(poses, np.float64).reshape(-1, 4, 4)
    if len(times) == 0 or len(times) != len(values):
        raise UserError(f"{origin}: {len(values)} poses for {len(times)} times; a trajectory needs one each, and some")
    if not np.isfinite(values).all():
        raise UserError(f"{origin}: a pose holds numbers that are not finite")
    steps = np.diff(times)
    if (steps < 0).any():
        place = int(np.argmax(steps < 0))
        raise UserError(
            f"{origin}: times of poses run backwards, from {times[place] / 1e9:.3f} to {times[place + 1] / 1e9:.3f} s"
        )
    same = np.concatenate(([False], steps == 0))
    if same.any():
        if np.abs(values[same] - values[np.flatnonzero(same) - 1]).max() > 1e-6:
            raise UserError(
                f"{origin}: two different poses of one time, {times[same][0] / 1e9:.3f} s; keep one of them"
            )
        times, values = times[~same], values[~same]
    return Trajectory(times, values, origin, max_gap_ns, reach_ns)


def between(start: Float, stop: Float, share: Float) -> NDArray[np.float64]:
    """Poses a share of the way from one to another: place straight, rotation about one axis at a constant rate.

    Args:
        start: [N, 4, 4].
        stop: [N, 4, 4].
        share: [N] 0 is the start, 1 the stop; may lie outside.

    Returns:
        [N, 4, 4] float64.
    """
    share = np.asarray(share, np.float64)[:, None]
    turn = rotation_vectors(np.swapaxes(start[:, :3, :3], 1, 2) @ stop[:, :3, :3])
    poses = np.zeros((len(share), 4, 4))
    poses[:, :3, :3] = start[:, :3, :3] @ rotations_from_vectors(turn * share)
    poses[:, :3, 3] = start[:, :3, 3] + share * (stop[:, :3, 3] - start[:, :3, 3])
    poses[:, 3, 3] = 1
    return poses


def rotation_vectors(rotations: Float) -> NDArray[np.float64]:
    """[N, 3] axis times angle, radians below π, of [N, 3, 3] rotations."""
    from scipy.spatial.transform import Rotation  # here, since it takes a third of a second to import

    return np.asarray(Rotation.from_matrix(rotations).as_rotvec(), np.float64)


def rotations_from_vectors(vectors: Float) -> NDArray[np.float64]:
    """[N, 3, 3] rotations of [N, 3] axis times angle, radians (Rodrigues' formula)."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(vectors).as_matrix(), np.float64)
