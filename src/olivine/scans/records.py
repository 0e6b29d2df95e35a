"""A `Scan` from records: rows with named fields, as PointCloud2 messages and most files of clouds hold them.

Fields are found by the names that drivers give them, in any case of letters. Which fields were taken, and what was left
out, stands in the scan's notes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.errors import UserError
from olivine.scans.columns import ScanColumns
from olivine.scans.scan import Scan, has_return
from olivine.scans.times import PointTimes, point_times

INTENSITIES = ("intensity", "intensities", "i", "reflectivity", "reflectance", "signal", "remission", "intensity_raw")
TIMES = ("t", "time", "timestamp", "offset_time", "time_stamp", "time_offset", "gps_time", "gpstime")
RINGS = ("ring", "channel", "line", "laser_id", "ring_id")
"""Names that drivers give these fields, the likelier before the others."""

LARGE_M = 8192.0
"""Beyond this, float32 no longer keeps the millimetre, and coordinates are stored less a whole number of metres."""

FARTHEST_M = 1e8
"""No map's coordinates are larger."""

FAR_M = 500.0
"""Most points of a LiDAR lie nearer."""


def scan_from_records(
    records: NDArray[np.void],
    source: str,
    stamp_ns: int | None = None,
    columns: ScanColumns | None = None,
    *,
    frame_id: str = "",
    notes: tuple[str, ...] = (),
) -> Scan:
    """The scan that records of points are.

    Args:
        records: [N] structured array, with x, y and z in metres, of any integer or float type and byte order, and any
            other fields; several dimensions (organised clouds) are laid out row by row.
        source: the file or topic, for messages.
        stamp_ns: time of the scan since 1970, nanoseconds, where it is known.
        columns: what the user says about the fields.
        frame_id: frame of the points, as the message names it.
        notes: what the reader has to say.

    Raises:
        UserError: no x, y, z; a field that `columns` names is missing; or one has several values per point.
    """
    columns = columns or ScanColumns()
    records = records.reshape(-1)
    fields = records.dtype.names or ()
    points, origin, said = _points(records, source)
    valid = has_return(points)
    intensity = _column(records, columns.intensity, INTENSITIES, source, said, "intensity")
    rings = _rings(records, columns, valid, source, said)
    times = _times(records, columns, valid, stamp_ns, source, said)
    return Scan(
        points_m=points,
        intensity=None if intensity is None else np.ascontiguousarray(intensity[1], dtype=np.float32),
        offsets_s=times.offsets_s,
        rings=rings,
        fields=tuple("_" if name.strip("_0123456789") == "" else name for name in fields),
        source=source,
        stamp_ns=times.stamp_ns,
        frame_id=frame_id,
        origin_m=origin,
        intensity_type=None if intensity is None else intensity[1].dtype.str[1:],
        time_form=times.form,
        notes=(*notes, *said),
    )


def _points(
    records: NDArray[np.void], source: str
) -> tuple[NDArray[np.float32], tuple[float, float, float], list[str]]:
    """Coordinates less an origin, the origin, and what is to be said about it."""
    points = np.empty((len(records), 3), np.float32)
    origin, said = [0.0, 0.0, 0.0], []
    axes = [_find(records, (axis,)) for axis in "xyz"]
    if any(axis is None or records.dtype[axis].shape for axis in axes):
        raise UserError(
            f"{source}: holds no points: x, y and z are not all, with one value each, among its fields "
            f"{', '.join(records.dtype.names or ()) or '(none)'}"
        )
    for place, axis in enumerate(axes):
        values: NDArray[Any] = np.ascontiguousarray(records[axis])
        if values.dtype.kind not in "fiu":
            raise UserError(f"{source}: its field {axis} is of type {values.dtype}, no number")
        origin[place] = _origin(values)
        with np.errstate(over="ignore"):  # what float32 does not hold becomes infinite, and so no return
            points[:, place] = values - origin[place] if origin[place] else values
    if any(origin):
        gaps = np.logical_and.reduce([records[axis] == 0 for axis in axes])
        # Zeros that mean no return must not become points, nor a point at the origin what means no return.
        points[(points == 0).all(axis=1), 0] = 1e-6
        points[gaps] = np.nan
        shift = ", ".join(f"{metres:.0f}" for metres in origin)
        said.append(f"coordinates are those of a map; they are stored less ({shift}) m, to keep the millimetre")
    elif len(points) and np.count_nonzero(np.abs(points) > FAR_M) > len(points):
        said.append(f"most coordinates exceed {FAR_M:.0f}: are they metres?")
    return points, (origin[0], origin[1], origin[2]), said


