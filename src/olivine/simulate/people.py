"""Shapes of people, bicycles and motorcycles, in their own frame (x forward, y left, z up, origin on the ground)."""

from __future__ import annotations

import numpy as np

from olivine.simulate.materials import Material
from olivine.simulate.mesh import Color, Mesh, box, ellipsoid, ring, tube
from olivine.simulate.vehicles import pick

_CLOTHES: tuple[Color, ...] = (
    (0.05, 0.06, 0.1), (0.3, 0.05, 0.05), (0.45, 0.42, 0.38), (0.08, 0.16, 0.35), (0.1, 0.2, 0.1), (0.5, 0.35, 0.1),
    (0.6, 0.6, 0.58), (0.25, 0.15, 0.3), (0.5, 0.2, 0.25),
)  # fmt: skip
_HIGH_VISIBILITY: tuple[Color, ...] = ((0.75, 0.3, 0.03), (0.65, 0.7, 0.05))
_SKIN: tuple[Color, ...] = ((0.55, 0.35, 0.25), (0.3, 0.17, 0.1), (0.65, 0.45, 0.35), (0.18, 0.1, 0.07))
_HAIR: tuple[Color, ...] = ((0.04, 0.03, 0.02), (0.2, 0.12, 0.05), (0.45, 0.35, 0.2), (0.4, 0.4, 0.4))
_FRAMES: tuple[Color, ...] = (
    (0.05, 0.05, 0.06), (0.45, 0.05, 0.05), (0.06, 0.15, 0.45), (0.5, 0.5, 0.5), (0.08, 0.35, 0.2), (0.6, 0.4, 0.05),
)  # fmt: skip
_BLACK: Color = (0.03, 0.03, 0.03)
_STEEL: Color = (0.35, 0.35, 0.36)


def adult(rng: np.random.Generator, *, walking: bool = True) -> Mesh:
    """A grown person; `walking` opens the stride and swings the arms."""
    coat, trousers = pick(_CLOTHES, rng), pick(_CLOTHES, rng)
    return _person(rng, rng.uniform(1.55, 1.92), coat, trousers, rng.uniform(0.15, 0.4) if walking else 0.04)


def child(rng: np.random.Generator, *, walking: bool = True) -> Mesh:
    """A child."""
    coat, trousers = pick(_CLOTHES, rng, 0.3), pick(_CLOTHES, rng)
    return _person(rng, rng.uniform(1.0, 1.4), coat, trousers, rng.uniform(0.1, 0.3) if walking else 0.03)


def worker(rng: np.random.Generator) -> Mesh:
    """A construction worker in a high-visibility vest and a helmet."""
    mesh = _person(rng, rng.uniform(1.65, 1.85), pick(_HIGH_VISIBILITY, rng), pick(_CLOTHES, rng), 0.1)
    top = mesh.bounds_m()[1, 2]
    return Mesh.join([mesh, ellipsoid((0, 0, top - 0.04), (0.14, 0.13, 0.08), (0.75, 0.6, 0.05), Material.PLASTIC)])


def bicycle(rng: np.random.Generator, *, ridden: bool = False) -> Mesh:
    """A bicycle, with its rider where `ridden`."""
    paint, radius, base = pick(_FRAMES, rng), rng.uniform(0.31, 0.36), rng.uniform(0.5, 0.56)
    saddle, crank, head = (-0.2, 0.0, rng.uniform(0.88, 1.0)), (-0.05, 0.0, 0.3), (base - 0.2, 0.0, 0.85)
    lines = [
        (saddle, crank), (crank, head), (head, (-0.17, 0, 0.75)), (crank, (-base, 0, radius)),
        ((-base, 0, radius), (-0.17, 0, 0.75)), ((base, 0, radius), (base - 0.24, 0, 1.0)),
    ]  # fmt: skip
    parts = [
        *(ring((x, 0, radius), radius, 0.05, _BLACK, Material.RUBBER) for x in (-base, base)),
        *(tube((x, -0.02, radius), (x, 0.02, radius), 0.06, _STEEL, Material.METAL, 6) for x in (-base, base)),
        *(tube(start, end, 0.025, paint, Material.PAINT, 5) for start, end in lines),
        box(saddle, (0.26, 0.16, 0.06), _BLACK, Material.PLASTIC),
        tube((base - 0.2, -0.28, 1.02), (base - 0.2, 0.28, 1.02), 0.02, _BLACK, Material.METAL, 5),
        *(_spokes(x, radius) for x in (-base, base)),
    ]
    if rng.random() < 0.35:
        parts.append(box((base - 0.05, 0, 0.85), (0.3, 0.35, 0.25), (0.2, 0.14, 0.08), Material.PLASTIC))
    if ridden:
        parts.append(_rider(rng, saddle[2], base - 0.2))
    return Mesh.join(parts)


