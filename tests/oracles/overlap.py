"""What two rectangles share, one corner at a time in exact fractions; and greedy suppression, one pair at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

Corner = tuple[Fraction, Fraction]


def rectangle(box: Sequence[float]) -> list[Corner]:
    """The corners seen from above, counter-clockwise; the sine and cosine of the yaw are rounded, all else is exact."""
    x, y, _, dx, dy, _, yaw = map(Fraction, box)
    cos, sin = Fraction(math.cos(yaw)), Fraction(math.sin(yaw))
    signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    ends = [(along * dx / 2, across * dy / 2) for along, across in signs]
    return [(x + along * cos - across * sin, y + along * sin + across * cos) for along, across in ends]


def cut(polygon: list[Corner], start: Corner, end: Corner) -> list[Corner]:
    """The part of a convex polygon on the left of a line (Sutherland and Hodgman, 1974)."""

    def side(at: Corner) -> Fraction:
        return (end[0] - start[0]) * (at[1] - start[1]) - (end[1] - start[1]) * (at[0] - start[0])

    kept = []
    for corner, following in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        here, there = side(corner), side(following)
        if here >= 0:
            kept.append(corner)
        if here * there < 0:
            share = here / (here - there)
            kept.append(
                (corner[0] + share * (following[0] - corner[0]), corner[1] + share * (following[1] - corner[1]))
            )
    return kept


def shared_area_oracle(a: Sequence[float], b: Sequence[float]) -> float:
    """The area in both of two boxes [7] that have an area, seen from above."""
    polygon, frame = rectangle(a), rectangle(b)
    for start, end in zip(frame, frame[1:] + frame[:1], strict=True):
        polygon = cut(polygon, start, end)
    twice = sum(
        (x * to_y - to_x * y for (x, y), (to_x, to_y) in zip(polygon, polygon[1:] + polygon[:1], strict=True)),
        start=Fraction(0),
    )
    return float(twice / 2)


def suppression_oracle(iou: Sequence[Sequence[float]], scores: Sequence[float], threshold: float) -> list[int]:
    """Rows that are kept, best first, of equal scores the lower."""
    kept: list[int] = []
    for row in sorted(range(len(scores)), key=lambda row: (-scores[row], row)):
        if all(iou[better][row] <= threshold for better in kept):
            kept.append(row)
    return kept
