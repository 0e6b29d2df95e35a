"""Who and what is in a street: the layout of parked and moving traffic, people, works, trees and buildings.

`populate` deals things into rows along the street, so that nothing overlaps and every kind turns up near the ego
vehicle's way in every scene. The result is a list of `Thing`s that `world` turns into triangles.
"""

from __future__ import annotations

import numpy as np

from olivine.simulate import furniture, people, vehicles
from olivine.simulate.cast import DRIVEN, Cast
from olivine.simulate.parking import parked
from olivine.simulate.street import LANE_M, MEDIAN_HEIGHT_M, Street
from olivine.simulate.taxonomy import MANMADE, SIDEWALK, VEGETATION
from olivine.simulate.things import Builder, Thing


def populate(street: Street, rng: np.random.Generator, traffic: float, ego_speed_mps: float, cast: Cast) -> list[Thing]:
    """Fill a street.

    Args:
        street: the street.
        rng: source of every choice.
        traffic: density relative to the default.
        ego_speed_mps: mean speed of the ego vehicle; the vehicles in its lane keep to it.
        cast: who takes part.

    Returns:
        Everything above the ground, parked, standing or moving.
    """
    things: list[Thing] = []
    for side in (-1, 1):
        things += parked(street, side, rng, traffic, cast.deck)
        things += _sidewalk(street, side, rng, traffic, cast.walkers_every_m)
        things += _frontage(street, side, rng)
        things += _lanes(street, side, rng, traffic, ego_speed_mps, cast)
    return things + _centre_rows(street, rng) + _crossing_traffic(street, rng) + _backdrop(street, rng)


def ego_offset_m(street: Street) -> float:
    """Offset d of the lane that the ego vehicle drives in: the one beside the parked vehicles."""
    return -(street.median_m / 2 + (street.lanes - 0.5) * LANE_M)


def _sidewalk(
    street: Street, side: int, rng: np.random.Generator, traffic: float, walkers_every_m: float
) -> list[Thing]:
    """People, lamps, signs, trees and bollards on and beside the sidewalk."""
    walk = street.band(side, SIDEWALK)
    assert walk is not None, "every side has a sidewalk"
    things = []
    for s in np.arange(street.start_m, street.end_m, walkers_every_m / max(traffic, 0.1)):
        if rng.random() < 0.5 and not street.in_crossing(float(s)):
            things.append(_pedestrian(rng, float(s), side, (walk.inner_m + 0.8, walk.outer_m - 0.3), walk.height_m))
    furnishings: list[tuple[str, Builder, float]] = [
        (MANMADE, furniture.lamp_post, 24.0), (MANMADE, furniture.traffic_sign, 21.0),
        (MANMADE, furniture.bollards, 31.0), (VEGETATION, furniture.tree, 13.0), (VEGETATION, furniture.bush, 19.0),
    ]  # fmt: skip
    height = street.sides[side][0].height_m
    for category, build, spacing in furnishings:
        s = street.start_m + rng.uniform(0, spacing)
        while s < street.end_m:
            if not street.in_crossing(s, 2.5):
                # Lamps reach over the road and signs face their traffic: both are built for the right-hand side.
                yaw = np.pi if side > 0 else 0.0
                things.append(Thing(category, build(rng), s, side * (street.curb_m + 0.45), height, yaw))
            s += spacing * rng.uniform(0.6, 1.4)
    return things


def _pedestrian(
    rng: np.random.Generator, s_m: float, side: int, offsets_m: tuple[float, float], height_m: float
) -> Thing:
    walking = bool(rng.random() < 0.6)
    young = bool(rng.random() < 0.15)
    mesh = (people.child if young else people.adult)(rng, walking=walking)
    ahead = bool(rng.random() < 0.5)
    speed = rng.uniform(0.8, 1.6) * (1 if ahead else -1) if walking else 0.0
    yaw = (0.0 if ahead else np.pi) + rng.normal(0, 0.15) if walking else rng.uniform(-np.pi, np.pi)
    return Thing(
        "human.pedestrian.child" if young else "human.pedestrian.adult",
        mesh,
        s_m,
        side * float(rng.uniform(*offsets_m)),
        height_m,
        yaw,
        speed,
        attribute="pedestrian.moving" if walking else "pedestrian.standing",
    )


def _frontage(street: Street, side: int, rng: np.random.Generator) -> list[Thing]:
    """Buildings, gardens, walls and hedges along one side, block by block."""
    field = street.sides[side][-1]
    yaw = 0.0 if side > 0 else np.pi
    things = []
    for low, high in street.blocks():
        s, setback = low + 2.0, float(rng.choice([0.3, 2.5, 6.0]))
        while s < high - 6:
            width = float(min(rng.uniform(8, 22), high - s - 1))
            place = (s + width / 2, field.inner_m + setback + rng.uniform(0, 1.0))
            if rng.random() < 0.74:
                shape = furniture.building(rng, width - rng.uniform(0, 2))
                things.append(Thing(MANMADE, shape, place[0], side * place[1], 0.0, yaw))
            else:
                things += _garden(rng, side, (s, s + width), field.inner_m, field.height_m)
            if setback > 2 and rng.random() < 0.6:
                things.append(_hedge_or_fence(rng, side, place[0], field.inner_m + 0.5, width, field.height_m))
            s += width + rng.choice([0.2, 3.0])
    return things


