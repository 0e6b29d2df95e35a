"""The row of parking along a kerb: cards, each with what may stand there, that are dealt from shuffled decks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from olivine.simulate import furniture, people, vehicles
from olivine.simulate.street import PARKING_M, Street
from olivine.simulate.things import Builder, Thing

# (generator, offset d of the row, side of the street) → length along the row, things with s counted from its start.
Card = Callable[[np.random.Generator, float, int], tuple[float, list[Thing]]]


def parked(street: Street, side: int, rng: np.random.Generator, traffic: float, deck: tuple[str, ...]) -> list[Thing]:
    """What stands in the row at the curb of one side.

    Args:
        street: the street.
        side: −1 right, +1 left.
        rng: source of every choice.
        traffic: density relative to the default.
        deck: names of the cards, as of `CARDS`; shuffled and dealt anew until the street ends.
    """
    things: list[Thing] = []
    d = side * (street.curb_m - PARKING_M / 2)
    s = street.start_m + 2
    while s < street.end_m - 15:
        for card in rng.permutation(deck):
            length, made = CARDS[str(card)](rng, d, side)
            if s + length > street.end_m:
                break
            if street.in_crossing(s + length / 2, length / 2 + 6):
                s += 4.0
                continue
            if rng.random() < 0.75 * traffic + 0.15:
                things += [thing.after(s) for thing in made]
            s += length + rng.uniform(0.8, 3.0)
    return things


def _vehicle_card(category: str, build: Builder) -> Card:
    """A card with one parked vehicle, facing the way its side of the road drives."""

    def deal(rng: np.random.Generator, d_m: float, side: int) -> tuple[float, list[Thing]]:
        mesh = build(rng)
        length = float(np.ptp(mesh.vertices_m[:, 0]))
        yaw = (np.pi if side > 0 else 0.0) + rng.normal(0, 0.03)
        thing = Thing(category, mesh, length / 2, d_m + rng.normal(0, 0.08), yaw_rad=yaw, attribute="vehicle.parked")
        return length, [thing]

    return deal


def _row_card(category: str, build: Builder, spacing_m: float) -> Card:
    """A card with a few two-wheelers parked side by side, across the row."""

    def deal(rng: np.random.Generator, d_m: float, side: int) -> tuple[float, list[Thing]]:
        count = int(rng.integers(2, 5))
        lean = side * np.pi / 2 + rng.uniform(-0.5, 0.5)
        made = [
            Thing(category, build(rng), 0.5 + spacing_m * i, d_m + rng.normal(0, 0.1),
                  yaw_rad=lean + rng.normal(0, 0.12), attribute="cycle.without_rider")
            for i in range(count)
        ]  # fmt: skip
        return spacing_m * count + 0.6, made

    return deal


def _works_card(rng: np.random.Generator, d_m: float, side: int) -> tuple[float, list[Thing]]:
    """A work site: a machine behind barriers, cones at both ends, a worker."""
    machine = vehicles.construction_vehicle(rng)
    reach = float(np.ptp(machine.vertices_m[:, 0]))
    length = reach + 6.0
    lane_side = d_m - side * (PARKING_M / 2 + 0.25)
    made = [Thing("vehicle.construction", machine, length / 2, d_m + side * 0.2, yaw_rad=rng.choice([0.0, np.pi]),
                  attribute="vehicle.parked")]  # fmt: skip
    for s in np.arange(1.5, length - 0.5, 2.6):
        made.append(Thing("movable_object.barrier", furniture.barrier(rng), float(s), lane_side,
                          yaw_rad=rng.normal(0, 0.06)))  # fmt: skip
    for s in (0.3, 0.9, length - 0.3):
        made.append(Thing("movable_object.trafficcone", furniture.traffic_cone(rng), s, d_m - side * rng.uniform(0, 1)))
    made.append(Thing("human.pedestrian.construction_worker", people.worker(rng), 1.6, d_m + side * rng.uniform(0, 0.6),
                      yaw_rad=rng.uniform(-3, 3), attribute="pedestrian.standing"))  # fmt: skip
    return length, made


def _cones_card(rng: np.random.Generator, d_m: float, side: int) -> tuple[float, list[Thing]]:
    """A closed-off stretch of kerb: a tapering line of cones, then barriers."""
    made = [
        Thing("movable_object.trafficcone", furniture.traffic_cone(rng), 0.3 + 1.3 * i,
              d_m + side * (0.8 - 0.3 * i) + rng.normal(0, 0.08))
        for i in range(5)
    ]  # fmt: skip
    made += [
        Thing("movable_object.barrier", furniture.barrier(rng), 8.0 + 2.5 * i, d_m - side * 0.9,
              yaw_rad=rng.normal(0, 0.1))
        for i in range(2)
    ]  # fmt: skip
    return 12.5, made


def _free_card(rng: np.random.Generator, _d_m: float, _side: int) -> tuple[float, list[Thing]]:
    """A stretch where nobody parks."""
    return float(rng.uniform(5, 12)), []


CARDS: dict[str, Card] = {
    "car": _vehicle_card("vehicle.car", vehicles.car),
    "truck": _vehicle_card("vehicle.truck", vehicles.truck),
    "bus": _vehicle_card("vehicle.bus.rigid", vehicles.bus),
    "trailer": _vehicle_card("vehicle.trailer", vehicles.trailer),
    "motorcycles": _row_card("vehicle.motorcycle", people.motorcycle, 1.1),
    "bicycles": _row_card("vehicle.bicycle", people.bicycle, 0.9),
    "works": _works_card,
    "cones": _cones_card,
    "free": _free_card,
}
"""What may stand in a row, by the names that decks hold."""
