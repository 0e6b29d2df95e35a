"""The ground of a simulated street: centreline, cross-section, junctions, and the meshes they make.

Positions along the street are (s, d): arc length along the centreline and offset to its left, metres. `Street.locate`
bends them into the global frame, whose z = 0 is the road. Traffic keeps to the right; the ego vehicle drives towards
growing s.

    terrain │ sidewalk │ parking │ lanes ← │ median │ lanes → │ parking │ cycle path │ sidewalk │ terrain
       d > 0 (left)                            d = 0                                     d < 0 (right)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from olivine.simulate.materials import Material
from olivine.simulate.mesh import Color, Mesh, surface
from olivine.simulate.taxonomy import OTHER_FLAT, ROAD, SIDEWALK, TERRAIN
from olivine.simulate.vehicles import pick

LANE_M = 3.3
PARKING_M = 2.5
MEDIAN_HEIGHT_M = 0.1
MARGIN_M = 95.0
"""How far the street goes on before the first and after the last ego position."""
_EDGE_M = 75.0
_STEP_M = 4.0

_ASPHALTS: tuple[Color, ...] = ((0.13, 0.13, 0.14), (0.2, 0.2, 0.2), (0.1, 0.1, 0.1), (0.24, 0.22, 0.2))
_PAVINGS: tuple[Color, ...] = ((0.4, 0.39, 0.37), (0.45, 0.38, 0.3), (0.3, 0.3, 0.31), (0.36, 0.28, 0.24))
_OTHERS: tuple[Color, ...] = ((0.38, 0.13, 0.09), (0.12, 0.28, 0.17), (0.34, 0.2, 0.12), (0.13, 0.2, 0.33))
_GRASSES: tuple[Color, ...] = ((0.12, 0.2, 0.05), (0.18, 0.22, 0.07), (0.26, 0.22, 0.11), (0.09, 0.15, 0.05))
_CURB: Color = (0.42, 0.41, 0.39)
_WHITE: Color = (0.75, 0.75, 0.72)


@dataclass(frozen=True)
class Band:
    """A strip of ground of one category between two offsets from the centreline, |d| growing.

    Attributes:
        category: lidarseg category.
        inner_m: |d| of the edge nearer to the centreline.
        outer_m: |d| of the far edge.
        height_m: height above the road.
        color: base colour.
        material: surface.
    """

    category: str
    inner_m: float
    outer_m: float
    height_m: float
    color: Color
    material: Material


@dataclass(frozen=True)
class Piece:
    """A piece of ground in global coordinates, with its lidarseg category."""

    category: str
    mesh: Mesh


class Street:
    """A street drawn from a generator.

    Args:
        rng: source of every choice.
        drive_m: distance that the ego vehicle covers.
        bend_rad: largest deviation of the heading from straight.

    Attributes:
        start_m: s of the first end.
        end_m: s of the last end.
        lanes: lanes per direction.
        median_m: width of the median, 0 without one.
        curb_m: |d| of the edge of the roadway.
        crossings: [(s of the middle, width)] of crossing streets.
        sides: the ground bands beyond the curb, for side −1 (right) and +1 (left).
    """

    def __init__(self, rng: np.random.Generator, drive_m: float, bend_rad: float) -> None:
        self.start_m, self.end_m = -MARGIN_M, drive_m + MARGIN_M
        grid = np.arange(self.start_m - 50, self.end_m + 50, 1.0)
        # A period of at least 180 m keeps the radius of curvature above the width of the world.
        period, phase = rng.uniform(180, 320), rng.uniform(0, 2 * np.pi)
        heading = rng.uniform(0.2, 1.0) * bend_rad * np.sin(2 * np.pi * grid / period + phase)
        middle = (heading[1:] + heading[:-1]) / 2
        self._grid, self._heading = grid, heading
        self._x = np.concatenate([[0.0], np.cumsum(np.cos(middle))])
        self._y = np.concatenate([[0.0], np.cumsum(np.sin(middle))])
        self.lanes = 1 if rng.random() < 0.65 else 2
        self.median_m = float(rng.uniform(1.2, 2.6)) if rng.random() < 0.5 else 0.0
        self.curb_m = self.median_m / 2 + self.lanes * LANE_M + PARKING_M
        self.crossings = _crossings(rng, drive_m)
        self.sides = {side: _bands(rng, self.curb_m) for side in (-1, 1)}

    def locate(
        self, s_m: ArrayLike, d_m: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Global x, y (metres) and street heading (radians) at positions (s, d)."""
        s, d = np.asarray(s_m, np.float64), np.asarray(d_m, np.float64)
        heading = np.interp(s, self._grid, self._heading)
        x = np.interp(s, self._grid, self._x) - d * np.sin(heading)
        y = np.interp(s, self._grid, self._y) + d * np.cos(heading)
        return x, y, heading

    def in_crossing(self, s_m: float, margin_m: float = 0.0) -> bool:
        """Whether s lies in a crossing street, or within `margin_m` of one."""
        return any(abs(s_m - middle) < width / 2 + margin_m for middle, width in self.crossings)

    def blocks(self) -> list[tuple[float, float]]:
        """Stretches (from s, to s) between crossings."""
        edges = [self.start_m]
        for middle, width in self.crossings:
            edges += [middle - width / 2, middle + width / 2]
        edges.append(self.end_m)
        return [(low, high) for low, high in zip(edges[::2], edges[1::2], strict=True) if high > low]

    def band(self, side: int, category: str) -> Band | None:
        """The first band of a category on a side, or None."""
        return next((band for band in self.sides[side] if band.category == category), None)

    def ground(self, rng: np.random.Generator) -> list[Piece]:
        """Every piece of ground, without gaps, and the paint on it."""
        asphalt = pick(_ASPHALTS, rng, 0.05)
        pieces = [
            Piece(ROAD, self._strip((self.start_m, self.end_m), (-self.curb_m, self.curb_m), 0, asphalt,
                                    Material.ASPHALT))
        ]  # fmt: skip
        for middle, width in self.crossings:
            span = (middle - width / 2, middle + width / 2)
            for side in (-1, 1):
                arm = self._strip(span, (side * self.curb_m, side * _EDGE_M), 0, asphalt, Material.ASPHALT)
                pieces.append(Piece(ROAD, arm))
        for block in self.blocks():
            for side in (-1, 1):
                pieces += self._side(block, side, rng)
            if self.median_m:
                pieces += self._median(block, rng)
        return [*pieces, *(Piece(ROAD, paint) for paint in self._markings())]

    def _side(self, block: tuple[float, float], side: int, rng: np.random.Generator) -> list[Piece]:
        """The bands of one side of one block, in pieces of about 30 m so that each can be mistaken on its own."""
        pieces = []
        cuts = np.linspace(*block, max(2, int((block[1] - block[0]) / 30) + 1))
        below = 0.0
        for band in self.sides[side]:
            bumps = 0.05 if band.category == TERRAIN else 0.0
            for low, high in pairwise(cuts.tolist()):
                offsets = (side * band.inner_m, side * band.outer_m)
                mesh = self._strip((low, high), offsets, band.height_m, band.color, band.material, bumps, rng)
                pieces.append(Piece(band.category, mesh))
            step = self._wall(block, side * band.inner_m, below, band.height_m)
            pieces.append(Piece(SIDEWALK if band.category == TERRAIN else band.category, step))
            below = band.height_m
        # The ends of a block at a crossing show the same curb.
        for s in block:
            d = np.array([side * self.curb_m, side * _EDGE_M])
            pieces.append(Piece(SIDEWALK, self._curtain(np.full(2, s), d, 0.0, below)))
        return pieces

    def _median(self, block: tuple[float, float], rng: np.random.Generator) -> list[Piece]:
        low, high = block[0] + 4, block[1] - 4
        if high - low < 8:
            return []
        half, height = self.median_m / 2 - 0.15, MEDIAN_HEIGHT_M
        color = pick(_OTHERS, rng)
        top = self._strip((low, high), (-half, half), height, color, Material.COBBLE)
        rims = [self._wall((low, high), d, 0, height) for d in (-half, half)]
        ends = [self._curtain(np.full(2, s), np.array([-half, half]), 0, height) for s in (low, high)]
        return [Piece(OTHER_FLAT, Mesh.join([top, *rims, *ends]))]

    def _markings(self) -> list[Mesh]:
        """Lane lines, edge lines, and zebra crossings beside the crossing streets."""
        marks = []
        for low, high in self.blocks():
            start, stop = low + 7, high - 7
            if stop - start < 4:
                continue
            for sign in (-1, 1):
                lane_edge = sign * (self.median_m / 2 + self.lanes * LANE_M)
                marks.append(self._paint((start, stop), lane_edge, 0.14))
                for lane in range(0 if not self.median_m and sign < 0 else 1, self.lanes):
                    d = sign * (self.median_m / 2 + lane * LANE_M)
                    marks += [self._paint((s, min(s + 3, stop)), d, 0.14) for s in np.arange(start, stop - 1, 9.0)]
        for middle, width in self.crossings:
            for s in (middle - width / 2 - 3.6, middle + width / 2 + 3.6):
                stripes = np.arange(-self.curb_m + 0.6, self.curb_m - 0.4, 1.1)
                marks += [self._paint((s - 1.6, s + 1.6), d, 0.55) for d in stripes]
        return marks

    def _paint(self, span: tuple[float, float], d_m: float, width_m: float) -> Mesh:
        return self._strip(span, (d_m - width_m / 2, d_m + width_m / 2), 0.008, _WHITE, Material.MARKING)

    def _strip(
        self,
        span: tuple[float, float],
        offsets: tuple[float, float],
        height_m: float,
        color: Color,
        material: Material,
        bumps_m: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> Mesh:
        """A flat strip between two s and two d; `bumps_m` is the standard deviation of inner vertices' height."""
        along = np.linspace(*span, max(2, int(abs(span[1] - span[0]) / _STEP_M) + 2))
        across = np.linspace(*offsets, max(2, int(abs(offsets[1] - offsets[0]) / 10) + 2) if bumps_m else 2)
        s, d = (grid.ravel() for grid in np.meshgrid(along, across, indexing="ij"))
        x, y, _ = self.locate(s, d)
        z = np.full(len(s), height_m)
        if rng is not None and bumps_m:
            z += np.where(np.abs(d - offsets[0]) > 0.1, rng.normal(0, bumps_m, len(s)), 0)
        index = np.arange(len(along) * len(across)).reshape(len(along), len(across))
        quads = np.stack([index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]], -1).reshape(-1, 4)
        faces = np.concatenate([quads[:, :3], quads[:, [0, 2, 3]]])
        uv = np.stack([s, d], -1)[faces]
        return surface(np.column_stack([x, y, z]), faces, color, material, uv)

    def _wall(self, span: tuple[float, float], d_m: float, low_m: float, high_m: float) -> Mesh:
        along = np.linspace(*span, max(2, int((span[1] - span[0]) / _STEP_M) + 2))
        return self._curtain(along, np.full(len(along), d_m), low_m, high_m)

    def _curtain(self, s_m: NDArray[np.float64], d_m: NDArray[np.float64], low_m: float, high_m: float) -> Mesh:
        """An upright face along a polyline, as curbs have."""
        x, y, _ = self.locate(s_m, d_m)
        count = len(s_m)
        vertices = np.concatenate([np.column_stack([x, y, np.full(count, z)]) for z in (low_m, high_m)])
        index = np.arange(count - 1)
        lower = np.column_stack([index, index + 1, index + 1 + count])
        upper = np.column_stack([index, index + 1 + count, index + count])
        return surface(vertices, np.vstack([lower, upper]), _CURB, Material.CONCRETE)


