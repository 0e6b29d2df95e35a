"""Diagnostics of an embedding, row by row in Python floats, from the formulas."""

from math import exp, log

import numpy as np


def alignment(first, second):
    """mean_i ‖x_i − y_i‖² of unit vectors."""
    pairs = [(_unit(x), _unit(y)) for x, y in zip(first, second, strict=True)]
    return sum(_squared_distance(x, y) for x, y in pairs) / len(pairs)


def uniformity(features):
    """log mean_{i≠j} e^{−2‖x_i − x_j‖²} of unit vectors."""
    rows = [_unit(x) for x in features]
    kernel = [exp(-2 * _squared_distance(x, y)) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]
    return log(sum(kernel) / len(kernel))


def effective_rank(features):
    """Exponential of the entropy of the normalised singular values of the unit rows."""
    sigma = np.linalg.svd(np.array([_unit(x) for x in features]), compute_uv=False)
    shares = [float(value) for value in sigma / sigma.sum()]
    return exp(-sum(share * log(share) for share in shares if share > 0))


def _unit(x):
    length = sum(value * value for value in x) ** 0.5
    return [value / length for value in x]


def _squared_distance(x, y):
    return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))
