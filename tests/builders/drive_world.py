"""A cheap world to drive through: a flat ground with markings and boxes along a street, hit by rays one by one.

Far simpler than `olivine.simulate`'s streets, so that a minute of driving takes seconds; colours and reflectivities
change at the boxes' edges, so that pictures and points share them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from olivine.streams import stream

FAR_M = 50.0
SKY = np.array([150.0, 190.0, 235.0])
SPEED_M_S = 8.0
_SPACING_M = 14.0


def vehicle_pose(times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [N, 3, 3] and positions [N, 3] of the vehicle's frame in the world, seconds after the drive's start."""
    times_s = np.atleast_1d(np.asarray(times_s, np.float64))
    yaw = 0.25 * np.sin(0.6 * times_s)
    rotations = np.zeros((len(times_s), 3, 3))
    rotations[:, 0, 0] = rotations[:, 1, 1] = np.cos(yaw)
    rotations[:, 1, 0] = np.sin(yaw)
    rotations[:, 0, 1] = -np.sin(yaw)
    rotations[:, 2, 2] = 1.0
    positions = np.stack([SPEED_M_S * times_s, 1.5 * np.sin(0.6 * times_s), np.zeros_like(times_s)], axis=1)
    return rotations, positions


@dataclass(frozen=True)
class World:
    """Boxes (lowest and highest corner [B, 3], metres) with colours [B, 3] and reflectivities [B] in 0…1."""

    low_m: np.ndarray
    high_m: np.ndarray
    colours: np.ndarray
    reflectivity: np.ndarray

    def cast(self, origins_m: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Range [R] in lengths of the direction (inf where nothing is hit), colour [R, 3] and reflectivity [R]."""
        centre = origins_m.mean(axis=0)
        origins_m, directions = origins_m.astype(np.float32), directions.astype(np.float32)
        near = np.linalg.norm((self.low_m + self.high_m) / 2 - centre, axis=1) < FAR_M
        low, high = self.low_m[near].astype(np.float32), self.high_m[near].astype(np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):
            ground = np.where(directions[:, 2] < 0, -origins_m[:, 2] / directions[:, 2], np.inf)
        enter = np.full((len(low), len(directions)), -np.inf, np.float32)
        leave = np.full_like(enter, np.inf)
        inverse = 1 / np.where(np.abs(directions) < 1e-9, np.float32(1e-9), directions)
        for axis in range(3):
            one = (low[:, axis, None] - origins_m[:, axis]) * inverse[:, axis]
            other = (high[:, axis, None] - origins_m[:, axis]) * inverse[:, axis]
            enter = np.maximum(enter, np.minimum(one, other))
            leave = np.minimum(leave, np.maximum(one, other))
        enter[(enter > leave) | (enter <= 0)] = np.inf
        box = enter.argmin(axis=0)
        first = enter[box, np.arange(len(directions))]
        reach = np.minimum(first, ground)
        reach[reach * np.linalg.norm(directions, axis=1) > FAR_M] = np.inf
        on_box = first < ground
        where = origins_m + np.where(np.isfinite(reach), reach, 0)[:, None] * directions
        marked = _marked(where)
        colours = np.where(on_box[:, None], self.colours[near][box], np.where(marked[:, None], 230.0, 85.0))
        reflectivity = np.where(on_box, self.reflectivity[near][box], np.where(marked, 0.8, 0.15))
        missed = ~np.isfinite(reach)
        colours[missed] = SKY
        return reach, colours, reflectivity


def _marked(where_m: np.ndarray) -> np.ndarray:
    """Ground that is painted: dashes along the lanes and bars across."""
    x, y = where_m[:, 0], where_m[:, 1]
    dash = (np.abs(np.abs(y) - 3.5) < 0.15) & (x % 6 < 3)
    return dash | ((x % 40 < 1.0) & (np.abs(y) < 3.5))


def build_world(length_m: float, seed: int) -> World:
    """A street of that length along x, with cars and poles beside it and houses behind."""
    generator = stream("scene", seed, 14)
    count = max(int((length_m + 2 * FAR_M) / _SPACING_M), 1)
    rows = []
    for place in range(count):
        x = -FAR_M + _SPACING_M * place
        for side in (-1, 1):
            car, pole, house = generator.random(3) < (0.5, 0.5, 0.6)
            if car:
                rows.append(_box(x + generator.uniform(0, 3), side * generator.uniform(5.5, 7), (4.2, 1.8, 1.5)))
            if pole:
                rows.append(_box(x + generator.uniform(4, 7), side * 8.5, (0.3, 0.3, 6.0)))
            if house:
                rows.append(_box(x, side * generator.uniform(13, 18), (7.0, 6.0, generator.uniform(3, 9))))
    low, high = (np.array(corner) for corner in zip(*rows, strict=True))
    return World(low, high, generator.uniform(20, 235, (len(low), 3)), generator.uniform(0.05, 0.95, len(low)))


def _box(x: float, y: float, size: tuple[float, float, float]) -> tuple[list[float], list[float]]:
    half_x, half_y = size[0] / 2, size[1] / 2
    return [x - half_x, y - half_y, 0.0], [x + half_x, y + half_y, size[2]]
