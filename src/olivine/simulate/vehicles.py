"""Shapes of vehicles: cars, trucks, buses, trailers and construction machines, each drawn anew from a generator.

Every builder returns a mesh in the vehicle's own frame: x forward, y left, z up, origin on the ground below the
centre. Sizes and colours overlap between the classes on purpose: a van is nearly a truck, a box truck nearly a bus.
"""

from __future__ import annotations

import numpy as np

from olivine.simulate.materials import Material
from olivine.simulate.mesh import Color, Mesh, box, prism, tube

_PAINTS: tuple[Color, ...] = (
    (0.72, 0.72, 0.72), (0.35, 0.36, 0.38), (0.06, 0.06, 0.07), (0.5, 0.06, 0.05), (0.06, 0.12, 0.4),
    (0.62, 0.6, 0.52), (0.12, 0.3, 0.16), (0.6, 0.42, 0.05), (0.2, 0.32, 0.42), (0.4, 0.2, 0.08),
)  # fmt: skip
_LIVERIES: tuple[Color, ...] = (
    (0.75, 0.75, 0.72), (0.7, 0.1, 0.08), (0.1, 0.25, 0.6), (0.1, 0.42, 0.2), (0.75, 0.55, 0.05), (0.25, 0.5, 0.6),
    (0.45, 0.46, 0.47),
)  # fmt: skip
_GLASS: Color = (0.05, 0.07, 0.09)
_TYRE: Color = (0.025, 0.025, 0.025)
_STEEL: Color = (0.3, 0.3, 0.32)
_TAIL_LIGHT: Color = (0.55, 0.03, 0.03)
_HEAD_LIGHT: Color = (0.85, 0.85, 0.75)


def pick(colors: tuple[Color, ...], rng: np.random.Generator, spread: float = 0.12) -> Color:
    """One of the colours, varied by a relative `spread` per channel."""
    red, green, blue = np.clip(np.array(colors[rng.integers(len(colors))]) * rng.normal(1, spread, 3), 0.02, 0.9)
    return float(red), float(green), float(blue)


def car(rng: np.random.Generator) -> Mesh:
    """A saloon, hatchback, sport utility vehicle or van."""
    length, width = rng.uniform(3.6, 4.9), rng.uniform(1.65, 1.95)
    height = rng.uniform(1.4, 1.55) if rng.random() < 0.6 else rng.uniform(1.65, 2.0)
    paint = pick(_PAINTS, rng)
    rear, nose, belt = -length / 2, length / 2, height * rng.uniform(0.52, 0.6)
    trunk = rng.choice([0.0, 0.12, 0.2]) * length
    hood = rng.uniform(0.18, 0.3) * length
    body = [(rear, 0.3), (rear + 0.05, belt), (nose - hood, belt), (nose, belt - 0.15), (nose, 0.3)]
    cabin = [(rear + trunk, belt), (rear + trunk + 0.3, height), (nose - hood - 0.7, height), (nose - hood + 0.1, belt)]
    roof_length = max(nose - hood - 0.7 - (rear + trunk + 0.3), 0.5)
    roof = (nose - hood - 0.7 + rear + trunk + 0.3) / 2
    return Mesh.join(
        [
            prism(body, width, paint, Material.PAINT),
            prism(cabin, width - 0.22, _GLASS, Material.GLASS),
            box((roof, 0, height), (roof_length, width - 0.24, 0.06), paint, Material.PAINT),
            box((roof, 0, (belt + height) / 2), (0.09, width - 0.2, height - belt), paint, Material.PAINT),
            *_wheels((rear + 0.2 * length, nose - 0.18 * length), width, rng.uniform(0.29, 0.36)),
            *_lights(length, width, belt - 0.15),
        ]
    )


