"""Object labels of a frame, as KITTI's annotators would write them.

Beside the boxes in space and in the image they say how much of an object is cut off by the image's border, and how much
is hidden behind other things. Truncation is the share of the projected box that lies outside of the image: KITTI's own
labels agree with that to a hundredth. What is hidden is counted in pixels of the rendered image, against those that the
object would have alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olivine.data.kitti_boxes import object_corners
from olivine.data.kitti_labels import (
    DONT_CARE,
    UNSET_ALPHA_RAD,
    UNSET_LOCATION_M,
    UNSET_SIZE_M,
    ObjectLabels,
)
from olivine.geometry import invert
from olivine.geometry.edges import visible_edges
from olivine.simulate.config import KittiObjectLayout
from olivine.simulate.kitti_object.rig import Rig
from olivine.simulate.sensors import View, camera_directions
from olivine.simulate.things import Thing
from olivine.simulate.world import NOTHING, Place, Snapshot

Float = NDArray[np.float64]

OCCLUSION_FROM = (0.1, 0.5, 0.8)
"""Hidden shares from which an object is partly occluded (1), largely occluded (2), and past saying (3)."""
_LABELLED_SHARE = 0.05
"""An object of which less is seen, of what it has in the image, is not labelled."""
_VAN_FROM_M, _TRUCK_FROM_M = 1.9, 2.2


@dataclass(frozen=True)
class _Seen:
    """An object in a frame: its label's numbers, and whether it is clear enough to have a label."""

    name: str
    truncation: float
    occlusion: int
    box: CameraBox
    image_box: Float
    clear: bool


@dataclass(frozen=True)
class CameraBox:
    """An upright box in the rectified frame.

    Attributes:
        location_m: [3] middle of its bottom.
        size_hwl_m: [3] height, width, length.
        rotation_y_rad: turn about the camera's y axis; 0 is a heading along x.
    """

    location_m: Float
    size_hwl_m: Float
    rotation_y_rad: float

    @property
    def alpha_rad(self) -> float:
        """Heading against the line of sight, in −π…π."""
        return _wrapped(self.rotation_y_rad - np.arctan2(self.location_m[0], self.location_m[2]))

    def edges_m(self) -> Float:
        """[E, 2, 3] both ends of its edges, as far as they lie before the camera."""
        corners_m = object_corners(self.location_m[None], self.size_hwl_m[None], np.array([self.rotation_y_rad]))
        edges_m = visible_edges(corners_m)[0]
        return np.asarray(edges_m[np.isfinite(edges_m).all((1, 2))])


def object_type(thing: Thing) -> str | None:
    """KITTI's type of a thing, None for what KITTI does not label: parked two-wheelers, cones, all that is fixed.

    Vans are told from cars, and light trucks from heavy ones, by their height.
    """
    if thing.category in ("vehicle.car", "vehicle.truck"):
        height_m = float(np.ptp(thing.mesh.vertices_m[:, 2]))
        if thing.category == "vehicle.car":
            return "Car" if height_m < _VAN_FROM_M else "Van"
        return "Van" if height_m < _TRUCK_FROM_M else "Truck"
    if thing.category == "vehicle.bicycle":
        return "Cyclist" if thing.attribute == "cycle.with_rider" else None
    if thing.category == "vehicle.motorcycle":
        return "Misc" if thing.attribute == "cycle.with_rider" else None
    if thing.category.startswith("human.pedestrian."):
        return "Pedestrian"
    return "Misc" if thing.category.startswith("vehicle.") else None


def label_objects(
    snapshot: Snapshot,
    things: tuple[Thing, ...],
    view: View,
    rig: Rig,
    global_from_lidar: Float,
    config: KittiObjectLayout,
) -> ObjectLabels:
    """Labels of everything that the image shows something of.

    Args:
        snapshot: the street at that moment.
        things: everything in the scene.
        view: what the colour camera shows of it.
        rig: the camera.
        global_from_lidar: [4, 4] pose of the LiDAR.
        config: what is too far or too small to be labelled.

    Returns:
        The objects, and after them a DontCare area for each that is too far, small or hidden.
    """
    rays = _Rays(rig, global_from_lidar)
    rect_from_global = rig.rect_from_lidar @ invert(global_from_lidar)
    found = []
    for owner in np.unique(view.owner).tolist():
        name = object_type(things[owner]) if 0 <= owner < len(things) else None
        if name is not None:
            box = camera_box(things[owner], snapshot.places[owner], rect_from_global)
            found.append(_look_at(name, box, snapshot.alone(owner), view.owner == owner, rays, config))
    return _as_labels([seen for seen in found if seen is not None])


def camera_box(thing: Thing, place: Place, rect_from_global: Float) -> CameraBox:
    """The box around a thing, upright in the rectified frame.

    Args:
        thing: the thing.
        place: where it is.
        rect_from_global: [4, 4] into the rectified frame.
    """
    low, high = thing.mesh.bounds_m()
    cos, sin = np.cos(place.yaw_rad), np.sin(place.yaw_rad)
    x, y = (low + high)[:2] / 2
    bottom = np.array([place.x_m + cos * x - sin * y, place.y_m + sin * x + cos * y, place.z_m + low[2], 1.0])
    heading = rect_from_global[:3, :3] @ (cos, sin, 0.0)
    length, width, height = high - low
    return CameraBox(
        (rect_from_global @ bottom)[:3],
        np.array([height, width, length]),
        float(np.arctan2(-heading[2], heading[0])),
    )