def _origin(values: NDArray[Any]) -> float:
    """What is taken off coordinates [N]: 0 of a sensor's, whole metres in the middle of a map's."""
    if not len(values) or float(np.fmax.reduce(np.abs(values.astype(np.float64, copy=False)))) <= LARGE_M:
        return 0.0
    finite = values[np.isfinite(values) & (values != 0)]
    if not len(finite):
        return 0.0
    middle = float(np.floor(np.partition(finite, len(finite) // 2)[len(finite) // 2]))  # wild points do not move it
    return middle if LARGE_M < abs(middle) < FARTHEST_M else 0.0


def _find(records: NDArray[np.void], names: tuple[str, ...]) -> str | None:
    """The first field of one of these names, in any case of letters, with or without CloudCompare's `scalar_`."""
    lower = {name.lower().removeprefix("scalar_"): name for name in reversed(records.dtype.names or ())}
    return next((lower[name] for name in names if name in lower), None)


def _column(
    records: NDArray[np.void], told: str | None, names: tuple[str, ...], source: str, said: list[str], what: str
) -> tuple[str, NDArray[Any]] | None:
    """Name and values of the field that is the `what`, or None where there is none."""
    name = told if told is not None else _find(records, names)
    if name is None:
        return None
    if name not in (records.dtype.names or ()):
        raise UserError(
            f"{source}: has no field {name!r} for the {what}; it has {', '.join(records.dtype.names or ())}"
        )
    values = records[name]
    if values.ndim > 1 or values.dtype.kind not in "fiu":
        said.append(f"{what} is left out: {name!r} holds {values.shape[1:]} of type {values.dtype} per point")
        return None
    return name, values


def _rings(
    records: NDArray[np.void], columns: ScanColumns, valid: NDArray[np.bool_], source: str, said: list[str]
) -> NDArray[np.uint16] | None:
    column = _column(records, columns.ring, RINGS, source, said, "ring")
    if column is None:
        return None
    name, values = column
    known = values[valid]
    if not (np.isfinite(known).all() and (known == np.floor(known)).all() and (known >= 0).all()) or (
        len(known) and known.max() > np.iinfo(np.uint16).max
    ):
        said.append(f"rings are left out: {name!r} holds values that are no whole numbers of 0…65535")
        return None
    return np.where(valid, values, 0).astype(np.uint16)


def _times(
    records: NDArray[np.void],
    columns: ScanColumns,
    valid: NDArray[np.bool_],
    stamp_ns: int | None,
    source: str,
    said: list[str],
) -> PointTimes:
    column = _column(records, columns.time, TIMES, source, said, "time")
    if column is None:
        return PointTimes(None, stamp_ns, None, "")
    times = point_times(*column, valid, stamp_ns, columns.time_unit, columns.time_origin)
    said += [times.note] if times.note else []
    return times


def settled_columns(scans: Iterable[Scan], columns: ScanColumns | None = None) -> ScanColumns:
    """What scans of one sensor agree on, so that all its others are understood alike, whatever each alone would tell.

    Args:
        scans: some of them.
        columns: what the user says, which stays.

    Returns:
        `columns`, with the field, unit and origin of times where the scans have times and agree.
    """
    columns = columns or ScanColumns()
    forms = {scan.time_form for scan in scans} - {None}
    if len(forms) != 1:
        return columns
    (form,) = forms
    assert form is not None
    return columns.model_copy(update={"time": form.field, "time_unit": form.unit, "time_origin": form.origin})
