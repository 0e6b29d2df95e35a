"""Shapes that stand along a street: cones, barriers, poles, signs, trees, hedges, fences and buildings.

Meshes are in their own frame: z up, origin on the ground; long things run along x, buildings face −y with their
front on y = 0.
"""

from __future__ import annotations

import numpy as np

from olivine.simulate.materials import Material
from olivine.simulate.mesh import Color, Mesh, box, ellipsoid, leaves, prism, tube
from olivine.simulate.vehicles import pick

_LEAVES: tuple[Color, ...] = (
    (0.07, 0.16, 0.04), (0.12, 0.22, 0.05), (0.05, 0.12, 0.05), (0.2, 0.2, 0.05), (0.25, 0.14, 0.04),
)  # fmt: skip
_WALLS: tuple[Color, ...] = (
    (0.55, 0.5, 0.42), (0.35, 0.13, 0.08), (0.6, 0.58, 0.55), (0.5, 0.36, 0.2), (0.3, 0.32, 0.34), (0.62, 0.52, 0.3),
    (0.28, 0.16, 0.12), (0.4, 0.45, 0.5),
)  # fmt: skip
_ROOFS: tuple[Color, ...] = ((0.3, 0.1, 0.06), (0.12, 0.12, 0.13), (0.22, 0.18, 0.15))
_CONES: tuple[Color, ...] = ((0.75, 0.18, 0.02), (0.7, 0.08, 0.02), (0.6, 0.5, 0.02))
_BARRIERS: tuple[Color, ...] = ((0.6, 0.05, 0.03), (0.7, 0.3, 0.02), (0.5, 0.5, 0.48), (0.45, 0.43, 0.4))
_SIGNS: tuple[Color, ...] = ((0.6, 0.05, 0.05), (0.05, 0.15, 0.5), (0.65, 0.55, 0.05), (0.05, 0.35, 0.15))
_STEEL: Color = (0.28, 0.29, 0.3)
_BARK: Color = (0.14, 0.1, 0.07)


def traffic_cone(rng: np.random.Generator) -> Mesh:
    """A striped cone on its base, or a slim delineator post."""
    color, height = pick(_CONES, rng), rng.uniform(0.5, 1.0)
    foot = rng.uniform(0.3, 0.45)
    radii = (foot * 0.38, 0.04) if rng.random() < 0.8 else (0.06, 0.05)
    return Mesh.join(
        [
            box((0, 0, 0.03), (foot, foot, 0.06), (0.06, 0.05, 0.05), Material.RUBBER),
            tube((0, 0, 0.05), (0, 0, height), radii, color, Material.STRIPES, 10),
        ]
    )


def barrier(rng: np.random.Generator) -> Mesh:
    """One element of a barrier: concrete or plastic jersey wall, or planks on legs."""
    color, length, height = pick(_BARRIERS, rng), rng.uniform(1.6, 2.4), rng.uniform(0.75, 1.1)
    kind = rng.integers(3)
    if kind < 2:
        material = Material.CONCRETE if kind == 0 else Material.STRIPES
        half = rng.uniform(0.2, 0.3)
        profile = [(-half, 0.0), (-half, 0.15), (-0.09, 0.4), (-0.08, height), (0.08, height), (0.09, 0.4),
                   (half, 0.15), (half, 0.0)]  # fmt: skip
        return prism(profile, length, color, material).moved(yaw_rad=np.pi / 2)
    return Mesh.join(
        [
            box((0, 0, height - 0.12), (length, 0.05, 0.24), color, Material.STRIPES),
            box((0, 0, height * 0.5), (length, 0.05, 0.2), color, Material.STRIPES),
            *(box((x, 0, height / 2), (0.06, 0.08, height), _STEEL, Material.METAL) for x in (-length / 3, length / 3)),
            *(box((x, 0, 0.04), (0.1, 0.55, 0.08), _STEEL, Material.RUBBER) for x in (-length / 3, length / 3)),
        ]
    )


