"""Who takes part in a street's traffic: what parks at the kerb, what drives, how many people walk.

The road users of a nuScenes city and of a KITTI town differ; a `Cast` says by how much. Which of them comes where is
dealt by `population`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from olivine.simulate import people, vehicles
from olivine.simulate.things import Builder

DRIVEN: tuple[tuple[str, Builder, str], ...] = (
    ("vehicle.car", vehicles.car, "vehicle.moving"),
    ("vehicle.truck", vehicles.truck, "vehicle.moving"),
    ("vehicle.bus.rigid", vehicles.bus, "vehicle.moving"),
    ("vehicle.motorcycle", partial(people.motorcycle, ridden=True), "cycle.with_rider"),
    ("vehicle.bicycle", partial(people.bicycle, ridden=True), "cycle.with_rider"),
)
"""What drives in the lanes: category, builder, attribute."""


@dataclass(frozen=True)
class Cast:
    """The road users of a world.

    Attributes:
        deck: cards that a row of parking is dealt from, by the names of `olivine.simulate.parking.CARDS`.
        driven_share: share of each of `DRIVEN` in the traffic; sums to 1.
        walkers_every_m: a sidewalk has a place for somebody every so many metres, at the default density; half of
            the places are taken.
        gap_m: range of the free road between two vehicles in a lane, at the default density.
    """

    deck: tuple[str, ...]
    driven_share: tuple[float, ...]
    walkers_every_m: float
    gap_m: tuple[float, float]


CITY = Cast(
    deck=(*["car"] * 2, *["motorcycles"] * 2, *["bicycles"] * 3, "truck", "bus", *["trailer"] * 2,
          *["works", "cones"] * 2),
    driven_share=(0.47, 0.14, 0.06, 0.17, 0.16),
    walkers_every_m=3.2,
    gap_m=(4.0, 30.0),
)  # fmt: skip
"""Every class of nuScenes, the rare ones as often as the others."""

TOWN = Cast(
    deck=(*["car"] * 6, *["free"] * 9, "bicycles", "truck", "works"),
    driven_share=(0.6, 0.06, 0.02, 0.02, 0.3),
    walkers_every_m=9.0,
    gap_m=(8.0, 45.0),
)
"""Cars above all, people and cyclists, and room between them, as in KITTI."""
