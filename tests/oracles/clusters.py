"""Clusters of points by the letter of their definition, a pair of points at a time."""

from __future__ import annotations

from collections import Counter


def clusters(points_m, group, reach_m):
    """Sets of rows that hang together: of one group, in the same or in touching cubes of a grid."""
    cubes = [tuple(int(value // reach_m) for value in point) for point in points_m.tolist()]
    left, found = set(range(len(cubes))), []
    while left:
        waiting, whole = [left.pop()], set()
        while waiting:
            row = waiting.pop()
            whole.add(row)
            near = {
                other
                for other in left
                if group[other] == group[row]
                and max(abs(a - b) for a, b in zip(cubes[other], cubes[row], strict=True)) <= 1
            }
            left -= near
            waiting += near
        found.append(frozenset(whole))
    return set(found)


def confusion(labels, predicted):
    """How many labelled points there are of each (true class, predicted class)."""
    return Counter((int(t), int(p)) for t, p in zip(labels, predicted, strict=True) if t != 0)