def _hedge_or_fence(
    rng: np.random.Generator, side: int, s_m: float, offset_m: float, width_m: float, height_m: float
) -> Thing:
    if rng.random() < 0.5:
        return Thing(VEGETATION, furniture.hedge(rng), s_m, side * offset_m, height_m)
    return Thing(MANMADE, furniture.fence(rng, width_m * 0.8), s_m, side * offset_m, height_m)


def _garden(
    rng: np.random.Generator, side: int, span: tuple[float, float], inner_m: float, height_m: float
) -> list[Thing]:
    """A gap between buildings: trees, bushes, now and then a shelter."""
    things = []
    for _ in range(int(rng.integers(3, 7))):
        build = furniture.tree if rng.random() < 0.55 else furniture.bush
        offset = inner_m + rng.uniform(1.0, 22.0)
        yaw = rng.uniform(-np.pi, np.pi)
        things.append(Thing(VEGETATION, build(rng), float(rng.uniform(*span)), side * offset, height_m, yaw))
    if rng.random() < 0.3:
        yaw = 0.0 if side > 0 else np.pi
        things.append(Thing(MANMADE, furniture.shelter(rng), sum(span) / 2, side * (inner_m + 1.2), height_m, yaw))
    return things


def _lanes(
    street: Street, side: int, rng: np.random.Generator, traffic: float, ego_speed_mps: float, cast: Cast
) -> list[Thing]:
    """Moving traffic of one direction; each lane has one speed, so that nothing collides."""
    things: list[Thing] = []
    for lane in range(street.lanes):
        own = side < 0 and lane == street.lanes - 1
        speed = ego_speed_mps if own else float(rng.uniform(4, 11))
        d = side * (street.median_m / 2 + (lane + 0.5) * LANE_M)
        s = street.start_m + rng.uniform(0, 15)
        while s < street.end_m:
            category, build, attribute = DRIVEN[rng.choice(len(DRIVEN), p=cast.driven_share)]
            mesh = build(rng)
            length = float(np.ptp(mesh.vertices_m[:, 0]))
            middle = s + length / 2
            # The ego vehicle runs ahead of its mean speed, or behind it, by up to 6 m around its own place.
            if not (own and -12 - length / 2 < middle < 15 + length / 2):
                yaw = np.pi if side > 0 else 0.0
                things.append(Thing(category, mesh, middle, d + rng.normal(0, 0.12), 0.0, yaw, -side * speed,
                                    attribute=attribute))  # fmt: skip
            s += length + rng.uniform(*cast.gap_m) / max(traffic, 0.1)
    return things


def _centre_rows(street: Street, rng: np.random.Generator) -> list[Thing]:
    """Rows of barriers or cones along the middle of the street, as at long works."""
    things = []
    for low, high in street.blocks():
        if rng.random() < 0.25 or high - low < 30:
            continue
        start = rng.uniform(low + 8, high - 20)
        if rng.random() < 0.5:
            row = [("movable_object.barrier", furniture.barrier, s) for s in start + 2.5 * np.arange(5)]
        else:
            row = [("movable_object.trafficcone", furniture.traffic_cone, s) for s in start + 1.6 * np.arange(7)]
        height = MEDIAN_HEIGHT_M if street.median_m else 0.0
        things += [Thing(category, build(rng), float(s), rng.normal(0, 0.06), height, rng.normal(0, 0.05))
                   for category, build, s in row]  # fmt: skip
    return things


def _crossing_traffic(street: Street, rng: np.random.Generator) -> list[Thing]:
    """Vehicles waiting in the crossing streets, and people on the zebra crossings."""
    things = []
    for middle, width in street.crossings:
        for side in (-1, 1):
            small = bool(rng.random() < 0.7)
            shape = vehicles.car(rng) if small else vehicles.truck(rng)
            category = "vehicle.car" if small else "vehicle.truck"
            away = street.curb_m + 7 + rng.uniform(0, 12)
            things.append(Thing(category, shape, middle + side * width / 4, side * away, 0.0, -side * np.pi / 2,
                                attribute="vehicle.stopped"))  # fmt: skip
        for _ in range(int(rng.integers(0, 4))):
            start = float(rng.uniform(-street.curb_m, street.curb_m))
            side = 1 if rng.random() < 0.5 else -1
            zebra = middle + float(rng.choice([-1, 1])) * (width / 2 + 3.6) + rng.normal(0, 0.5)
            things.append(Thing("human.pedestrian.adult", people.adult(rng), zebra, start, 0.0, side * np.pi / 2,
                                across_mps=side * rng.uniform(0.6, 1.2), attribute="pedestrian.moving"))  # fmt: skip
    return things


def _backdrop(street: Street, rng: np.random.Generator) -> list[Thing]:
    """Tall blocks and trees that close the view at both ends and behind the frontage."""
    things = []
    for s, yaw in ((street.start_m - 4, np.pi / 2), (street.end_m + 4, -np.pi / 2)):
        for d in np.arange(-60, 61, 20.0):
            things.append(Thing(MANMADE, furniture.building(rng, 19.0), s, float(d), 0.0, yaw))
    for side in (-1, 1):
        s = street.start_m
        while s < street.end_m:
            if rng.random() < 0.5:
                shape = furniture.building(rng, 18.0)
                things.append(Thing(MANMADE, shape, s, side * 58.0, 0.0, 0.0 if side > 0 else np.pi))
            else:
                things.append(Thing(VEGETATION, furniture.tree(rng), s, side * rng.uniform(45, 60)))
            s += rng.uniform(10, 24)
    return things
