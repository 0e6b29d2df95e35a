"""Which pairs weak labels teach in a step: a draw that evens out range and class.

LiDAR points crowd near the sensor and in a few classes; density- and category-aware sampling draws pair i with
probability ∝ 1 / (f(ρ_i) · n_{y_i}), where f is the density of pairs over the range ρ and n_y the number of pairs of
class y. All draws are made on the CPU, so that every device learns from the same pairs.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from olivine.data.masks import UNKNOWN

Sampling = Literal["density_category", "density", "category", "uniform"]


def range_density(range_m: Tensor, bin_m: float) -> Tensor:
    """Density of pairs over the range, at each pair: a Gaussian kernel estimate over integer range bins.

    The ranges are floored to bins, and the kernel has Silverman's width 1.06 · σ · n^(−1/5), σ being the (n − 1)
    standard deviation of the bins. Pairs of one bin share their value, so the estimate is a histogram convolved
    with a Gaussian: O(bins²), whatever the number of pairs.

    Args:
        range_m: [P] horizontal range of each pair, metres.
        bin_m: width of a bin, metres.

    Returns:
        [P] float64 density per bin, positive; 1 where all pairs share one bin and no density can be told.
    """
    bins = torch.floor(range_m / bin_m).double()
    occupied, inverse, counts = torch.unique(bins, return_inverse=True, return_counts=True)
    if len(occupied) < 2:
        return torch.ones_like(bins)
    width = 1.06 * bins.std() * len(bins) ** -0.2
    kernel = torch.exp(-0.5 * ((occupied[:, None] - occupied) / width) ** 2)
    density: Tensor = kernel @ counts.double() / (len(bins) * width * math.sqrt(2 * math.pi))
    return density[inverse]


def pair_weights(sampling: Sampling, range_m: Tensor, labels: Tensor, bin_m: float) -> Tensor:
    """Probability of each pair in a weighted draw.

    Args:
        sampling: what is evened out: range and class, one of them, or nothing.
        range_m: [P] horizontal range of each pair, metres.
        labels: [P] integer weak labels, 255 unknown.
        bin_m: width of a range bin, metres.

    Returns:
        [P] float64, summing to 1; 0 for pairs of unknown label, and all 0 where no label is known. Unknown pairs do
        count in the density of ranges, which is that of the cloud as the cameras see it.
    """
    weights = (labels != UNKNOWN).double()
    if sampling in ("density_category", "density"):
        weights /= range_density(range_m, bin_m)
    if sampling in ("density_category", "category"):
        _, inverse, counts = torch.unique(labels, return_inverse=True, return_counts=True)
        weights /= counts[inverse]
    total = weights.sum()
    return torch.where(total > 0, weights / total, weights)


def density_category_weights(range_m: Tensor, labels: Tensor, bin_m: float) -> Tensor:
    """Density- and category-aware sampling: probability of pair i ∝ 1 / (f(ρ_i) · n_{y_i}).

    Args:
        range_m: [P] horizontal range of each pair, metres.
        labels: [P] integer weak labels, 255 unknown.
        bin_m: width of the range bins at which the density f is evaluated, metres.

    Returns:
        [P] float64 probabilities; see `pair_weights`.
    """
    return pair_weights("density_category", range_m, labels, bin_m)


def draw_weighted(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw up to `count` pairs without replacement, each next one with probability ∝ its weight.

    The smallest of exponential variates divided by the weights are such a draw (Efraimidis and Spirakis, 2006). Unlike
    `torch.multinomial` it has no limit on the number of categories and may be asked for more pairs than there are.

    Args:
        weights: [P] non-negative weights, on the CPU; pairs of weight 0 are never drawn.
        count: how many pairs to draw.
        generator: source of randomness, on the CPU.

    Returns:
        [min(count, positive weights)] int64 distinct indices in the order drawn, on the CPU.
    """
    arrival = torch.empty_like(weights).exponential_(generator=generator) / weights
    arrival.masked_fill_(weights <= 0, torch.inf)
    eligible = int(torch.count_nonzero(weights > 0))
    return arrival.topk(min(count, eligible), largest=False).indices