def truck(rng: np.random.Generator) -> Mesh:
    """A box truck, a flatbed with a load, or a pick-up."""
    if rng.random() < 0.25:
        return _pickup(rng)
    length, width, height = rng.uniform(5.8, 9.5), rng.uniform(2.1, 2.5), rng.uniform(2.5, 3.6)
    cab_length, cab_height = rng.uniform(1.7, 2.2), rng.uniform(2.1, 2.7)
    nose = length / 2
    bed = length - cab_length - 0.15
    middle = -length / 2 + bed / 2
    paint = pick(_LIVERIES, rng)
    parts = [
        box((nose - cab_length / 2, 0, 0.5 + cab_height / 2 - 0.25), (cab_length, width, cab_height - 0.5), paint,
            Material.PAINT),
        box((nose - 0.02, 0, cab_height * 0.68), (0.1, width - 0.2, cab_height * 0.3), _GLASS, Material.GLASS),
        box((nose - 0.7, 0, cab_height * 0.68), (0.8, width + 0.04, cab_height * 0.26), _GLASS, Material.GLASS),
        box((0, 0, 0.7), (length - 0.3, width * 0.5, 0.25), _STEEL, Material.METAL),
        *_wheels((nose - 1.0, middle - bed * 0.2, middle - bed * 0.2 - 1.1), width, rng.uniform(0.42, 0.52)),
        *_lights(length, width, 0.8),
    ]  # fmt: skip
    if rng.random() < 0.7:
        load = pick(_LIVERIES, rng)
        parts.append(box((middle, 0, (0.9 + height) / 2), (bed, width, height - 0.9), load, Material.CARGO))
    else:
        parts.append(box((middle, 0, 0.95), (bed, width, 0.2), _STEEL, Material.METAL))
        parts.append(box((middle - bed / 2 + 0.05, 0, 1.3), (0.08, width, 0.7), paint, Material.PAINT))
        heap = [(middle - bed * 0.42, 1.05), (middle - bed * 0.1, rng.uniform(1.5, 2.2)), (middle + bed * 0.4, 1.05)]
        parts.append(prism(heap, width * 0.85, (0.33, 0.26, 0.18), Material.CONCRETE))
    return Mesh.join(parts)


def _pickup(rng: np.random.Generator) -> Mesh:
    length, width, height = rng.uniform(5.0, 5.7), rng.uniform(1.85, 2.0), rng.uniform(1.7, 1.9)
    paint = pick(_PAINTS, rng)
    rear, nose = -length / 2, length / 2
    cabin = [(nose - 3.4, 1.05), (nose - 3.3, height), (nose - 2.1, height), (nose - 1.4, 1.05)]
    bed = length - 3.5
    return Mesh.join(
        [
            prism([(rear + bed, 0.4), (rear + bed, 1.05), (nose - 1.3, 1.05), (nose, 0.9), (nose, 0.4)], width, paint,
                  Material.PAINT),
            prism(cabin, width - 0.2, _GLASS, Material.GLASS),
            box((nose - 2.7, 0, height), (1.2, width - 0.22, 0.06), paint, Material.PAINT),
            box((rear + bed / 2, 0, 0.62), (bed, width, 0.25), paint, Material.PAINT),
            box((rear + 0.04, 0, 0.85), (0.08, width, 0.5), paint, Material.PAINT),
            *(box((rear + bed / 2, side * (width / 2 - 0.05), 0.85), (bed, 0.1, 0.5), paint, Material.PAINT)
              for side in (-1, 1)),
            *_wheels((rear + 1.0, nose - 0.95), width, 0.4),
            *_lights(length, width, 0.8),
        ]
    )  # fmt: skip


