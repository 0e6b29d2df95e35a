"""Whether a calibration can be right at all, judged by one scan: mistakes of form, with their likely mend.

What is looked for are slips in writing a calibration down: the transform the wrong way round, a quaternion in the other
order, a camera's body axes taken for its optical ones, width and height swapped, intrinsics of another resolution or in
millimetres. Small errors, and what looks right by chance, are for `olivine check`, which compares edges of points and
pictures.

A right transform puts the LiDAR's up upwards in the picture, and has points in view. Some slips leave both as they are:
a rotation by half a turn is its own reverse (a camera that looks against the LiDAR's y axis), and the quaternion of a
camera that looks along its x axis, ±½ four times, is nearly itself in the other order. Of a rig one such camera does
not matter, since all cameras share the slip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olivine.calibration.lens import CameraModel, wrong_size
from olivine.calibration.rig import Calibration, CameraCalibration
from olivine.errors import UserError
from olivine.geometry import Float, invert, quaternion_from_rotation, rigid_transform, transform_points

TURNED_DEG = 12.0
"""A picture whose up is turned this far from the LiDAR's z is not upright; those of the real samples are within 2°."""

UPRIGHT_DEG = 6.0
"""And a mend is believed that has it nearer than this."""

STEEP_DEG = 65.0
"""A camera that looks up or down by more has no upright; a mend must have it by half of this at most."""

SEEN = 0.002
"""A camera that sees less than this share of a scan sees nothing to speak of; those of the real samples see 8 % to
18 %. A mend must see five times as much."""

SHORTEST_FOCAL = 0.1
"""A focal length below this share of the image's side is no number of pixels: it would see 157°."""

_FEWEST_POINTS = 200
_SECTORS = 36
_AROUND = 0.9
"""A LiDAR looks around where it has points in this share of the sectors of its horizon."""

_OPTICAL_FROM_BODY = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
_READINGS = (
    "read the other way round, as lidar_from_camera",
    "with the quaternion's numbers read as w x y z",
    "with the quaternion's numbers read as x y z w",
    "with the camera's axes turned from x forward, z up to x right, y down, z forward",
    "read the other way round and the quaternion as w x y z",
    "read the other way round and the quaternion as x y z w",
)


@dataclass(frozen=True)
class View:
    """How a camera would see a scan.

    Attributes:
        seen: share of the points that fall on the picture.
        roll_deg: angle in the picture between its up and the LiDAR's z.
        pitch_deg: angle of the optical axis above the LiDAR's horizon.
    """

    seen: float
    roll_deg: float
    pitch_deg: float

    @property
    def upright(self) -> bool:
        """Whether it could be the view of a camera that is mounted upright."""
        return abs(self.roll_deg) < TURNED_DEG and abs(self.pitch_deg) < STEEP_DEG

    @property
    def convincing(self) -> bool:
        """Whether another reading of a transform that gives this view is taken for what was meant."""
        upright = abs(self.roll_deg) < UPRIGHT_DEG and abs(self.pitch_deg) < STEEP_DEG / 2
        return upright and self.seen >= 5 * SEEN


def require_plausible(
    calibration: Calibration, points_m: Float | None = None, sizes: Mapping[str, tuple[int, int]] | None = None
) -> None:
    """Refuse a calibration that cannot be right.

    Args:
        calibration: all cameras of the vehicle; they are judged together.
        points_m: [N, 3] points of a scan in the common LiDAR frame, metres; rows without return may be among them.
            None judges the lenses alone.
        sizes: (width, height) of each camera's images, pixels, where known.

    Raises:
        UserError: a lens does not fit the images, or the transform of a camera is not plausible and another reading of
            it is; the likely mend is said.
    """
    known = {name: (sizes or {}).get(name, camera.model.size) for name, camera in calibration.cameras.items()}
    for name, camera in calibration.cameras.items():
        fault = lens_fault(camera.model, known[name])
        if fault:
            raise UserError(f"{calibration.source}: camera {name}: {fault}")
    if points_m is not None:
        fault = transform_fault(calibration.cameras, points_m, known)
        if fault:
            raise UserError(f"{calibration.source}: {fault}")


def lens_fault(model: CameraModel, size: tuple[int, int] | None) -> str:
    """What is wrong between a lens and images of (width, height), with the likely mend; empty where nothing is."""
    if model.size is not None and size is not None and model.size != size:
        return wrong_size(model.size, size)
    if size is None:
        return ""
    (fx, _, cx), (_, fy, cy) = model.intrinsics[:2]
    width, height = size
    if min(fx / width, fy / height) < SHORTEST_FOCAL:
        return f"focal lengths of {fx:g} and {fy:g} for images of {width}×{height}; fx and fy must be in pixels"
    if 0 <= cx < width and 0 <= cy < height:
        return ""
    said = f"the principal point ({cx:g}, {cy:g}) lies outside the image of {width}×{height}"
    if 0 <= cx < height and 0 <= cy < width:
        return f"{said}; width and height, or cx and cy, look swapped"
    return f"{said}; the intrinsics look like those of another resolution, scale them with the images"


