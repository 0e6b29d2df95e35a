"""What surfaces are made of: their colour pattern for cameras and their reflectance for the LiDAR.

Patterns are functions of the texture coordinate of each hit (metres along the surface) and of the surface's base
colour. Randomness comes from one fixed tile of noise, looked up at the coordinate: cheap, the same on every machine,
and still on its object when the object moves.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray

from olivine.streams import stream

F32 = NDArray[np.float32]
# (u, v, base colour [N, 3], fade with distance) → colour [N, 3]
Pattern = Callable[[F32, F32, F32, F32], F32]
_TILE = 512


class Material(IntEnum):
    """Kinds of surface."""

    PAINT = 0
    GLASS = 1
    RUBBER = 2
    METAL = 3
    CLOTH = 4
    SKIN = 5
    PLASTIC = 6
    STRIPES = 7
    ASPHALT = 8
    MARKING = 9
    PAVING = 10
    COBBLE = 11
    GRASS = 12
    BRICK = 13
    PLASTER = 14
    FACADE = 15
    CURTAIN_WALL = 16
    CONCRETE = 17
    SIGN = 18
    BARK = 19
    FOLIAGE = 20
    CARGO = 21


# Fraction of near-infrared light each material sends back, in the order of `Material`.
_REFLECTANCE = np.array(
    [0.40, 0.06, 0.08, 0.45, 0.35, 0.45, 0.45, 0.75, 0.16, 0.70, 0.28, 0.24,
     0.40, 0.34, 0.42, 0.36, 0.20, 0.32, 1.00, 0.28, 0.48, 0.42],
    np.float32,
)  # fmt: skip
# Standard deviation of the extra depth at which a soft surface returns the pulse, metres.
_SOFTNESS_M = np.zeros(len(Material), np.float32)
_SOFTNESS_M[Material.FOLIAGE] = 0.12
_SOFTNESS_M[Material.GRASS] = 0.04


def reflectance(material: NDArray[np.uint8], albedo: F32) -> F32:
    """Near-infrared reflectance 0…1 of hits [N], from their material and visible colour [N, 3]."""
    return np.asarray(_REFLECTANCE[material] * (0.5 + 0.9 * albedo.mean(1)), np.float32)


def softness_m(material: NDArray[np.uint8]) -> F32:
    """Spread of the return's depth inside leaves and grass for hits [N], metres."""
    return _SOFTNESS_M[material]


def albedo(material: NDArray[np.uint8], uv_m: F32, color: F32, distance_m: F32) -> F32:
    """Visible colour of hits.

    Args:
        material: [N] uint8 `Material`.
        uv_m: [N, 2] texture coordinates, metres.
        color: [N, 3] base colour of the surface, linear RGB 0…1.
        distance_m: [N] distance from the eye; fine patterns fade with it, since a pixel then covers many periods.

    Returns:
        [N, 3] float32 linear RGB 0…1.
    """
    out = np.empty_like(color)
    order = np.argsort(material, kind="stable")
    edges = np.searchsorted(material[order], np.arange(len(Material) + 1))
    for kind in Material:
        rows = order[edges[kind] : edges[kind + 1]]
        if len(rows):
            u, v = uv_m[rows].T
            fade = 1 / (1 + distance_m[rows] / np.float32(30))
            out[rows] = _PATTERNS.get(kind, _plain)(u, v, color[rows], fade)
    return np.clip(out, 0, 1, out=out)


def noise(u: F32, v: F32, period_m: float) -> F32:
    """Smooth noise in −1…1 with features of every size up to a quarter of `period_m`; u and v in metres."""
    scale = np.float32(_TILE / period_m)
    return np.asarray(_tile()[(u * scale).astype(np.int32) & (_TILE - 1), (v * scale).astype(np.int32) & (_TILE - 1)])


@cache
def _tile() -> F32:
    """A tile of noise that repeats without a seam, [512, 512] in −1…1, falling off with frequency."""
    rng = stream("texture")
    frequency = np.hypot(np.fft.fftfreq(_TILE)[:, None], np.fft.fftfreq(_TILE)[None]) * _TILE
    amplitude = np.where(frequency >= 3, 1 / np.maximum(frequency, 1) ** 0.9, 0)
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(_TILE, _TILE))) * amplitude).real
    return np.asarray(np.clip(field / (2.5 * field.std()), -1, 1), np.float32)


def _cell_noise(u: F32, v: F32) -> F32:
    """One random number in 0…1 for each unit cell."""
    mixed = np.floor(u).astype(np.int32) * np.int32(374761) + np.floor(v).astype(np.int32) * np.int32(668265)
    mixed = (mixed ^ (mixed >> 13)) * np.int32(12741)
    return np.asarray(((mixed >> 7) & 1023) / np.float32(1023), np.float32)


def _fraction(x: F32) -> F32:
    return x - np.floor(x)


def _scaled(color: F32, factor: F32) -> F32:
    return color * factor[:, None]