def bus(rng: np.random.Generator) -> Mesh:
    """A rigid city bus or coach with a band of windows."""
    length, width, height = rng.uniform(8.5, 12.0), rng.uniform(2.4, 2.6), rng.uniform(2.8, 3.4)
    paint, sill = pick(_LIVERIES, rng), rng.uniform(1.1, 1.6)
    band = height - sill - 0.45
    windows = np.arange(-length / 2 + 0.9, length / 2 - 1.0, 1.5)
    return Mesh.join(
        [
            box((0, 0, (0.35 + height) / 2), (length, width, height - 0.35), paint, Material.PAINT),
            box((0, 0, 0.55), (length + 0.02, width + 0.02, 0.3), pick(_LIVERIES, rng), Material.PAINT),
            *(box((x + 0.65, 0, sill + band / 2), (1.3, width + 0.05, band), _GLASS, Material.GLASS) for x in windows),
            box((length / 2, 0, 1.75), (0.06, width - 0.2, 1.5), _GLASS, Material.GLASS),
            box((-length / 2, 0, height - 0.9), (0.06, width - 0.5, 0.9), _GLASS, Material.GLASS),
            box((length / 2 - 0.9, -width / 2, 1.3), (1.1, 0.06, 1.9), _GLASS, Material.GLASS),
            box((0, 0, height + 0.1), (length * 0.4, width * 0.6, 0.25), _STEEL, Material.PAINT),
            *_wheels((-length * 0.28, length * 0.3), width, 0.48),
            *_lights(length, width, 0.8),
        ]
    )


def trailer(rng: np.random.Generator) -> Mesh:
    """A trailer without its tractor: box, container on a chassis, or tank."""
    length, width, height = rng.uniform(5.0, 10.0), rng.uniform(2.2, 2.5), rng.uniform(2.5, 3.8)
    color, kind = pick(_LIVERIES, rng), rng.integers(3)
    floor = 1.1 if kind else 0.8
    if kind == 2:
        radius = min(width / 2, (height - floor) / 2)
        axis_z = floor + radius
        load = [tube((-length / 2, 0, axis_z), (length / 2, 0, axis_z), radius, color, Material.METAL, 14)]
    else:
        load = [box((0, 0, (floor + height) / 2), (length, width, height - floor), color, Material.CARGO)]
    rear = -length / 2
    return Mesh.join(
        [
            *load,
            box((0, 0, floor - 0.12), (length, width * 0.45, 0.22), _STEEL, Material.METAL),
            prism([(length / 2, floor - 0.2), (length / 2 + 1.2, 0.5), (length / 2, floor - 0.05)], 0.5, _STEEL,
                  Material.METAL),
            tube((length / 2 - 0.9, 0.6, 0), (length / 2 - 0.9, 0.6, floor), 0.06, _STEEL, Material.METAL),
            tube((length / 2 - 0.9, -0.6, 0), (length / 2 - 0.9, -0.6, floor), 0.06, _STEEL, Material.METAL),
            box((rear + 0.03, 0, 0.6), (0.06, width, 0.3), _TAIL_LIGHT, Material.STRIPES),
            *_wheels((rear + 0.8, rear + 1.9), width, 0.45),
        ]
    )  # fmt: skip


def construction_vehicle(rng: np.random.Generator) -> Mesh:
    """An excavator or a wheel loader."""
    paint = pick(((0.7, 0.42, 0.02), (0.65, 0.25, 0.03), (0.72, 0.6, 0.08), (0.3, 0.45, 0.1)), rng)
    return _excavator(rng, paint) if rng.random() < 0.55 else _loader(rng, paint)