def transform_fault(
    cameras: Mapping[str, CameraCalibration], points_m: Float, sizes: Mapping[str, tuple[int, int] | None]
) -> str:
    """What is wrong with where cameras stand, with the likely mend; empty where all is plausible or cannot be told.

    Args:
        cameras: by name.
        points_m: [N, 3] points of a scan in the common LiDAR frame, metres.
        sizes: (width, height) of each camera's images, pixels; a camera without is not judged.
    """
    points = np.asarray(points_m, np.float64)
    points = points[np.isfinite(points).all(axis=1) & (points != 0).any(axis=1)]
    if len(points) < _FEWEST_POINTS:
        return ""
    around = _looks_around(points)
    given: dict[str, View] = {}
    readings: dict[str, list[View]] = {}
    for name, camera in cameras.items():
        size = sizes.get(name)
        if camera.upright and size is not None:
            given[name] = view_of(camera.camera_from_lidar, camera.model, points, size)
            others = _readings(camera.camera_from_lidar)
            readings[name] = [view_of(other, camera.model, points, size) for other in others]
    suspect = [name for name, view in given.items() if not view.upright or (around and view.seen < SEEN)]
    mends = [place for place in range(len(_READINGS)) if all(readings[name][place].convincing for name in suspect)]
    if not suspect or not mends:
        return ""
    counts = {place: sum(views[place].convincing for views in readings.values()) for place in mends}
    return _described(suspect[0], given, readings, [place for place in mends if counts[place] == max(counts.values())])


def _described(name: str, given: dict[str, View], readings: dict[str, list[View]], mends: list[int]) -> str:
    """The fault of the first camera that has one, and the readings that would mend it, the likeliest first."""
    view, mended = given[name], readings[name][mends[0]]
    other = f" (or {_READINGS[mends[1]]})" if len(mends) > 1 else ""
    return (
        f"camera {name}: its place is not plausible, {view.seen:.1%} of the points are in view and the picture's up is "
        f"{view.roll_deg:.0f}° from the LiDAR's z (pitch {view.pitch_deg:.0f}°). {_READINGS[mends[0]].capitalize()}, "
        f"these are {mended.seen:.1%} and {mended.roll_deg:.0f}°{other}. Of a camera that is mounted turned say "
        "`upright: false`"
    )


def view_of(camera_from_lidar: Float, model: CameraModel, points_m: Float, size: tuple[int, int]) -> View:
    """How a camera at a place would see points; distortion is left aside, as in a picture that is rectified.

    Args:
        camera_from_lidar: [4, 4], metres.
        model: the lens.
        points_m: [N, 3] points of the LiDAR frame, metres.
        size: (width, height), pixels.
    """
    x, y, z = transform_points(camera_from_lidar, points_m).T
    (fx, _, cx), (_, fy, cy) = model.intrinsics[:2]
    level = np.abs(x * fx + z * (cx - size[0] / 2)) < z * size[0] / 2
    inside = level & (np.abs(y * fy + z * (cy - size[1] / 2)) < z * size[1] / 2)
    up = np.asarray(camera_from_lidar, np.float64)[:3, 2]
    roll = np.degrees(np.arctan2(up[0], -up[1]))
    pitch = np.degrees(np.arcsin(np.clip(up[2], -1, 1)))
    return View(float(inside.mean()), float(roll), float(pitch))


def _looks_around(points_m: NDArray[np.float64]) -> bool:
    """Whether a LiDAR has points on all sides; one that has not may well leave a camera without any."""
    sector = np.floor((np.arctan2(points_m[:, 1], points_m[:, 0]) / np.pi + 1) / 2 * _SECTORS).astype(int)
    return len(np.unique(sector % _SECTORS)) >= _AROUND * _SECTORS


def _readings(transform: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """What else may have been meant by a transform, in the order of `_READINGS`: the likeliest first."""
    w, x, y, z = quaternion_from_rotation(transform[:3, :3])
    # The same four numbers: w x y z that were taken for x y z w, and the reverse.
    as_wxyz = rigid_transform(np.array([x, y, z, w]), transform[:3, 3])
    as_xyzw = rigid_transform(np.array([z, w, x, y]), transform[:3, 3])
    turned = _OPTICAL_FROM_BODY @ transform
    return [invert(transform), as_wxyz, as_xyzw, turned, invert(as_wxyz), invert(as_xyzw)]
