"""PCD, the point cloud library's format, in all its variants: https://pointclouds.org/documentation/tutorials/pcd_file_format.html.

A header of text lines names the fields; rows follow as text, packed, or compressed by LZF field by field.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from olivine.errors import MissingExtraError, UserError, printable
from olivine.reading import SCAN_BYTES, read_file
from olivine.scans.columns import ScanColumns
from olivine.scans.records import scan_from_records
from olivine.scans.scan import Scan
from olivine.scans.tables import packed_rows, refuse_rest, refuse_too_many, text_rows

MAX_HEADER = 1 << 16
"""No header is longer, bytes."""

MAX_ROW = 1 << 12
"""No point has more bytes."""

LZF_RATIO = 88
"""LZF spends 3 bytes on at most 264, so that compressed bytes bound the size of what they hold."""

_ENCODINGS = ("ascii", "binary", "binary_compressed")
_UPRIGHT = ["0", "0", "0", "1", "0", "0", "0"]


@dataclass(frozen=True)
class PcdHeader:
    """What a header says.

    Attributes:
        dtype: a row; fields with COUNT above 1 are arrays, and fields named `_` have numbers behind it.
        points: their number.
        encoding: `ascii`, `binary` or `binary_compressed`.
        notes: what is said and not followed.
    """

    dtype: np.dtype[np.void]
    points: int
    encoding: str
    notes: tuple[str, ...] = ()


def read_pcd(path: Path, columns: ScanColumns) -> Scan:
    """Read a PCD file; see `olivine.scans.files.read_scan`."""
    header, records = read_pcd_records(path)
    return scan_from_records(records, str(path), columns=columns, notes=header.notes)


def read_pcd_records(path: Path) -> tuple[PcdHeader, NDArray[np.void]]:
    """The rows of a PCD file, [N] structured.

    Raises:
        UserError: broken, truncated, or claiming more than the file can hold; MissingExtraError where a compressed
            file needs the extra `logs`.
    """
    content, source = read_file(path, "this cloud"), str(path)
    header, start = parse_header(content, source)
    body = memoryview(content)[start:]
    if header.encoding == "ascii":
        return header, text_rows(bytes(body), header.dtype, header.points, source)
    if header.encoding == "binary":
        return header, packed_rows(body, header.dtype, header.points, source)
    return header, _decompressed(body, header, source)


def parse_header(content: bytes, source: str) -> tuple[PcdHeader, int]:
    """The header, and where the body begins.

    Raises:
        UserError: what stands there is no header, or claims more points than any scan has.
    """
    if not content:
        raise UserError(f"{source}: an empty file; it has no header of PCD")
    lines, start = _header_lines(content, source)
    sizes = _numbers(lines, "SIZE", source)
    names = _words(lines, "COLUMNS" if "COLUMNS" in lines else "FIELDS", source)
    counts = _numbers(lines, "COUNT", source) if "COUNT" in lines else [1] * len(names)
    kinds = _words(lines, "TYPE", source)
    if not len(names) == len(sizes) == len(kinds) == len(counts):
        raise UserError(
            f"{source}: broken header: {len(names)} FIELDS, {len(sizes)} SIZE, {len(kinds)} TYPE and {len(counts)} "
            "COUNT; each field needs one of each"
        )
    encoding = lines["DATA"][0].lower() if lines["DATA"] else ""
    if encoding not in _ENCODINGS:
        raise UserError(f"{source}: broken header: DATA is {printable(encoding)!r}, none of {', '.join(_ENCODINGS)}")
    turned = lines.get("VIEWPOINT", _UPRIGHT)
    notes = () if _upright(turned) else (f"VIEWPOINT {printable(' '.join(turned))} is not applied to the points",)
    points = _point_count(lines, source)
    return PcdHeader(_row_type(names, sizes, kinds, counts, source), points, encoding, notes), start


def _header_lines(content: bytes, source: str) -> tuple[dict[str, list[str]], int]:
    """The words behind each key, and where the line after DATA begins."""
    lines: dict[str, list[str]] = {}
    start = 0
    while start < min(len(content), MAX_HEADER):
        stop = content.find(b"\n", start)
        stop = len(content) if stop < 0 else stop
        words = content[start : min(stop, start + MAX_HEADER)].decode("utf-8", errors="replace").split()
        start = stop + 1
        if not words or words[0].startswith("#"):
            continue
        key = words[0].upper()
        if key in lines:
            raise UserError(f"{source}: broken header: it says {printable(key)} twice")
        lines[key] = words[1:]
        if key == "DATA":
            return lines, start
    raise UserError(f"{source}: broken header: it has no line DATA; it is no PCD file, or its beginning is cut off")


def _words(lines: dict[str, list[str]], key: str, source: str) -> list[str]:
    if not lines.get(key):
        raise UserError(f"{source}: broken header: it lacks {key}")
    return lines[key]


def _numbers(lines: dict[str, list[str]], key: str, source: str) -> list[int]:
    words = _words(lines, key, source)
    if not all(word.isascii() and word.isdigit() and len(word) < 20 for word in words):
        raise UserError(f"{source}: broken header: {key} {printable(' '.join(words)[:80])} are not whole numbers")
    return [int(word) for word in words]


def _point_count(lines: dict[str, list[str]], source: str) -> int:
    width = _numbers(lines, "WIDTH", source)[0]
    height = _numbers(lines, "HEIGHT", source)[0] if "HEIGHT" in lines else 1
    points = _numbers(lines, "POINTS", source)[0] if "POINTS" in lines else width * height
    if points != width * height:
        raise UserError(
            f"{source}: broken header: POINTS {points} is not WIDTH {width} × HEIGHT {height}; correct the wrong one"
        )
    refuse_too_many(points, source)
    return points


def _row_type(
    names: list[str], sizes: list[int], kinds: list[str], counts: list[int], source: str
) -> np.dtype[np.void]:
    columns = []
    for place, (name, size, kind, count) in enumerate(zip(names, sizes, kinds, counts, strict=True)):
        code = f"<{kind.lower()}{size}"
        if code not in ("<f4", "<f8", *(f"<{sign}{width}" for sign in "iu" for width in (1, 2, 4, 8))):
            raise UserError(
                f"{source}: broken header: field {printable(name)!r} is of TYPE {printable(kind)} and SIZE {size}, "
                "which is no number"
            )
        if not 1 <= count <= MAX_ROW:
            raise UserError(f"{source}: broken header: field {printable(name)!r} has COUNT {count}")
        shown = f"_{place}" if name == "_" else printable(name)
        columns.append((shown, code, (count,)) if count > 1 else (shown, code))
    try:
        dtype = np.dtype(columns)
    except ValueError as error:
        raise UserError(f"{source}: broken header: it names a field twice ({error})") from error
    if dtype.itemsize > MAX_ROW:
        raise UserError(f"{source}: broken header: its points of {dtype.itemsize} bytes are larger than any scan's")
    return dtype


def _upright(viewpoint: list[str]) -> bool:
    try:
        return [float(word) for word in viewpoint] == [float(word) for word in _UPRIGHT]
    except ValueError:
        return False


def _decompressed(body: memoryview, header: PcdHeader, source: str) -> NDArray[np.void]:
    """Rows from fields that were stored one after the other."""
    due = header.points * header.dtype.itemsize
    if len(body) < 8:
        if due or any(body):
            raise UserError(f"{source}: truncated: {len(body)} bytes follow its header, which are no compressed points")
        return np.empty(0, header.dtype)
    packed, raw = struct.unpack("<II", body[:8])
    if raw != due:
        raise UserError(
            f"{source}: {raw} bytes are compressed in it, and {header.points} points of {header.dtype.itemsize} bytes "
            f"are {due}; the header does not describe this file"
        )
    if packed > len(body) - 8:
        raise UserError(f"{source}: truncated: {packed} compressed bytes are due, and {len(body) - 8} follow")
    if raw > min(packed * LZF_RATIO, SCAN_BYTES):
        raise UserError(f"{source}: {packed} compressed bytes cannot hold the {raw} that its header claims")
    refuse_rest(body[8 + packed :], header.points, source)
    columns = memoryview(_lzf(bytes(body[8 : 8 + packed]), raw, source))
    rows, start = np.empty(header.points, header.dtype), 0
    for name in header.dtype.names or ():
        kind = header.dtype[name]
        stop = start + header.points * kind.itemsize
        rows[name] = np.frombuffer(columns[start:stop], kind.base).reshape(header.points, *kind.shape)
        start = stop
    return rows


def _lzf(packed: bytes, size: int, source: str) -> bytes:
    """`size` bytes out of LZF."""
    if not size:
        return b""
    try:
        import lzf  # comes with pypcd4
    except ImportError as error:
        raise MissingExtraError("pypcd4", "logs") from error
    try:
        raw: bytes | None = lzf.decompress(packed, size)
    except ValueError as error:
        raise UserError(f"{source}: its compressed points are damaged ({error})") from error
    if raw is None or len(raw) != size:
        raise UserError(f"{source}: its compressed points are damaged: they do not make {size} bytes")
    return raw
