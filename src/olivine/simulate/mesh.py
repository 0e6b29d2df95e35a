"""Triangle meshes and the few primitives that every object of the simulated street is built from.

Meshes are in metres, z up, with a texture coordinate per triangle corner, so that a pattern (bricks, lane paint, cone
stripes) follows its object wherever it stands. `objects`, `buildings` and `ground` build with these; `world` places
the results in the street and hands them to the ray caster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from olivine.simulate.materials import Material

Color = tuple[float, float, float]
_UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Mesh:
    """A textured triangle mesh. V vertices, F faces.

    Attributes:
        vertices_m: [V, 3] float64, metres.
        faces: [F, 3] int64 vertex indices.
        uv_m: [F, 3, 2] float32 texture coordinates of each face's corners, metres along the surface.
        color: [F, 3] float32 base colour, linear RGB 0…1.
        material: [F] uint8 `Material`.
    """

    vertices_m: NDArray[np.float64]
    faces: NDArray[np.int64]
    uv_m: NDArray[np.float32]
    color: NDArray[np.float32]
    material: NDArray[np.uint8]

    @staticmethod
    def join(parts: Sequence[Mesh]) -> Mesh:
        """All parts as one mesh, faces in the order of the parts."""
        offsets = np.cumsum([0, *(len(part.vertices_m) for part in parts[:-1])])
        return Mesh(
            np.concatenate([part.vertices_m for part in parts]),
            np.concatenate([part.faces + offset for part, offset in zip(parts, offsets, strict=True)]),
            np.concatenate([part.uv_m for part in parts]),
            np.concatenate([part.color for part in parts]),
            np.concatenate([part.material for part in parts]),
        )

    def moved(self, x_m: float = 0.0, y_m: float = 0.0, z_m: float = 0.0, yaw_rad: float = 0.0) -> Mesh:
        """This mesh turned about z by `yaw_rad`, then shifted."""
        cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
        rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        vertices_m = self.vertices_m @ rotation.T + np.array([x_m, y_m, z_m])
        return Mesh(vertices_m, self.faces, self.uv_m, self.color, self.material)

    def bounds_m(self) -> NDArray[np.float64]:
        """[2, 3] lowest and highest corner, metres."""
        return np.stack([self.vertices_m.min(0), self.vertices_m.max(0)])


def surface(
    vertices_m: ArrayLike, faces: ArrayLike, color: Color, material: Material, uv_m: NDArray[np.floating] | None = None
) -> Mesh:
    """A mesh of one colour and material.

    Args:
        vertices_m: [V, 3].
        faces: [F, 3] vertex indices.
        color: base colour, linear RGB 0…1.
        material: what it is made of.
        uv_m: [F, 3, 2] texture coordinates; by default (horizontal run, height) of each corner, and (x, y) on faces
            that lie flat.
    """
    vertices = np.asarray(vertices_m, np.float64)
    indices = np.asarray(faces, np.int64)
    coordinates = _box_uv(vertices[indices]) if uv_m is None else uv_m
    count = len(indices)
    return Mesh(
        vertices,
        indices,
        coordinates.astype(np.float32),
        np.tile(np.asarray(color, np.float32), (count, 1)),
        np.full(count, material, np.uint8),
    )


def box(center_m: ArrayLike, size_m: ArrayLike, color: Color, material: Material) -> Mesh:
    """An axis-aligned box of size (x, y, z) around its centre."""
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    return surface(corners * np.asarray(size_m) + np.asarray(center_m), _split(quads), color, material)


def prism(profile_xz_m: Sequence[tuple[float, float]], width_m: float, color: Color, material: Material) -> Mesh:
    """A side profile in the (x, z) plane, drawn out along y by `width_m`, centred on y = 0.

    The profile must be star-shaped as seen from the mean of its corners; its end caps are fans from that point.
    """
    profile = np.asarray(profile_xz_m, np.float64)
    count = len(profile)
    ring = np.vstack([profile, profile.mean(0)])
    sides = [np.column_stack([ring[:, 0], np.full(count + 1, y), ring[:, 1]]) for y in (-width_m / 2, width_m / 2)]
    index = np.arange(count)
    following = (index + 1) % count
    quads = np.column_stack([index, following, following + count + 1, index + count + 1])
    caps = [np.column_stack([np.full(count, count + o), index + o, following + o]) for o in (0, count + 1)]
    return surface(np.vstack(sides), np.vstack([_split(quads), *caps]), color, material)


def tube(
    start_m: ArrayLike,
    end_m: ArrayLike,
    radius_m: float | tuple[float, float],
    color: Color,
    material: Material,
    sides: int = 8,
) -> Mesh:
    """A closed cylinder, or a frustum where `radius_m` gives (radius at start, radius at end)."""
    start, end = np.asarray(start_m, np.float64), np.asarray(end_m, np.float64)
    radii = radius_m if isinstance(radius_m, tuple) else (radius_m, radius_m)
    across, other, length = _axes(end - start)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * other
    vertices = np.vstack([start + radii[0] * ring, end + radii[1] * ring, start, end])
    index = np.arange(sides)
    following = (index + 1) % sides
    wall = _split(np.column_stack([index, following, following + sides, index + sides]))
    bottom = np.column_stack([np.full(sides, 2 * sides), following, index])
    top = np.column_stack([np.full(sides, 2 * sides + 1), index + sides, following + sides])
    faces = np.vstack([wall, bottom, top])
    run = np.concatenate([angle, angle, [0, 0]]) * max(radii)
    height = np.concatenate([np.zeros(sides), np.full(sides, length), [0, length]])
    uv = np.stack([run[faces], height[faces]], -1)
    return surface(vertices, faces, color, material, uv)


def ring(center_m: ArrayLike, radius_m: float, thickness_m: float, color: Color, material: Material) -> Mesh:
    """A flat annulus in the (x, z) plane: a bicycle's tyre."""
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    circle = np.column_stack([np.cos(angle), np.zeros(16), np.sin(angle)])
    vertices = np.vstack([circle * (radius_m - thickness_m), circle * radius_m]) + np.asarray(center_m)
    index = np.arange(16)
    following = (index + 1) % 16
    return surface(vertices, _split(np.column_stack([index, following, following + 16, index + 16])), color, material)