def _speckled(amount: float, period_m: float) -> Pattern:
    """Base colour with noise; `amount` is the relative change at a noise of 1."""

    def pattern(u: F32, v: F32, color: F32, fade: F32) -> F32:
        return _scaled(color, 1 + np.float32(amount) * noise(u, v, period_m) * np.sqrt(fade))

    return pattern


_plain = _speckled(0.12, 4.0)


def _asphalt(u: F32, v: F32, color: F32, fade: F32) -> F32:
    worn = 0.35 * noise(u, v, 4.0) * fade + 0.25 * noise(u, v * 3, 60.0)
    return _scaled(color, 1 + worn)


def _tiles(size_m: float, joint: float) -> Pattern:
    """Square slabs of `size_m` with darker joints (`joint`: their share of a slab) and a shade of their own."""

    def pattern(u: F32, v: F32, color: F32, fade: F32) -> F32:
        a, b = u / np.float32(size_m), v / np.float32(size_m)
        seam = (_fraction(a) < joint) | (_fraction(b) < joint)
        shade = 1 + 0.3 * (_cell_noise(a, b) - 0.5) * fade - 0.45 * seam * fade
        return _scaled(color, shade + 0.2 * noise(u, v, 20.0))

    return pattern


def _grass(u: F32, v: F32, color: F32, fade: F32) -> F32:
    dry = np.clip(0.5 + 1.2 * noise(u, v, 50.0), 0, 1)[:, None]
    ground = color * (1 - dry) + color * np.array([1.5, 1.05, 0.8], np.float32) * dry
    return _scaled(ground, 1 + 0.8 * noise(u, v, 2.0) * np.sqrt(fade))


def _brick(u: F32, v: F32, color: F32, fade: F32) -> F32:
    course = v / np.float32(0.16)
    along = u / np.float32(0.42) + 0.5 * (np.floor(course) % 2)
    mortar = (_fraction(course) < 0.12) | (_fraction(along) < 0.05)
    shade = 1 + (0.4 * (_cell_noise(along, course) - 0.5) + 0.6 * mortar) * fade
    return _scaled(color, shade + 0.15 * noise(u, v, 12.0))


def _facade(u: F32, v: F32, color: F32, fade: F32) -> F32:
    """A rendered wall with a window every 2.6 m on floors of 3 m."""
    a, b = u / np.float32(2.6), v / np.float32(3.0)
    x, y = _fraction(a), _fraction(b)
    window = (x > 0.28) & (x < 0.72) & (y > 0.32) & (y < 0.82)
    frame = (x > 0.24) & (x < 0.76) & (y > 0.28) & (y < 0.86) & ~window
    wall = np.where((color.sum(1) < 1.0)[:, None], _brick(u, v, color, fade), _plain(u, v, color, fade))
    pane = (0.05 + 0.4 * _cell_noise(a, b) ** 3)[:, None] * np.array([0.8, 0.95, 1.1], np.float32)
    return np.where(window[:, None], pane, np.where(frame[:, None], wall * np.float32(0.5) + np.float32(0.35), wall))


def _curtain_wall(u: F32, v: F32, color: F32, _fade: F32) -> F32:
    """Glass panes between mullions."""
    a, b = u / np.float32(1.5), v / np.float32(3.2)
    mullion = (_fraction(a) < 0.07) | (_fraction(b) < 0.12)
    pane = color * (0.35 + 0.5 * _cell_noise(a, b))[:, None]
    return np.where(mullion[:, None], np.float32(0.45), pane)


def _stripes(u: F32, v: F32, color: F32, _fade: F32) -> F32:
    """The base colour in bands with white, 0.3 m each, slanted as on barriers."""
    white = (_fraction((v + np.float32(0.35) * u) / np.float32(0.42)) < 0.42)[:, None]
    return np.where(white, np.float32(0.85), color)


def _cargo(u: F32, v: F32, color: F32, fade: F32) -> F32:
    """Corrugated sheet: containers, box bodies, shutters."""
    ribs = 1 + 0.22 * np.sin(u * np.float32(2 * np.pi / 0.28)) * fade
    return _scaled(color, ribs + 0.15 * noise(u, v, 8.0))


def _sign(u: F32, v: F32, color: F32, _fade: F32) -> F32:
    bold = (_cell_noise(u / np.float32(0.12), v / np.float32(0.1)) > 0.6)[:, None]
    return np.where(bold, 1 - 0.6 * color, color)


_PATTERNS: dict[Material, Pattern] = {
    Material.ASPHALT: _asphalt,
    Material.MARKING: _speckled(0.35, 3.0),
    Material.PAVING: _tiles(0.7, 0.05),
    Material.COBBLE: _tiles(0.25, 0.14),
    Material.GRASS: _grass,
    Material.BRICK: _brick,
    Material.FACADE: _facade,
    Material.CURTAIN_WALL: _curtain_wall,
    Material.CONCRETE: _speckled(0.3, 10.0),
    Material.STRIPES: _stripes,
    Material.SIGN: _sign,
    Material.BARK: _speckled(0.5, 1.5),
    Material.FOLIAGE: _speckled(0.9, 3.0),
    Material.CLOTH: _speckled(0.25, 1.0),
    Material.CARGO: _cargo,
}
