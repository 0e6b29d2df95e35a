"""Annotated boxes: the instances of a scene and where each of them is in every keyframe."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from olivine.data.nuscenes_writer import token
from olivine.geometry import quaternion_from_rotation, rotation_from_quaternion
from olivine.simulate.results import Row
from olivine.simulate.sensors import Sweep
from olivine.simulate.taxonomy import VISIBILITIES
from olivine.simulate.things import Thing
from olivine.simulate.world import Place, Snapshot

_PROBES = 48
_VISIBLE_FROM = (0.4, 0.6, 0.8)


class Annotator:
    """Collects the annotations of one scene.

    Args:
        scene_token: token of the scene.
        things: everything in it; the number of a thing is its place here.
    """

    def __init__(self, scene_token: str, things: tuple[Thing, ...]) -> None:
        self._scene_token, self._things = scene_token, things
        self._rows: dict[int, list[Row]] = {}

    def add(self, sample_token: str, snapshot: Snapshot, sweep: Sweep, eye_m: NDArray[np.float64]) -> None:
        """Annotate every movable thing that the sweep has a return from.

        Args:
            sample_token: the keyframe.
            snapshot: the street at that moment.
            sweep: its LiDAR sweep.
            eye_m: [3] position of the LiDAR in the global frame.
        """
        owners, returns = np.unique(sweep.owner, return_counts=True)
        for owner, count in zip(owners.tolist(), returns.tolist(), strict=True):
            if owner < len(self._things) and not self._things[owner].category.startswith("static."):
                visibility = _visibility(snapshot, owner, eye_m)
                self._append(owner, sample_token, snapshot.places[owner], count, visibility)

    def tables(self) -> tuple[list[Row], list[Row]]:
        """Rows of `instance` and of `sample_annotation`."""
        instances, annotations = [], []
        for owner, rows in self._rows.items():
            for before, after in pairwise(rows):
                before["next"], after["prev"] = after["token"], before["token"]
            annotations += rows
            instances.append(
                {
                    "token": token(self._scene_token, "instance", owner),
                    "category_token": token("category", self._things[owner].category),
                    "nbr_annotations": len(rows),
                    "first_annotation_token": rows[0]["token"],
                    "last_annotation_token": rows[-1]["token"],
                }
            )
        return instances, annotations

    def _append(self, owner: int, sample_token: str, place: Place, returns: int, visibility: int) -> None:
        thing = self._things[owner]
        rotation = rotation_from_quaternion((np.cos(place.yaw_rad / 2), 0, 0, np.sin(place.yaw_rad / 2)))
        low, high = thing.mesh.bounds_m()
        center_m = rotation @ ((low + high) / 2) + np.array([place.x_m, place.y_m, place.z_m])
        length, width, height = (high - low).tolist()
        self._rows.setdefault(owner, []).append(
            {
                "token": token(sample_token, "annotation", owner),
                "sample_token": sample_token,
                "instance_token": token(self._scene_token, "instance", owner),
                "visibility_token": str(visibility),
                "attribute_tokens": [token("attribute", thing.attribute)] if thing.attribute else [],
                "translation": center_m.tolist(),
                "size": [width, length, height],
                "rotation": quaternion_from_rotation(rotation).tolist(),
                "prev": "",
                "next": "",
                "num_lidar_pts": returns,
                "num_radar_pts": 0,
            }
        )


def _visibility(snapshot: Snapshot, owner: int, eye_m: NDArray[np.float64]) -> int:
    """Token 1 to 4 of the share of a thing's near side that the LiDAR's position sees past other things."""
    soup = snapshot.soup
    mine = np.flatnonzero(soup.owner == owner)
    middle = soup.corners_m[mine].mean(1) - eye_m.astype(np.float32)
    facing = np.flatnonzero((snapshot.normals[mine] * middle).sum(1) < 0)
    chosen = middle[facing if len(facing) else slice(None)]
    chosen = chosen[:: max(1, len(chosen) // _PROBES)]
    directions = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
    hits = snapshot.cast(np.broadcast_to(eye_m.astype(np.float32), directions.shape), directions)
    seen = float((soup.owner[hits.triangle] == owner).mean())
    return min(1 + int(np.searchsorted(_VISIBLE_FROM, seen, side="right")), len(VISIBILITIES))
