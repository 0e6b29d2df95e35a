"""PLY, Stanford's polygon format: the vertices of a file, in text or packed in either byte order.

http://gamma.cs.unc.edu/POWERPLANT/papers/ply.pdf. Faces and edges that follow the vertices are not read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from olivine.errors import UserError, printable
from olivine.reading import read_file
from olivine.scans.columns import ScanColumns
from olivine.scans.records import scan_from_records
from olivine.scans.scan import Scan
from olivine.scans.tables import packed_rows, refuse_rest, refuse_too_many, text_rows

TYPES = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "float": "f4",
    "double": "f8",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "float32": "f4",
    "float64": "f8",
}
"""Numpy's names of its types."""

ORDERS = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}
"""Byte order of each encoding."""

MAX_HEADER = 1 << 16
"""No header is longer, bytes."""


@dataclass
class _Element:
    name: str
    count: int
    columns: list[tuple[str, str]] = field(default_factory=list)
    lists: bool = False


def read_ply(path: Path, columns: ScanColumns) -> Scan:
    """Read the vertices of a PLY file; see `olivine.scans.files.read_scan`."""
    return scan_from_records(read_ply_vertices(path), str(path), columns=columns)


def read_ply_vertices(path: Path) -> NDArray[np.void]:
    """The vertices of a PLY file, [N] structured.

    Raises:
        UserError: broken, truncated, claiming more than the file can hold, or without plain vertices.
    """
    content, source = read_file(path, "this cloud"), str(path)
    encoding, elements, start = _header(content, source)
    place = next((n for n, element in enumerate(elements) if element.name == "vertex"), None)
    if place is None:
        raise UserError(f"{source}: has no element vertex, and so no points")
    if any(element.lists for element in elements[: place + 1]):
        raise UserError(f"{source}: has lists before or among its vertices; write it with plain vertices first")
    refuse_too_many(elements[place].count, source)
    types = [_row_type(element, ORDERS[encoding], source) for element in elements[: place + 1]]
    count, last = elements[place].count, place == len(elements) - 1
    if encoding == "ascii":
        lines = sum(element.count for element in elements[:place])
        return text_rows(_lines(content[start:], lines, count, last), types[place], count, source)
    start += sum(element.count * kind.itemsize for element, kind in zip(elements[:place], types, strict=False))
    body = memoryview(content)[start:] if start < len(content) else memoryview(b"")
    due = count * types[place].itemsize
    if last:
        refuse_rest(body[due:], count, source)
    return packed_rows(body[:due], types[place], count, source)


def _header(content: bytes, source: str) -> tuple[str, list[_Element], int]:
    """Encoding, elements, and where the body begins."""
    encoding, elements, start, first = "", list[_Element](), 0, True
    while start < min(len(content), MAX_HEADER):
        stop = content.find(b"\n", start, MAX_HEADER)
        stop = min(len(content), MAX_HEADER) if stop < 0 else stop
        words = content[start:stop].decode("utf-8", errors="replace").split()
        start = stop + 1
        if first != (words == ["ply"]):
            break
        first = False
        if words[:1] == ["end_header"]:
            if encoding not in ORDERS:
                raise UserError(
                    f"{source}: broken header: format {printable(encoding)!r} is none of {', '.join(ORDERS)}"
                )
            return encoding, elements, start
        if words[:1] == ["format"]:
            encoding = words[1] if len(words) > 1 else ""
        else:
            _take(words, elements, source)
    raise UserError(
        f"{source}: broken header: it does not go from `ply` to `end_header`; it is no PLY file, or is cut off"
    )


def _take(words: list[str], elements: list[_Element], source: str) -> None:
    """Take in a line of the header that declares something."""
    if (
        words[:1] == ["element"]
        and len(words) == 3
        and words[2].isascii()
        and words[2].isdigit()
        and len(words[2]) < 20
    ):
        elements.append(_Element(words[1], int(words[2])))
    elif words[:2] == ["property", "list"] and elements:
        elements[-1].lists = True
    elif words[:1] == ["property"] and len(words) == 3 and words[1] in TYPES and elements:
        elements[-1].columns.append((printable(words[2]), TYPES[words[1]]))
    elif words and words[0] not in ("ply", "comment", "obj_info"):
        raise UserError(f"{source}: broken header: the line {printable(' '.join(words))[:80]!r} is not understood")


def _row_type(element: _Element, order: str, source: str) -> np.dtype[np.void]:
    try:
        return np.dtype([(name, order + kind) for name, kind in element.columns])
    except ValueError as error:
        raise UserError(f"{source}: broken header: element {printable(element.name)} names a property twice") from error


def _lines(body: bytes, skipped: int, count: int, last: bool) -> bytes:
    """The lines of the vertices; with all that follows, where nothing should, so that too many are noticed."""
    lines = body.splitlines(keepends=True)
    return b"".join(lines[skipped:] if last else lines[skipped : skipped + count])