def tree(rng: np.random.Generator) -> Mesh:
    """A broad-leaved tree or a conifer."""
    trunk, color = rng.uniform(1.5, 2.8), pick(_LEAVES, rng, 0.2)
    crown, spread = rng.uniform(1.5, 3.2), rng.uniform(1.2, 2.6)
    stem = tube((0, 0, -0.1), (0, 0, trunk + crown * 0.5), (rng.uniform(0.12, 0.28), 0.08), _BARK, Material.BARK)
    if rng.random() < 0.25:
        tiers = [
            tube((0, 0, trunk * 0.5 + 1.1 * i), (0, 0, trunk * 0.5 + 1.1 * i + 1.8), (spread * (1 - 0.22 * i), 0.05),
                 color, Material.FOLIAGE, 9)
            for i in range(4)
        ]  # fmt: skip
        fringe = leaves((0, 0, trunk * 0.5 + 1.8), (spread, spread, 1.5), 120, 0.16, color, rng)
        return Mesh.join([stem, *tiers, fringe])
    parts = [stem]
    for _ in range(rng.integers(2, 4)):
        center = (*rng.normal(0, 0.4 * spread, 2), trunk + crown + rng.normal(0, 0.3))
        radii = np.array([spread, spread, crown]) * rng.uniform(0.6, 0.95)
        parts.append(ellipsoid(center, radii * 0.9, color, Material.FOLIAGE, roughness=0.1, rng=rng))
        parts.append(leaves(center, radii, 90, 0.2, color, rng))
    return Mesh.join(parts)


def bush(rng: np.random.Generator) -> Mesh:
    """A low shrub."""
    color, size = pick(_LEAVES, rng, 0.25), rng.uniform(0.35, 0.9)
    radii = np.array([1.0, rng.uniform(0.7, 1.2), rng.uniform(0.6, 1.1)]) * size
    body = ellipsoid((0, 0, radii[2] * 0.8), radii * 0.9, color, Material.FOLIAGE, roughness=0.12, rng=rng)
    return Mesh.join([body, leaves((0, 0, radii[2] * 0.8), radii, 60, 0.1, color, rng)])


def hedge(rng: np.random.Generator) -> Mesh:
    """A clipped hedge, 3 to 6 m along x."""
    color, length, height = pick(_LEAVES, rng, 0.2), rng.uniform(3, 6), rng.uniform(0.8, 1.7)
    core = box((0, 0, height / 2), (length, 0.6, height), color, Material.FOLIAGE)
    return Mesh.join([core, leaves((0, 0, height * 0.55), (length * 0.52, 0.38, height * 0.6), 150, 0.12, color, rng)])


def lamp_post(rng: np.random.Generator) -> Mesh:
    """A street lamp whose arm reaches along +y."""
    height, reach = rng.uniform(5.5, 8.0), rng.uniform(0.8, 1.8)
    return Mesh.join(
        [
            tube((0, 0, 0), (0, 0, height), (0.1, 0.06), _STEEL, Material.METAL),
            tube((0, 0, height), (0, reach, height + 0.2), 0.05, _STEEL, Material.METAL, 6),
            box((0, reach, height + 0.15), (0.25, 0.6, 0.14), (0.6, 0.6, 0.6), Material.PLASTIC),
        ]
    )


def traffic_sign(rng: np.random.Generator) -> Mesh:
    """A sign, or a traffic light, on a post; it faces −x."""
    height = rng.uniform(2.2, 2.9)
    post = tube((0, 0, 0), (0, 0, height), 0.035, _STEEL, Material.METAL, 6)
    if rng.random() < 0.3:
        return Mesh.join([post, box((-0.05, 0, height), (0.22, 0.3, 0.85), (0.04, 0.05, 0.04), Material.PLASTIC)])
    if rng.random() < 0.5:
        face = tube(
            (-0.06, 0, height), (-0.03, 0, height), rng.uniform(0.28, 0.4), pick(_SIGNS, rng), Material.SIGN, 12
        )
    else:
        face = box((-0.05, 0, height), (0.03, rng.uniform(0.5, 1.1), rng.uniform(0.4, 0.8)), pick(_SIGNS, rng),
                   Material.SIGN)  # fmt: skip
    return Mesh.join([post, face])


def bollards(rng: np.random.Generator) -> Mesh:
    """Three posts in a row along x."""
    height, color = rng.uniform(0.6, 1.0), pick(((0.1, 0.1, 0.1), (0.4, 0.4, 0.4), (0.3, 0.08, 0.05)), rng)
    return Mesh.join([tube((x, 0, 0), (x, 0, height), 0.07, color, Material.METAL) for x in (-1.4, 0.0, 1.4)])


