"""The street at one moment as triangles, and the rays cast into it.

A `World` holds the ground and everything that never moves; `World.at(time)` adds the moving things at their place and
returns a `Snapshot` ready for rays. Within one keyframe the moving things stand still: the ego vehicle moves between
the sensors' timestamps, the others do so from one keyframe to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.errors import MissingExtraError
from olivine.simulate.mesh import Mesh, cross
from olivine.simulate.street import Piece, Street
from olivine.simulate.taxonomy import lidarseg_index
from olivine.simulate.things import Thing

F32 = NDArray[np.float32]
NOTHING = -1


@dataclass(frozen=True)
class Soup:
    """Loose triangles in the global frame, T of them.

    Attributes:
        corners_m: [T, 3, 3] float32 corner positions, metres.
        uv_m: [T, 3, 2] float32 texture coordinates.
        color: [T, 3] float32 base colour.
        material: [T] uint8 `Material`.
        category: [T] uint8 lidarseg index.
        owner: [T] int32 number of the thing or piece of ground it belongs to.
    """

    corners_m: F32
    uv_m: F32
    color: F32
    material: NDArray[np.uint8]
    category: NDArray[np.uint8]
    owner: NDArray[np.int32]

    @staticmethod
    def of(mesh: Mesh, category: str, owner: int) -> Soup:
        """The triangles of one mesh that is already in the global frame."""
        count = len(mesh.faces)
        return Soup(
            mesh.vertices_m[mesh.faces].astype(np.float32),
            mesh.uv_m,
            mesh.color,
            mesh.material,
            np.full(count, lidarseg_index(category), np.uint8),
            np.full(count, owner, np.int32),
        )

    @staticmethod
    def join(parts: Sequence[Soup]) -> Soup:
        """All triangles of the parts, in order."""
        return Soup(*(np.concatenate([getattr(part, name) for part in parts]) for name in Soup.__annotations__))


@dataclass(frozen=True)
class Hits:
    """Where rays end. R rays.

    Attributes:
        distance_m: [R] float32 along the (unit) ray; infinite where nothing is hit.
        triangle: [R] int32 triangle of the snapshot's soup, −1 for nothing.
        barycentric: [R, 2] float32 weights of the triangle's second and third corner.
    """

    distance_m: F32
    triangle: NDArray[np.int32]
    barycentric: F32


class Snapshot:
    """The street at one moment, ready for rays.

    Args:
        soup: its triangles.
        places: pose of every thing that has a place at that moment, by owner number.

    Attributes:
        soup: its triangles.
        normals: [T, 3] float32 unit normals.
        places: as given.
    """

    def __init__(self, soup: Soup, places: dict[int, Place]) -> None:
        try:
            from embreex import rtcore_scene
            from embreex.mesh_construction import TriangleMesh
        except ImportError as error:
            raise MissingExtraError("embreex", "sim") from error
        self.soup, self.places = soup, places
        corners = soup.corners_m
        normal = cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        self.normals = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), np.float32(1e-12))
        self._scene: Any = rtcore_scene.EmbreeScene()
        # The scene does not keep the mesh alive by itself.
        self._mesh: Any = TriangleMesh(self._scene, corners)

    def alone(self, owner: int) -> Snapshot:
        """One thing without the rest of the street."""
        mine = self.soup.owner == owner
        soup = Soup(*(getattr(self.soup, name)[mine] for name in Soup.__annotations__))
        return Snapshot(soup, {owner: self.places[owner]})

    def cast(self, origins_m: F32, directions: F32) -> Hits:
        """Nearest hits of rays from `origins_m` [R, 3] along unit `directions` [R, 3]."""
        result = self._scene.run(
            np.ascontiguousarray(origins_m), np.ascontiguousarray(directions), query="INTERSECT", output=True
        )
        triangle = result["primID"]
        distance_m = np.where(triangle >= 0, result["tfar"], np.float32(np.inf))
        return Hits(distance_m, triangle, np.stack([result["u"], result["v"]], -1))

    def blocked(self, origins_m: F32, direction: F32) -> NDArray[np.bool_]:
        """Whether anything lies along `direction` [3] from each origin [R, 3]."""
        directions = np.broadcast_to(direction.astype(np.float32), origins_m.shape)
        nearest = self._scene.run(np.ascontiguousarray(origins_m), np.ascontiguousarray(directions), query="OCCLUDED")
        return np.asarray(nearest != NOTHING)

    def uv_at(self, triangle: NDArray[np.int32], barycentric: F32) -> F32:
        """Texture coordinates [R, 2] at hits."""
        corners = self.soup.uv_m[triangle]
        second, third = barycentric[:, :1], barycentric[:, 1:]
        return np.asarray(corners[:, 0] * (1 - second - third) + corners[:, 1] * second + corners[:, 2] * third)


@dataclass(frozen=True)
class Place:
    """Pose of a thing in the global frame: x, y, z in metres, yaw in radians."""

    x_m: float
    y_m: float
    z_m: float
    yaw_rad: float


class World:
    """A street and everything in it, over time.

    Args:
        street: the street.
        ground: its ground.
        things: what stands and moves in it.

    Attributes:
        street: as given.
        things: as given; the owner number of thing i is i, those of the ground follow.
    """

    def __init__(self, street: Street, ground: Sequence[Piece], things: Sequence[Thing]) -> None:
        self.street, self.things = street, tuple(things)
        first = len(self.things)
        still = [self._place(owner, 0.0) for owner, thing in enumerate(things) if not thing.moves]
        pieces = [Soup.of(piece.mesh, piece.category, first + index) for index, piece in enumerate(ground)]
        self._still = Soup.join([*pieces, *(self._soup(owner, place) for owner, place in still)])
        self._still_places = dict(still)

    def at(self, time_s: float) -> Snapshot:
        """The street `time_s` seconds after the scene's start."""
        moving = [self._place(owner, time_s) for owner, thing in enumerate(self.things) if thing.moves]
        inside = [(owner, place) for owner, place in moving if self._inside(owner, time_s)]
        soup = Soup.join([self._still, *(self._soup(owner, place) for owner, place in inside)])
        return Snapshot(soup, {**self._still_places, **dict(inside)})

    def _inside(self, owner: int, time_s: float) -> bool:
        thing = self.things[owner]
        return self.street.start_m <= thing.s_m + thing.along_mps * time_s <= self.street.end_m

    def _place(self, owner: int, time_s: float) -> tuple[int, Place]:
        thing = self.things[owner]
        x, y, heading = self.street.locate(thing.s_m + thing.along_mps * time_s, thing.d_m + thing.across_mps * time_s)
        return owner, Place(float(x), float(y), thing.z_m, float(heading) + thing.yaw_rad)

    def _soup(self, owner: int, place: Place) -> Soup:
        thing = self.things[owner]
        mesh = thing.mesh.moved(place.x_m, place.y_m, place.z_m, place.yaw_rad)
        return Soup.of(mesh, thing.category, owner)