def image_box(box: CameraBox, projection: Float) -> Float | None:
    """What a box covers in an image without borders: [4] left, top, right, bottom, pixels.

    The part of it that lies behind the camera is cut away; None where nothing is left.

    Args:
        box: the box.
        projection: [3, 4] from the rectified frame to the image.
    """
    ahead = box.edges_m().reshape(-1, 3) @ projection[:, :3].T + projection[:, 3]
    if not len(ahead):
        return None
    uv = ahead[:, :2] / ahead[:, 2:]
    return np.concatenate([uv.min(0), uv.max(0)])


class _Rays:
    """The rays through the pixels of the colour image."""

    def __init__(self, rig: Rig, global_from_lidar: Float) -> None:
        self.rig = rig
        self._pose = global_from_lidar @ rig.lidar_from_camera

    def silhouette(self, alone: Snapshot, box: Float) -> NDArray[np.bool_]:
        """[h, w] which pixels of a window of the image a thing would cover if nothing stood before it.

        Args:
            alone: the thing.
            box: [4] the window: first column and row, and those after the last.
        """
        left, top, right, bottom = box.astype(np.int64).tolist()
        shifted = self.rig.intrinsics.copy()
        shifted[:2, 2] -= (left, top)
        directions = camera_directions(shifted, (right - left, bottom - top)) @ self._pose[:3, :3].T.astype(np.float32)
        origins = np.broadcast_to(self._pose[:3, 3].astype(np.float32), directions.shape)
        hit = alone.cast(origins, directions).triangle != NOTHING
        return np.asarray(hit.reshape(bottom - top, right - left))


def _look_at(
    name: str, box: CameraBox, alone: Snapshot, shown: NDArray[np.bool_], rays: _Rays, config: KittiObjectLayout
) -> _Seen | None:
    """An object as the image shows it; None where its box has nothing in the image.

    Args:
        name: its type.
        box: its box.
        alone: the object without the rest of the street.
        shown: [H, W] its pixels.
        rays: of the camera.
        config: what is too far or too small.
    """
    width, height = rays.rig.size
    full = image_box(box, rays.rig.projection)
    if full is None:
        return None
    clipped = np.clip(full, 0, np.array([width - 1, height - 1, width - 1, height - 1]))
    if (clipped[2:] <= clipped[:2]).any():
        return None
    truncation = 1 - float(np.prod(clipped[2:] - clipped[:2]) / np.prod(full[2:] - full[:2]))
    # A pixel beyond the box on every side: the box is upright to the camera, the thing upright on the ground.
    window = np.concatenate([np.maximum(np.floor(clipped[:2]) - 1, 0), np.ceil(clipped[2:]) + 2])
    window[2:] = np.minimum(window[2:], (width, height))
    silhouette = rays.silhouette(alone, window)
    left, top, right, bottom = window.astype(np.int64).tolist()
    visible = int(shown[top:bottom, left:right].sum())
    hidden = 1 - visible / max(int(silhouette.sum()), visible, 1)
    clear = (
        box.location_m[2] <= config.label_m
        and clipped[3] - clipped[1] >= config.label_px
        and hidden <= 1 - _LABELLED_SHARE
    )
    return _Seen(name, truncation, int(np.searchsorted(OCCLUSION_FROM, hidden, side="right")), box, clipped, clear)


def _as_labels(found: list[_Seen]) -> ObjectLabels:
    """The labelled ones first, then the areas of the others."""
    found = sorted(found, key=lambda seen: not seen.clear)
    unset = np.full(3, UNSET_SIZE_M), np.full(3, UNSET_LOCATION_M)
    return ObjectLabels(
        names=tuple(seen.name if seen.clear else DONT_CARE for seen in found),
        truncation=np.array([seen.truncation if seen.clear else -1.0 for seen in found]),
        occlusion=np.array([seen.occlusion if seen.clear else -1 for seen in found], np.int64),
        alpha_rad=np.array([seen.box.alpha_rad if seen.clear else UNSET_ALPHA_RAD for seen in found]),
        image_box=np.array([seen.image_box for seen in found]).reshape(-1, 4),
        size_hwl_m=np.array([seen.box.size_hwl_m if seen.clear else unset[0] for seen in found]).reshape(-1, 3),
        location_m=np.array([seen.box.location_m if seen.clear else unset[1] for seen in found]).reshape(-1, 3),
        rotation_y_rad=np.array([seen.box.rotation_y_rad if seen.clear else UNSET_ALPHA_RAD for seen in found]),
    )


def _wrapped(angle_rad: float) -> float:
    """The same angle in −π…π."""
    return float(np.arctan2(np.sin(angle_rad), np.cos(angle_rad)))