def shelter(rng: np.random.Generator) -> Mesh:
    """A bus shelter open towards −y."""
    length = rng.uniform(3.0, 4.5)
    return Mesh.join(
        [
            box((0, 0, 2.45), (length, 1.6, 0.12), _STEEL, Material.METAL),
            box((0, 0.7, 1.3), (length, 0.05, 2.0), (0.15, 0.2, 0.22), Material.GLASS),
            *(box((x, 0.6, 1.2), (0.1, 0.1, 2.4), _STEEL, Material.METAL) for x in (-length / 2, 0, length / 2)),
            box((0, 0.45, 0.45), (length * 0.7, 0.4, 0.06), (0.3, 0.2, 0.1), Material.PLASTIC),
            box((length / 2, 0, 1.2), (0.12, 1.2, 1.7), pick(_SIGNS, rng), Material.SIGN),
        ]
    )


def fence(rng: np.random.Generator, length_m: float) -> Mesh:
    """A garden wall, or a fence of posts and rails, `length_m` along x."""
    height = rng.uniform(0.7, 1.9)
    if rng.random() < 0.5:
        material = Material.BRICK if rng.random() < 0.6 else Material.CONCRETE
        return box((0, 0, height / 2), (length_m, 0.25, height), pick(_WALLS, rng), material)
    posts = np.arange(-length_m / 2, length_m / 2 + 0.1, 1.8)
    color = pick(((0.3, 0.2, 0.1), (0.15, 0.16, 0.15), (0.5, 0.5, 0.48)), rng)
    rails = np.linspace(0.25, height, 5)
    return Mesh.join(
        [
            *(box((x, 0, height / 2), (0.09, 0.09, height), color, Material.PLASTIC) for x in posts),
            *(box((0, 0, z), (length_m, 0.04, 0.11), color, Material.PLASTIC) for z in rails),
        ]
    )


def building(rng: np.random.Generator, width_m: float) -> Mesh:
    """A house, block of flats, office or hall, `width_m` along x and 9 to 16 m deep, front on y = 0."""
    depth, color = rng.uniform(9, 16), pick(_WALLS, rng)
    kind = rng.choice(4, p=[0.35, 0.35, 0.2, 0.1])
    floors = int(rng.integers(1, 3) if kind in (0, 3) else rng.integers(3, 8))
    height = 3.0 * floors + rng.uniform(0.3, 1.2)
    skin = (Material.FACADE, Material.FACADE, Material.CURTAIN_WALL, Material.CARGO)[kind]
    tint = (0.35, 0.45, 0.5) if skin is Material.CURTAIN_WALL else color
    parts = [
        box((0, depth / 2, height / 2), (width_m, depth, height), tint, skin),
        box((0, depth / 2, height + 0.1), (width_m + 0.3, depth + 0.3, 0.2), (0.3, 0.3, 0.3), Material.CONCRETE),
        box((rng.uniform(-0.3, 0.3) * width_m, -0.03, 1.1), (1.3, 0.15, 2.2), pick(_SIGNS, rng, 0.5), Material.PAINT),
        box((0, 0.0, 0.25), (width_m + 0.06, 0.12, 0.5), (0.3, 0.29, 0.28), Material.CONCRETE),
    ]
    if kind == 0:
        ridge = height + rng.uniform(1.5, 3.0)
        roof = [(-0.4, height), (depth / 2, ridge), (depth + 0.4, height)]
        parts.append(prism(roof, width_m + 0.5, pick(_ROOFS, rng), Material.CARGO).moved(yaw_rad=np.pi / 2))
    elif kind == 1:
        parts.extend(_balconies(rng, width_m, floors))
    if rng.random() < 0.4:
        awning = [(-1.4, 2.5), (0.0, 3.0), (0.0, 2.9)]
        shade = prism(awning, width_m * 0.6, pick(_SIGNS, rng), Material.CLOTH).moved(yaw_rad=np.pi / 2)
        parts.append(shade)
    return Mesh.join(parts)


def _balconies(rng: np.random.Generator, width_m: float, floors: int) -> list[Mesh]:
    columns = np.arange(-width_m / 2 + 2.0, width_m / 2 - 1.5, 5.2)
    return [
        box((x, -0.5, 3.0 * floor + 0.4), (2.2, 1.0, 0.9), (0.4, 0.4, 0.4), Material.CONCRETE)
        for floor in range(1, floors)
        for x in columns
        if rng.random() < 0.7
    ]
