"""Density- and category-aware probabilities by direct evaluation: every pair against every pair."""

from collections import Counter

import numpy as np


def density(range_m, bin_m):
    """Gaussian kernel estimate at each pair's range bin, as the mean of one kernel per pair."""
    bins = np.floor(np.asarray(range_m) / bin_m).astype(np.float64)
    width = 1.06 * np.sqrt(((bins - bins.mean()) ** 2).sum() / (len(bins) - 1)) * len(bins) ** (-1 / 5)
    return np.array(
        [np.mean([np.exp(-(((at - b) / width) ** 2) / 2) for b in bins]) / (width * np.sqrt(2 * np.pi)) for at in bins]
    )


def probabilities(range_m, labels, bin_m):
    """1 / (f(ρ_i) · n_{y_i}) of the pairs of known label, summing to 1."""
    sizes = Counter(labels)
    estimate = density(range_m, bin_m)
    weights = np.array(
        [0.0 if y == 255 else 1 / (estimate[i] * sizes[y]) for i, y in enumerate(labels)]  # unknown: never drawn
    )
    return weights / weights.sum()
