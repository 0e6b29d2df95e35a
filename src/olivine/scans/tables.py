"""Rows of points in text or as packed bytes, for the formats whose header names the fields."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.errors import UserError, printable

MAX_POINTS = 1 << 25
"""No file of one cloud holds more points: 34 million, 512 MiB of float32 x, y, z, intensity."""


MAX_BLANK = 1000
"""A text has no more blank lines than points, and these."""


def refuse_too_many(points: int, source: str) -> None:
    """Refuse a number of points that no scan has, before anything of that size is made.

    Raises:
        UserError: there are more than `MAX_POINTS`, or less than none.
    """
    if not 0 <= points <= MAX_POINTS:
        raise UserError(
            f"{source}: its header claims {points} points, of which no scan has more than {MAX_POINTS}; "
            "split a map into scans"
        )


def packed_rows(body: bytes | memoryview, dtype: np.dtype[np.void], points: int, source: str) -> NDArray[np.void]:
    """The rows at the start of `body`; what follows them may be zeros alone.

    Raises:
        UserError: too few bytes, or more than the header accounts for.
    """
    due = points * dtype.itemsize
    if len(body) < due:
        raise UserError(
            f"{source}: truncated: {points} points of {dtype.itemsize} bytes are {due} bytes, and {len(body)} follow "
            "its header"
        )
    refuse_rest(body[due:], points, source)
    return np.frombuffer(body, dtype, count=points)


def refuse_rest(rest: bytes | memoryview, points: int, source: str) -> None:
    """Refuse bytes behind the points that are not padding.

    Raises:
        UserError: they are not all zero.
    """
    if any(rest):
        raise UserError(
            f"{source}: {len(rest)} bytes follow the {points} points that its header states; the header does not "
            "describe this file"
        )


def text_rows(body: bytes, dtype: np.dtype[np.void], points: int, source: str) -> NDArray[np.void]:
    """The rows of a text, values apart by white space; a whole number may be written as a float (`12.0`).

    Args:
        body: the text.
        dtype: names and types of the columns.
        points: their number by the header.
        source: the file, for messages.

    Raises:
        UserError: another number of rows or columns, or a value that its type does not hold.
    """
    width = sum(int(np.prod(dtype[name].shape, dtype=int)) for name in dtype.names or ())
    if points * width * 2 - 1 > len(body):  # a letter and a blank for each value, before anything of that size is made
        raise UserError(f"{source}: truncated: {len(body)} bytes of text do not hold {points} points of {width} values")
    if body.count(b"\n") > 2 * points + MAX_BLANK:
        raise UserError(f"{source}: its header states {points} points, and {body.count(10)} lines follow")
    if not body.strip():
        return _refuse_other(np.empty(0, dtype), points, source)
    try:
        try:
            rows = _parsed(body, dtype)
        except ValueError:
            rows = _cast(_parsed(body, _as_floats(dtype)), dtype, source)
    except ValueError as error:
        raise UserError(f"{source}: not a table of {width} numbers a row: {_strange(body, width, error)}") from error
    return _refuse_other(rows, points, source)


def _strange(body: bytes, width: int, error: ValueError) -> str:
    """What is wrong with a text that is no table."""
    for place, line in enumerate(body.splitlines(), start=1):
        words = len(line.split())
        if words not in (0, width):
            return f"line {place} after the header has {words}"
    return printable(" ".join(str(error).split()))


def _parsed(body: bytes, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    with io.TextIOWrapper(io.BytesIO(body), encoding="ascii") as lines:
        parsed: NDArray[Any] = np.loadtxt(lines, dtype, comments=None, ndmin=1)
    return parsed


def _refuse_other(rows: NDArray[np.void], points: int, source: str) -> NDArray[np.void]:
    """The rows, where they are as many as the header states."""
    if len(rows) != points:
        raise UserError(f"{source}: its header states {points} points, and {len(rows)} rows follow")
    return rows


def _as_floats(dtype: np.dtype[np.void]) -> np.dtype[np.void]:
    return np.dtype([(name, np.float64, dtype[name].shape) for name in dtype.names or ()])


def _cast(rows: NDArray[np.void], dtype: np.dtype[np.void], source: str) -> NDArray[np.void]:
    """Floats in their columns' types."""
    cast = np.empty(len(rows), dtype)
    for name in dtype.names or ():
        values, kind = rows[name], dtype[name].base
        if kind.kind in "iu":
            bounds = np.iinfo(kind)
            held = (values == np.floor(values)) & (values >= bounds.min) & (values <= bounds.max)
            if not held.all():
                raise UserError(f"{source}: its field {name} of type {kind} holds {values[~held][0]:g}")
        cast[name] = values
    return cast
