"""`write_scan`: points with what is known of each, as .pcd, .ply, .las or .laz, for viewers and other programs.

The same points make the same bytes, and a file is whole or absent.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.errors import MissingExtraError, UserError
from olivine.files import write_bytes
from olivine.scans.ply import TYPES

Columns = Mapping[str, NDArray[Any]]
"""Columns by name: [N] numbers; `rgb` is [N, 3] uint8."""

Origin = tuple[float, float, float]
"""What is added to the coordinates, metres; see `Scan.origin_m`."""

LAS_STEP_M = 1e-3
"""Coordinates of a LAS file are whole multiples of it."""

_LAS_DAY = slice(90, 94)
"""Bytes of a LAS header that hold the day and year of its creation, 0 where they are not said."""

_TAKEN = ("x", "y", "z", "red", "green", "blue")
"""Names that coordinates and colours have."""

_NAMES = {code: name for name, code in reversed(TYPES.items())}
"""PLY's names of numpy's types."""


def write_scan(
    path: Path, points_m: NDArray[np.floating], columns: Columns, origin_m: Origin = (0.0, 0.0, 0.0)
) -> None:
    """Write points.

    Args:
        path: the file; its suffix, one of `WRITABLE`, says the format.
        points_m: [N, 3] float32, metres. Rows that are no return may be NaN, but in LAS.
        columns: by name, e.g. `class` uint8 or uint16 [N], `confidence` float32 [N], `intensity` [N], and `rgb` uint8
            [N, 3]. In LAS, a `class` to 255 is the classification, an `intensity` of whole numbers to 65535 the
            intensity, the colour has 16 bits, and everything else is extra bytes under its name.
        origin_m: what is added to the points, so that a map's coordinates are written as they were read; coordinates
            are float64 then.

    Raises:
        UserError: no such format; a column of another length, shape or type; points without return in LAS; the disk is
            full; or MissingExtraError where laspy is not installed.
    """
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise UserError(f"{path}: cannot write a cloud of this suffix; use one of {', '.join(WRITABLE)}")
    for name, values in columns.items():
        shape = (len(points_m), 3) if name == "rgb" else (len(points_m),)
        if values.shape != shape or (name == "rgb" and values.dtype != np.uint8) or values.dtype.kind not in "fiub":
            raise UserError(f"{path}: column {name!r} is {values.dtype} of shape {values.shape}, and {shape} is due")
        if name in _TAKEN or not re.fullmatch(r"[A-Za-z_]\w{0,31}", name, re.ASCII):
            raise UserError(f"{path}: a column cannot be named {name!r}")
    # Formats know no half floats and no truth values.
    kinds = {"float16": np.float32, "bool": np.uint8}
    plain = {name: values.astype(kinds.get(values.dtype.name, values.dtype)) for name, values in columns.items()}
    write_bytes(path, writer(path, points_m, plain, origin_m))


def _coordinates(points_m: NDArray[np.floating], origin: Origin) -> NDArray[Any]:
    """[N, 3] float32, or float64 where they have an origin."""
    return points_m.astype(np.float64) + np.array(origin) if any(origin) else points_m.astype(np.float32, copy=False)


def _rows(points: NDArray[Any], columns: Mapping[str, NDArray[Any]]) -> NDArray[np.void]:
    """Packed little-endian rows."""
    parts = {axis: points[:, place] for place, axis in enumerate("xyz")} | dict(columns)
    types = [(name, part.dtype.newbyteorder("<")) for name, part in parts.items()]
    rows = np.empty(len(points), types)
    for name, part in parts.items():
        rows[name] = part
    return rows


def _pcd(path: Path, points_m: NDArray[np.floating], columns: Columns, origin: Origin) -> bytes:
    """Packed PCD 0.7, with the colour as its library packs it: 0x00RRGGBB in the bits of a float."""
    del path
    plain = {name: values for name, values in columns.items() if name != "rgb"}
    if "rgb" in columns:
        red, green, blue = columns["rgb"].astype(np.uint32).T
        plain["rgb"] = (red << 16 | green << 8 | blue).view(np.float32)
    rows = _rows(_coordinates(points_m, origin), plain)
    types = [rows.dtype[name] for name in rows.dtype.names or ()]
    header = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\n"
        f"FIELDS {' '.join(rows.dtype.names or ())}\n"
        f"SIZE {' '.join(str(kind.itemsize) for kind in types)}\n"
        f"TYPE {' '.join(kind.kind.upper() for kind in types)}\n"
        f"COUNT {' '.join('1' for _ in types)}\n"
        f"WIDTH {len(rows)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(rows)}\nDATA binary\n"
    )
    return header.encode() + rows.tobytes()


def _ply(path: Path, points_m: NDArray[np.floating], columns: Columns, origin: Origin) -> bytes:
    """Packed little-endian PLY, with the colour as red, green and blue."""
    plain = {name: values for name, values in columns.items() if name != "rgb"}
    if "rgb" in columns:
        plain |= {name: columns["rgb"][:, place] for place, name in enumerate(("red", "green", "blue"))}
    rows = _rows(_coordinates(points_m, origin), plain)
    lines = []
    for name in rows.dtype.names or ():
        kind = rows.dtype[name].str[1:]
        if kind not in _NAMES:
            raise UserError(f"{path}: PLY has no type for column {name!r} of {rows.dtype[name]}; make it smaller")
        lines.append(f"property {_NAMES[kind]} {name}\n")
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(rows)}\n{''.join(lines)}end_header\n"
    return header.encode() + rows.tobytes()


def _las(path: Path, points_m: NDArray[np.floating], columns: Columns, origin: Origin) -> bytes:
    """LAS 1.4, of points with a colour where there is one."""
    try:
        import laspy
    except ImportError as error:
        raise MissingExtraError("laspy", "logs") from error
    if not np.isfinite(points_m).all():
        raise UserError(f"{path}: LAS has no place for points without return; leave them out, or write .pcd or .ply")
    header = laspy.LasHeader(version="1.4", point_format=7 if "rgb" in columns else 6)
    header.scales, header.offsets = np.full(3, LAS_STEP_M), np.array(origin)
    header.generating_software = "olivine"
    header.global_encoding.wkt = True  # as point formats from 6 on require, with or without a coordinate system
    standard, extra = _las_parts(columns, len(points_m))
    taken = sorted(set(extra) & set(header.point_format.dimension_names))
    if taken:
        raise UserError(f"{path}: a column cannot be named {taken[0]!r}, which LAS has for itself")
    header.add_extra_dims([laspy.ExtraBytesParams(name, values.dtype) for name, values in extra.items()])
    steps = np.rint(points_m.astype(np.float64) / LAS_STEP_M)
    if len(steps) and np.abs(steps).max() > np.iinfo(np.int32).max:
        raise UserError(f"{path}: LAS cannot hold points {np.abs(points_m).max():g} m from their origin")
    record = laspy.ScaleAwarePointRecord.zeros(len(points_m), header=header)
    for place, axis in enumerate("XYZ"):
        record[axis] = steps[:, place].astype(np.int32)
    for name, values in {**standard, **extra}.items():
        record[name] = values
    file = io.BytesIO()
    # One thread: the bytes must not depend on how many there are.
    packed = {"do_compress": True, "laz_backend": laspy.LazBackend.Lazrs} if path.suffix.lower() == ".laz" else {}
    with laspy.open(file, "w", header=header, closefd=False, **packed) as writer:
        writer.write_points(record)
    content = bytearray(file.getvalue())
    content[_LAS_DAY] = bytes(4)  # where laspy writes today, though files of the same points are to be the same
    return bytes(content)


def _las_parts(columns: Columns, count: int) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """What has a place in every LAS file, by laspy's names, and what is extra."""
    extra = {name: values for name, values in columns.items() if name != "rgb"}
    one = np.ones(count, np.uint8)
    standard: dict[str, NDArray[Any]] = {"return_number": one, "number_of_returns": one}
    if "rgb" in columns:
        wide = columns["rgb"].astype(np.uint16) << 8
        standard |= {name: wide[:, place] for place, name in enumerate(("red", "green", "blue"))}
    if "class" in extra and _fits(extra["class"], 255):
        standard["classification"] = extra.pop("class").astype(np.uint8)
    if "intensity" in extra:
        if _fits(extra["intensity"], 65535):
            standard["intensity"] = extra.pop("intensity").astype(np.uint16)
        else:
            extra["intensity_raw"] = extra.pop("intensity")
    return standard, extra


def _fits(values: NDArray[Any], top: int) -> bool:
    return bool(((values >= 0) & (values <= top) & (values == np.floor(values))).all())


_WRITERS: dict[str, Callable[[Path, NDArray[np.floating], Columns, Origin], bytes]] = {
    ".pcd": _pcd,
    ".ply": _ply,
    ".las": _las,
    ".laz": _las,
}

WRITABLE = tuple(_WRITERS)
"""Suffixes that `write_scan` writes."""
