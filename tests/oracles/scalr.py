"""ScaLR's loss pair by pair, in Python floats."""

from math import sqrt


def distance(k, q, kind):
    """mean_i ‖k_i/|k_i| − q_i/|q_i|‖ (l2) or mean_i 1 − cos(k_i, q_i) (cosine); k, q lists of vectors."""
    total = 0.0
    for point, pixel in zip(k, q, strict=True):
        a, b = _unit(point), _unit(pixel)
        if kind == "l2":
            total += sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))
        else:
            total += 1 - sum(x * y for x, y in zip(a, b, strict=True))
    return total / len(k)


def _unit(vector):
    length = sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]
