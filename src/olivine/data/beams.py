"""Which beam of the LiDAR measured each point: as the data say, by the order of the points, or by their elevation.

A sensor that turns measures a cloud in rings, one for each of its beams. Networks learn the spacing of those rings;
`olivine.data.thinning` takes beams away so that they learn less of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from olivine.data.frame import Frame
from olivine.errors import UserError

FEWEST, MOST = 4, 256
"""How many beams a sensor has, as far as we look for them; the ring column may say anything."""

_JITTER_DEG = 10.0  # two neighbours of a ring are never so far apart and out of order
_IN_ORDER = 0.9  # share of rings that lie below the one before them, in a scan whose rows are its beams
_FAR_M = 3.0  # nearer points are so rounded that their elevation says little
_BIN_DEG = 0.02
_RARE = 1e-4  # a bin of elevations with a smaller share of the points is no beam
_FEW = 20  # points to a beam, of which its elevation can be told from chance
_AT_A_BEAM = 0.95  # share of the points that lie at one of the elevations found, where these are beams
_SAMPLED = 50_000  # points among which the beam of a foreign point is looked up


def beams_of(frame: Frame) -> NDArray[np.int64]:
    """The beam of every point.

    The ring that the data give (`Frame.rings`) is taken. Without it rows are unfolded that run as KITTI's do: ring by
    ring from the top, each counter-clockwise from straight ahead (+x). KITTI's clouds are corrected for the motion of
    the vehicle, so elevations do not tell its rings apart. Where rows run otherwise, elevations are clustered, which a
    sensor whose beams leave from one point keeps to a few hundredths of a degree.

    Args:
        frame: the frame, its points in file order unless it has rings.

    Returns:
        [N] int64 number of each point's beam from 0; neighbouring numbers are neighbouring beams.

    Raises:
        UserError: neither the data, nor the order, nor the elevations tell.
    """
    if frame.rings is not None:
        return frame.rings.astype(np.int64)
    found = by_rows(frame.points_lidar_m)
    if found is None:
        found = by_elevation(frame.points_lidar_m)
    if found is None:
        raise UserError(
            f"frame {frame.token!r}: cannot tell which beam measured which point: the data have no ring column, the "
            "points do not lie ring by ring, and their elevations form no rings; leave beams alone for these data"
        )
    return found


def ring_column(values: NDArray[np.float32]) -> NDArray[np.uint16] | None:
    """The rings of a file's column, where it holds such numbers.

    Args:
        values: [N] the column.

    Returns:
        [N] uint16, or None of a column that holds fractions, other numbers than rings have, or one ring alone: files of
        this layout that others write may keep anything there.
    """
    if len(values) == 0 or not (values.min() >= 0 and values.max() < MOST):
        return None
    rings = values.astype(np.uint16)
    return rings if (rings == values).all() and rings.max() >= FEWEST - 1 else None


def by_rows(points_m: NDArray[np.float32]) -> NDArray[np.int64] | None:
    """Beams of a scan whose points lie ring by ring, as KITTI's.

    A ring ends where the azimuth, counted from +x, falls back from one turn to nothing. A step back across +x by a few
    degrees, as jitter and corrected motion make them, is taken back. Scans that are cut to a field of view ahead keep
    their rings.

    Args:
        points_m: [N, 3] float32 points in file order, metres.

    Returns:
        [N] int64 ring from 0 at the top, or None where the points do not lie so.
    """
    if len(points_m) < 2:
        return None
    azimuth = np.degrees(np.arctan2(points_m[:, 1], points_m[:, 0])) % 360
    change = np.diff(azimuth)
    step = np.zeros(len(points_m), np.int64)
    step[1:] = (change < -180).astype(np.int64) - (change > 360 - _JITTER_DEG)
    ring = np.cumsum(step).clip(0)
    points = np.bincount(ring)
    if not FEWEST <= len(points) <= MOST:
        return None
    elevation = np.bincount(ring, _elevation_deg(points_m))[points > 0] / points[points > 0]
    return ring if (np.diff(elevation) < 0).mean() >= _IN_ORDER else None


def by_elevation(points_m: NDArray[np.float32]) -> NDArray[np.int64] | None:
    """Beams of a scan by the elevation of its points above the sensor's horizon.

    Args:
        points_m: [N, 3] float32 points, metres; rows without return (0, 0, 0) belong to any beam.

    Returns:
        [N] int64 beam from 0 at the bottom, or None where the elevations are not those of a few beams.
    """
    elevation = _elevation_deg(points_m)
    far = elevation[np.square(points_m).sum(axis=1) > _FAR_M**2]
    if len(far) == 0:
        return None
    counts, edges = np.histogram(far, np.arange(-90, 90 + _BIN_DEG, _BIN_DEG))
    often = np.concatenate(([False], counts > _RARE * len(far), [False]))
    begin, end = np.flatnonzero(np.diff(often.astype(np.int8))).reshape(-1, 2).T
    centers = (edges[begin] + edges[end]) / 2
    if not FEWEST <= len(centers) <= min(MOST, len(far) // _FEW):
        return None
    near = np.abs(far - centers[_nearest(centers, far)]) < np.diff(centers).min() / 4
    if near.mean() < _AT_A_BEAM:
        return None
    return _nearest(centers, elevation)


def beams_like(points_m: NDArray[np.float32], frame: Frame, beams: NDArray[np.int64]) -> NDArray[np.int64]:
    """The beams that would have measured some points, by those that measured what lies near them in a scan.

    A beam that leaves beside the sensor's centre is seen under an elevation that changes with one over the range, so
    near means in both.

    Args:
        points_m: [M, 3] float32 points that are not the frame's, metres.
        frame: the scan.
        beams: [N] int64 the beams of its points.

    Returns:
        [M] int64 beams.
    """
    if len(points_m) == 0 or len(beams) == 0:
        return np.zeros(len(points_m), np.int64)
    every = max(1, len(beams) // _SAMPLED)
    tree = KDTree(_as_seen(frame.points_lidar_m[::every]))
    _, found = tree.query(_as_seen(points_m))
    return np.asarray(beams[::every][found])


def _as_seen(points_m: NDArray[np.float32]) -> NDArray[np.float64]:
    """[N, 2] elevation in degrees, and what a beam that leaves 0.1 m beside the centre is off by, in degrees."""
    range_m = np.sqrt(np.square(points_m.astype(np.float64)).sum(axis=1)).clip(0.1)
    return np.stack((_elevation_deg(points_m), np.degrees(0.1 / range_m)), axis=1)


def _elevation_deg(points_m: NDArray[np.float32]) -> NDArray[np.float64]:
    x, y, z = points_m.astype(np.float64).T
    return np.asarray(np.degrees(np.arctan2(z, np.hypot(x, y))))


def _nearest(centers: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.int64]:
    """[N] place of the centre, of those in ascending order, that each value is nearest to."""
    return np.searchsorted((centers[1:] + centers[:-1]) / 2, values).astype(np.int64)