def _crossings(rng: np.random.Generator, drive_m: float) -> list[tuple[float, float]]:
    """Crossing streets, 45 to 80 m apart, none right at the start."""
    found = []
    s = -MARGIN_M + rng.uniform(25, 60)
    while s < drive_m + MARGIN_M - 25:
        found.append((float(s), float(rng.uniform(7, 11))))
        s += rng.uniform(50, 85)
    return found


def _bands(rng: np.random.Generator, curb_m: float) -> tuple[Band, ...]:
    """The cross-section of one side: verge, cycle path, sidewalk, forecourt and terrain, some of them left out."""
    base = float(rng.uniform(0.08, 0.17))
    verge = (TERRAIN, rng.uniform(1.0, 2.2), pick(_GRASSES, rng), Material.GRASS)
    cycle = (OTHER_FLAT, rng.uniform(1.4, 2.2), pick(_OTHERS, rng), Material.ASPHALT)
    walk = (SIDEWALK, rng.uniform(2.2, 4.0), pick(_PAVINGS, rng), Material.PAVING)
    court = (OTHER_FLAT, rng.uniform(2.0, 4.5), pick((*_OTHERS, *_PAVINGS), rng), Material.COBBLE)
    chosen = [band for band, chance in ((verge, 0.45), (cycle, 0.55), (walk, 1.0), (court, 0.4)) if
              rng.random() < chance]  # fmt: skip
    bands = []
    inner = curb_m
    for category, width, color, material in chosen:
        height = base + float(rng.uniform(-0.02, 0.03))
        bands.append(Band(category, inner, inner + float(width), height, color, material))
        inner += float(width)
    field = Band(TERRAIN, inner, _EDGE_M, base + float(rng.uniform(-0.05, 0.1)), pick(_GRASSES, rng), Material.GRASS)
    return (*bands, field)
