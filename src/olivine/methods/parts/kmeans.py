"""k-means: groups of features, for methods that learn to predict them.

Written out rather than taken from a library: it runs where the features are, gives the same result whenever it is asked
(sums are matrix products, not atomic additions), and treats empty clusters as DeepCluster does.
"""

from __future__ import annotations

import torch
from torch import Tensor

_CHUNK = 16384
"""Rows that are compared with all centroids at a time."""
_SPLIT = 1 / 1024
"""Relative size of the perturbation that tells a centroid from its copy."""
_SEEDING_ROWS = 4096
_SEEDING_ROWS_PER_CLUSTER = 16
"""The first centroids are looked for among so many rows, whichever is more."""


def kmeans(points: Tensor, clusters: int, generator: torch.Generator, *, iterations: int = 20) -> Tensor:
    """Centroids of a k-means clustering (Lloyd), from k-means++ seeds (Arthur & Vassilvitskii, 2007).

    After each iteration an empty cluster takes the centroid of a non-empty one, slightly perturbed, so that the next
    iteration shares the points of that one out between the two (Caron et al., arXiv 1807.05520, sec. 3.3); larger ones
    are likelier to be split. A cluster may end empty: the last iteration may leave one, and does where there are fewer
    distinct points than clusters.

    Args:
        points: [N, D] floating-point points, N ≥ 1.
        clusters: K.
        generator: source of the seeds and perturbations, on the CPU.
        iterations: how often points are assigned and centroids moved.

    Returns:
        [K, D] centroids, of the type and on the device of `points`.
    """
    centroids = seeds(points, clusters, generator)
    for iteration in range(iterations):
        sums, counts = _sums(points, nearest(points, centroids), clusters)
        moved = sums / counts.clamp_min(1)[:, None]
        centroids = torch.where(counts[:, None] > 0, moved, centroids)
        if iteration < iterations - 1:
            centroids = split_into_empty(centroids, counts, generator)
    return centroids


def nearest(points: Tensor, centroids: Tensor) -> Tensor:
    """The centroid nearest to each point, of equally near ones the first.

    Args:
        points: [N, D] points.
        centroids: [K, D] centroids.

    Returns:
        [N] int64 row of `centroids`.
    """
    norms = centroids.square().sum(1) / 2
    return torch.cat([(norms - chunk @ centroids.T).argmin(1) for chunk in torch.split(points, _CHUNK)])


def seeds(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """First centroids by k-means++: each next one is a point drawn with probability ∝ its squared distance to the rest.

    They are looked for among at most 4096 points, or 16 per cluster where that is more, drawn uniformly, so that the
    cost does not grow with N.

    Args:
        points: [N, D] points, N ≥ 1.
        clusters: K.
        generator: source of randomness, on the CPU.

    Returns:
        [K, D] points; some twice where there are fewer distinct points than clusters.
    """
    rows = torch.randperm(len(points), generator=generator)[: max(_SEEDING_ROWS, _SEEDING_ROWS_PER_CLUSTER * clusters)]
    candidates = points[rows.to(points.device)]
    distance = torch.full((len(candidates),), torch.inf, dtype=points.dtype, device=points.device)
    chosen = [0]
    for draw in torch.rand(clusters - 1, generator=generator, dtype=torch.float64):
        distance = torch.minimum(distance, (candidates - candidates[chosen[-1]]).square().sum(1))
        # On the CPU, where running sums are the same every time. Where all distances are 0, the last row is taken.
        cumulative = distance.double().cpu().cumsum(0)
        place = int(torch.searchsorted(cumulative, draw * cumulative[-1], right=True))
        chosen.append(min(place, len(candidates) - 1))
    return candidates[chosen]


def split_into_empty(centroids: Tensor, counts: Tensor, generator: torch.Generator) -> Tensor:
    """Give every empty cluster the centroid of a non-empty one, and move the two a little apart.

    Args:
        centroids: [K, D] centroids.
        counts: [K] number of points of each.
        generator: source of randomness, on the CPU.

    Returns:
        [K, D] centroids, the same where no cluster is empty. A cluster of n points is split with probability
        ∝ n − 1; clusters of one point are not split.
    """
    shares = (counts.cpu().double() - 1).clamp_min(0)
    empty = (counts == 0).nonzero()[:, 0].cpu()
    empty = empty[: int((shares > 0).sum())]
    if len(empty) == 0:
        return centroids
    donors = torch.multinomial(shares, len(empty), replacement=False, generator=generator)
    noise = torch.randn(len(empty), centroids.shape[1], generator=generator, dtype=torch.float64)
    empty, donors, noise = (value.to(centroids.device) for value in (empty, donors, noise))
    taken = centroids[donors]
    scale = taken.norm(dim=1, keepdim=True) / centroids.shape[1] ** 0.5
    step = _SPLIT * scale * noise.to(centroids.dtype)
    centroids = centroids.clone()
    centroids[empty], centroids[donors] = taken + step, taken - step
    return centroids


def _sums(points: Tensor, labels: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """Sum and number of the points of each cluster; as matrix products, which are deterministic on every device."""
    sums = torch.zeros(clusters, points.shape[1], dtype=points.dtype, device=points.device)
    names = torch.arange(clusters, device=points.device)[:, None]
    for chunk, label in zip(torch.split(points, _CHUNK), torch.split(labels, _CHUNK), strict=True):
        sums += (names == label).to(points.dtype) @ chunk
    return sums, torch.bincount(labels, minlength=clusters)
