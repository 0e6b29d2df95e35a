"""PointInfoNCE of two clouds in Python floats, from the formula, with its gradient."""

from math import exp, log

import numpy as np


def loss(first, second, match, temperature):
    """−1/|P| Σ_{(i,j) ∈ P} log( e^{f_i·g_j/τ} / Σ_{(·,l) ∈ P} e^{f_i·g_l/τ} ) (2007.10985, equation 2).

    Args:
        first: [V, D] unit features of the first view.
        second: [W, D] unit features of the second view.
        match: the set P of matching (row of first, row of second).
        temperature: τ.
    """
    total = 0.0
    for i, j in match:
        every = sum(exp(float(first[i] @ second[other]) / temperature) for _, other in match)
        total -= log(exp(float(first[i] @ second[j]) / temperature) / every)
    return total / len(match)


def gradient(first, second, match, temperature):
    """Gradients with respect to both sets of features, written out: the softmax less the identity, over |P| τ."""
    to_first, to_second = np.zeros_like(first), np.zeros_like(second)
    for i, j in match:
        powers = [exp(float(first[i] @ second[other]) / temperature) for _, other in match]
        for power, (_, other) in zip(powers, match, strict=True):
            factor = (power / sum(powers) - (other == j)) / (len(match) * temperature)
            to_first[i] += factor * second[other]
            to_second[other] += factor * first[i]
    return to_first, to_second