def _excavator(rng: np.random.Generator, paint: Color) -> Mesh:
    size = rng.uniform(0.85, 1.2)
    elbow = (rng.uniform(2.0, 2.6) * size, rng.uniform(2.8, 3.6) * size)
    wrist = (elbow[0] + rng.uniform(0.6, 1.4) * size, rng.uniform(0.7, 1.5) * size)
    turn = rng.uniform(-0.5, 0.5)
    upper = Mesh.join(
        [
            box((-0.5 * size, 0, 1.45 * size), (2.6 * size, 2.2 * size, 0.8 * size), paint, Material.PAINT),
            box((-1.5 * size, 0, 1.6 * size), (0.6 * size, 2.1 * size, 1.0 * size), (0.08, 0.08, 0.08), Material.METAL),
            box((0.4 * size, 0.65 * size, 2.2 * size), (1.3 * size, 0.9 * size, 1.3 * size), _GLASS, Material.GLASS),
            box((0.4 * size, 0.65 * size, 2.9 * size), (1.4 * size, 1.0 * size, 0.1 * size), paint, Material.PAINT),
            tube((0.7 * size, -0.3, 1.5 * size), (elbow[0], -0.3, elbow[1]), 0.2 * size, paint, Material.PAINT, 4),
            tube((elbow[0], -0.3, elbow[1]), (wrist[0], -0.3, wrist[1]), 0.16 * size, paint, Material.PAINT, 4),
            box((wrist[0], -0.3, wrist[1] - 0.25), (0.7 * size, 0.9 * size, 0.5), _STEEL, Material.METAL),
        ]
    ).moved(yaw_rad=turn)
    tracks = [
        prism([(-1.7 * size, 0.25), (-1.4 * size, 0.0), (1.4 * size, 0.0), (1.7 * size, 0.25), (1.5 * size, 0.8 * size),
               (-1.5 * size, 0.8 * size)], 0.5 * size, _TYRE, Material.RUBBER).moved(y_m=side * 0.95 * size)
        for side in (-1, 1)
    ]  # fmt: skip
    return Mesh.join([upper, *tracks, box((0, 0, 0.8 * size), (1.2, 1.2, 0.6), _STEEL, Material.METAL)])


def _loader(rng: np.random.Generator, paint: Color) -> Mesh:
    size, lift = rng.uniform(0.85, 1.15), rng.uniform(0.4, 1.8)
    parts = [
        box((-1.6 * size, 0, 1.4 * size), (2.0 * size, 1.7 * size, 1.0 * size), paint, Material.PAINT),
        box((0.2 * size, 0, 1.0 * size), (2.6 * size, 1.2 * size, 0.5 * size), paint, Material.PAINT),
        box((-0.3 * size, 0, 2.3 * size), (1.3 * size, 1.4 * size, 1.4 * size), _GLASS, Material.GLASS),
        box((-0.3 * size, 0, 3.05 * size), (1.5 * size, 1.6 * size, 0.12 * size), paint, Material.PAINT),
        box((3.1 * size, 0, lift), (0.9 * size, 2.5 * size, 0.8), _STEEL, Material.METAL),
        *(tube((0.8 * size, y, 1.3 * size), (2.8 * size, y, lift), 0.13, paint, Material.PAINT, 4)
          for y in (-0.5, 0.5)),
        *_wheels((-1.5 * size, 1.4 * size), 2.3 * size, 0.7 * size),
    ]  # fmt: skip
    return Mesh.join(parts)


def _wheels(positions_m: tuple[float, ...], width_m: float, radius_m: float) -> list[Mesh]:
    """A pair of wheels at each x, flush with the sides."""
    parts = []
    for x in positions_m:
        for side in (-1, 1):
            inner, outer = side * (width_m / 2 - 0.24), side * (width_m / 2 + 0.01)
            parts.append(tube((x, inner, radius_m), (x, outer, radius_m), radius_m, _TYRE, Material.RUBBER, 12))
            hub = side * (width_m / 2 + 0.02)
            parts.append(tube((x, inner, radius_m), (x, hub, radius_m), radius_m * 0.55, _STEEL, Material.METAL, 8))
    return parts


def _lights(length_m: float, width_m: float, height_m: float) -> list[Mesh]:
    """Headlights in front, tail lights behind."""
    return [
        box((x, side * (width_m / 2 - 0.22), height_m), (0.06, 0.3, 0.16), color, Material.SIGN)
        for x, color in ((length_m / 2, _HEAD_LIGHT), (-length_m / 2, _TAIL_LIGHT))
        for side in (-1, 1)
    ]