def ellipsoid(
    center_m: ArrayLike,
    radii_m: ArrayLike,
    color: Color,
    material: Material,
    *,
    detail: int = 6,
    roughness: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Mesh:
    """An ellipsoid of `detail` bands and 2·`detail` segments.

    Args:
        center_m: [3] centre.
        radii_m: [3] half axes.
        color: base colour.
        material: what it is made of.
        detail: bands from pole to pole.
        roughness: standard deviation of a random radial factor per vertex (foliage, rocks); needs `rng`.
        rng: source of that factor.
    """
    segments = 2 * detail
    polar, around = np.meshgrid(np.linspace(0, np.pi, detail + 1)[1:-1], np.arange(segments) * 2 * np.pi / segments)
    polar, around = polar.T, around.T
    unit = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], -1).reshape(-1, 3)
    unit = np.vstack([unit, _UP, -_UP])
    if rng is not None:
        unit = unit * rng.normal(1.0, roughness, (len(unit), 1))
    index = np.arange(segments)
    following = (index + 1) % segments
    bands = [np.column_stack([index, following, following + segments, index + segments]) + b * segments
             for b in range(detail - 2)]  # fmt: skip
    last = (detail - 2) * segments
    north, south = len(unit) - 2, len(unit) - 1
    caps = [
        np.column_stack([np.full(segments, north), index, following]),
        np.column_stack([np.full(segments, south), following + last, index + last]),
    ]
    faces = np.vstack([_split(np.vstack(bands)), *caps])
    return surface(unit * np.asarray(radii_m) + np.asarray(center_m), faces, color, material)


def leaves(
    center_m: ArrayLike, radii_m: ArrayLike, count: int, size_m: float, color: Color, rng: np.random.Generator
) -> Mesh:
    """Loose triangles scattered near the surface of an ellipsoid, which make foliage ragged to both sensors."""
    direction = rng.normal(size=(count, 1, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    middle = direction * np.asarray(radii_m) * rng.uniform(0.75, 1.12, (count, 1, 1)) + np.asarray(center_m)
    vertices = (middle + rng.normal(0, size_m, (count, 3, 3))).reshape(-1, 3)
    shade = rng.uniform(0.6, 1.4, (count, 1)).astype(np.float32)
    mesh = surface(vertices, np.arange(3 * count).reshape(-1, 3), color, Material.FOLIAGE)
    return Mesh(mesh.vertices_m, mesh.faces, mesh.uv_m, np.clip(mesh.color * shade, 0, 1), mesh.material)


def cross(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Cross products of vectors [..., 3]; numpy's own spends most of its time on axes when there are few vectors."""
    ax, ay, az = a[..., 0], a[..., 1], a[..., 2]
    bx, by, bz = b[..., 0], b[..., 1], b[..., 2]
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], -1)


def _split(quads: ArrayLike) -> NDArray[np.int64]:
    """Two triangles for each quadrilateral [Q, 4]."""
    quad = np.asarray(quads, np.int64)
    return np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]])


def _axes(direction: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Two unit vectors across a direction, and its length."""
    length = float(np.linalg.norm(direction))
    unit = direction / length
    helper = np.array([1.0, 0.0, 0.0]) if abs(unit[2]) > 0.9 else _UP
    across = cross(unit, helper)
    across /= np.linalg.norm(across)
    return across, cross(unit, across), length


def _box_uv(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Default texture coordinates of faces [F, 3, 3]: (run, height), or (x, y) on faces that lie flat."""
    normal = np.abs(cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    main = normal.argmax(1)
    first = np.where(main == 0, 1, 0)
    second = np.where(main == 2, 1, 2)
    rows = np.arange(len(corners))
    return np.stack([corners[rows, :, first], corners[rows, :, second]], -1)
