"""One scene before any sensor looks at it: its street, what is in it, its light, and how the vehicle drives through."""

from __future__ import annotations

import numpy as np

from olivine.geometry import invert, transform_points
from olivine.simulate.cast import Cast
from olivine.simulate.config import SimulateConfig
from olivine.simulate.drive import Drive
from olivine.simulate.population import ego_offset_m, populate
from olivine.simulate.sensors import Light
from olivine.simulate.street import Street
from olivine.simulate.things import Thing
from olivine.simulate.world import World

# Footprint of the ego vehicle with some room around it, from the rear axle.
_EGO_REAR_M, _EGO_FRONT_M, _EGO_HALF_WIDTH_M = -1.8, 5.0, 1.5


class Stage:
    """A scene drawn from a generator.

    Args:
        rng: source of every choice; what the sensors draw later comes from it too.
        config: what to simulate.
        cast: who takes part in the traffic.
        interval_s: time from one keyframe to the next.

    Attributes:
        rng: as given.
        drive: the ego vehicle's way.
        world: the street and everything in it, nothing of it where the ego vehicle drives.
        light: sun and sky.
    """

    def __init__(self, rng: np.random.Generator, config: SimulateConfig, cast: Cast, interval_s: float) -> None:
        self.rng = rng
        speed = float(rng.uniform(*config.ego_speed_mps))
        street = Street(rng, 1.3 * speed * interval_s * config.keyframes_per_scene, config.bend_rad)
        things = populate(street, rng, config.traffic, speed, cast)
        self.drive = Drive(rng, street, ego_offset_m(street), speed)
        times_s = [keyframe * interval_s for keyframe in range(config.keyframes_per_scene)]
        things = _out_of_the_way(street, things, self.drive, times_s)
        self.world = World(street, street.ground(rng), things)
        self.light = Light.draw(rng)


def _out_of_the_way(street: Street, things: list[Thing], drive: Drive, times_s: list[float]) -> list[Thing]:
    """Leave out the things that the ego vehicle would touch in some keyframe, such as people on a crossing."""
    kept = np.ones(len(things), bool)
    s, d, along, across = np.array([(t.s_m, t.d_m, t.along_mps, t.across_mps) for t in things]).T
    for time_s in times_s:
        x, y, _ = street.locate(s + along * time_s, d + across * time_s)
        ego = transform_points(invert(drive.global_from_ego(time_s)), np.column_stack([x, y, np.zeros_like(x)]))
        kept &= (ego[:, 0] < _EGO_REAR_M) | (ego[:, 0] > _EGO_FRONT_M) | (np.abs(ego[:, 1]) > _EGO_HALF_WIDTH_M)
    return [thing for thing, keep in zip(things, kept, strict=True) if keep]
