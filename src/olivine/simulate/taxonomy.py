"""The official nuScenes names that the simulator writes, and which of them each simulated thing carries.

Source of the taxonomy: https://github.com/nutonomy/nuscenes-devkit (lidarseg categories and their indices).
"""

from __future__ import annotations

LIDARSEG_CATEGORIES = (
    "noise",
    "animal",
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.stroller",
    "human.pedestrian.wheelchair",
    "movable_object.barrier",
    "movable_object.debris",
    "movable_object.pushable_pullable",
    "movable_object.trafficcone",
    "static_object.bicycle_rack",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.car",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.motorcycle",
    "vehicle.trailer",
    "vehicle.truck",
    "flat.driveable_surface",
    "flat.other",
    "flat.sidewalk",
    "flat.terrain",
    "static.manmade",
    "static.other",
    "static.vegetation",
    "vehicle.ego",
)
"""Names of the 32 lidarseg categories, in index order."""

ATTRIBUTES = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "pedestrian.moving",
)
"""Names of the annotation attributes."""

VISIBILITIES = ("v0-40", "v40-60", "v60-80", "v80-100")
"""Levels of visibility; their tokens are "1" to "4"."""

ROAD = "flat.driveable_surface"
OTHER_FLAT = "flat.other"
SIDEWALK = "flat.sidewalk"
TERRAIN = "flat.terrain"
MANMADE = "static.manmade"
VEGETATION = "static.vegetation"

CONFUSED_WITH: dict[str, tuple[str, ...]] = {
    "barrier": ("manmade",),
    "bicycle": ("motorcycle", "pedestrian"),
    "bus": ("truck", "trailer"),
    "car": ("truck",),
    "construction_vehicle": ("truck",),
    "motorcycle": ("bicycle",),
    "pedestrian": ("bicycle", "manmade"),
    "traffic_cone": ("barrier",),
    "trailer": ("truck", "manmade"),
    "truck": ("bus", "construction_vehicle", "trailer", "car"),
    "other_flat": ("sidewalk", "driveable_surface"),
    "sidewalk": ("driveable_surface", "terrain", "other_flat"),
    "terrain": ("vegetation", "sidewalk", "other_flat"),
    "manmade": ("barrier", "vegetation"),
    "vegetation": ("terrain", "manmade"),
}
"""What each class is mistaken for by models that label images without having been trained on these classes. Roads are
recognised reliably, so nothing stands for them."""


def lidarseg_index(category: str) -> int:
    """Index of a lidarseg category, as written in `lidarseg.bin` files."""
    return LIDARSEG_CATEGORIES.index(category)