def motorcycle(rng: np.random.Generator, *, ridden: bool = False) -> Mesh:
    """A motorcycle or scooter, with its rider where `ridden`."""
    paint, radius, base = pick(_FRAMES, rng, 0.2), rng.uniform(0.27, 0.33), rng.uniform(0.62, 0.75)
    wheels = [tube((x, -0.07, radius), (x, 0.07, radius), radius, _BLACK, Material.RUBBER, 12) for x in (-base, base)]
    hubs = [
        tube((x, -0.08, radius), (x, 0.08, radius), radius * 0.55, _STEEL, Material.METAL, 8) for x in (-base, base)
    ]
    parts = [
        *wheels,
        *hubs,
        box((0.0, 0, 0.48), (0.6, 0.3, 0.38), (0.12, 0.12, 0.13), Material.METAL),
        ellipsoid((0.22, 0, 0.82), (0.32, 0.17, 0.15), paint, Material.PAINT),
        box((-0.35, 0, 0.8), (0.75, 0.28, 0.1), _BLACK, Material.CLOTH),
        box((-0.62, 0, 0.68), (0.35, 0.2, 0.14), paint, Material.PAINT),
        tube((base, 0, radius), (base - 0.3, 0, 1.08), 0.06, _STEEL, Material.METAL, 6),
        tube((base - 0.3, -0.36, 1.1), (base - 0.3, 0.36, 1.1), 0.025, _BLACK, Material.METAL, 5),
        box((base - 0.1, 0, radius + 0.36), (0.35, 0.18, 0.06), paint, Material.PAINT),
        ellipsoid((base - 0.18, 0, 0.95), (0.08, 0.12, 0.12), (0.8, 0.8, 0.75), Material.GLASS),
        tube((-0.1, -0.2, 0.3), (-base - 0.1, -0.2, 0.42), 0.05, _STEEL, Material.METAL, 6),
    ]
    if rng.random() < 0.35:
        parts.append(box((-base + 0.02, 0, 1.0), (0.36, 0.36, 0.32), _BLACK, Material.PLASTIC))
    if ridden:
        parts.append(_rider(rng, 0.85, base - 0.3))
    return Mesh.join(parts)


def _person(rng: np.random.Generator, height_m: float, coat: Color, trousers: Color, stride_m: float) -> Mesh:
    """Legs, torso, arms and head, in the proportions of a standing person of `height_m`."""
    scale, stout = height_m / 1.75, rng.uniform(0.85, 1.25)
    hip, shoulder, side = 0.86 * scale, 1.42 * scale, 0.1 * scale * stout
    skin = pick(_SKIN, rng)
    parts = [
        ellipsoid((0, 0, 1.62 * scale), (0.1, 0.085, 0.13), skin, Material.SKIN, detail=5),
        ellipsoid((-0.02, 0, 1.68 * scale), (0.11, 0.1, 0.1), pick(_HAIR, rng), Material.CLOTH, detail=5),
        ellipsoid((0, 0, (hip + shoulder) / 2), (0.15 * stout, 0.21 * stout, 0.36 * scale), coat, Material.CLOTH),
    ]
    for foot, y in ((stride_m, side), (-stride_m, -side)):
        parts.append(tube((0, y, hip), (foot, y, 0.06), (0.1 * stout, 0.06), trousers, Material.CLOTH, 6))
        parts.append(box((foot + 0.05, y, 0.04), (0.26, 0.1, 0.08), _BLACK, Material.RUBBER))
        hand = (-foot * 0.8 + rng.uniform(-0.05, 0.15), 2.6 * y, hip)
        parts.append(tube((0, 2.1 * y, shoulder - 0.05), hand, (0.055, 0.045), coat, Material.CLOTH, 5))
        parts.append(ellipsoid(hand, (0.05, 0.04, 0.06), skin, Material.SKIN, detail=4))
    if rng.random() < 0.3:
        parts.append(box((-0.22, 0, 1.2 * scale), (0.2, 0.3, 0.42 * scale), pick(_CLOTHES, rng), Material.CLOTH))
    if rng.random() < 0.2:
        parts.append(box((0.05, 3 * side, 0.55), (0.35, 0.12, 0.3), pick(_CLOTHES, rng), Material.CLOTH))
    return Mesh.join(parts)


def _rider(rng: np.random.Generator, saddle_m: float, bars_m: float) -> Mesh:
    """A seated person reaching for handlebars at x = `bars_m`."""
    coat, trousers = pick(_CLOTHES, rng), pick(_CLOTHES, rng)
    neck = (-0.02, 0.0, saddle_m + 0.58)
    parts = [
        tube((-0.2, 0, saddle_m), neck, (0.16, 0.19), coat, Material.CLOTH, 8),
        ellipsoid((0.05, 0, saddle_m + 0.76), (0.12, 0.11, 0.14), pick(_SKIN, rng), Material.SKIN),
        ellipsoid((0.03, 0, saddle_m + 0.82), (0.15, 0.13, 0.12), pick(_FRAMES, rng), Material.PLASTIC),
    ]
    for side in (-0.14, 0.14):
        knee = (0.2, side, saddle_m - 0.12)
        parts.append(tube((-0.18, side, saddle_m), knee, 0.085, trousers, Material.CLOTH, 6))
        parts.append(tube(knee, (0.0, side, 0.25), (0.07, 0.05), trousers, Material.CLOTH, 6))
        parts.append(tube((neck[0], 1.4 * side, neck[2] - 0.05), (bars_m, 1.6 * side, 1.05), 0.05, coat,
                          Material.CLOTH, 5))  # fmt: skip
    return Mesh.join(parts)


def _spokes(x_m: float, radius_m: float) -> Mesh:
    """A few thin spokes, so that a wheel is neither a disc nor empty."""
    angles = np.arange(4) * np.pi / 4
    reach = radius_m - 0.04
    return Mesh.join(
        [
            tube((x_m - reach * np.cos(a), 0, radius_m - reach * np.sin(a)),
                 (x_m + reach * np.cos(a), 0, radius_m + reach * np.sin(a)), 0.008, _STEEL, Material.METAL, 3)
            for a in angles
        ]
    )  # fmt: skip
