"""Which cluster each region belongs to, and how much that changed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from olivine.host import fetched


class Assignments(nn.Module):
    """The clusters of all regions of the dataset, the same on every process.

    They are saved and restored as one tensor of the state, whose size may change from epoch to epoch. They stay on the
    CPU, out of reach of what broadcasts buffers at every step: a step looks up a few hundred of millions.

    Attributes:
        keys: [R] int64 names of the regions, ascending.
        labels: [R] int64 cluster of each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.keys = self.labels = torch.empty(0, dtype=torch.int64)

    def replace(self, keys: Tensor, labels: Tensor) -> None:
        """Put new assignments in the place of the old ones.

        Args:
            keys: [R] int64 names of the regions, distinct, in any order.
            labels: [R] int64 cluster of each.
        """
        keys, order = keys.cpu().sort()
        self.keys, self.labels = keys, labels.cpu()[order]

    def look_up(self, keys: Tensor) -> Tensor:
        """The clusters of some regions.

        Args:
            keys: [Q] int64 names.

        Returns:
            [Q] int64 cluster of each, on the CPU, -1 for a region that has none.
        """
        if len(self.keys) == 0:
            return torch.full(keys.shape, -1)
        asked = fetched(keys, "the names of regions")
        place = torch.searchsorted(self.keys, asked).clamp_max(len(self.keys) - 1)
        return torch.where(self.keys[place] == asked, self.labels[place], -1)

    def sizes(self, clusters: int) -> Tensor:
        """[clusters] int64 number of regions of each cluster."""
        return torch.bincount(self.labels, minlength=clusters)

    def get_extra_state(self) -> Tensor:
        """[2, R] int64: what a checkpoint holds."""
        return torch.stack([self.keys, self.labels])

    def set_extra_state(self, state: Tensor) -> None:
        """Restore what `get_extra_state` gave."""
        self.keys, self.labels = state.cpu().clone().unbind()


def agreement(first: Tensor, second: Tensor) -> tuple[float, float]:
    """How alike two clusterings of the same things are, whatever their clusters are numbered.

    Args:
        first: [N] int64 cluster of each thing, numbered from 0.
        second: [N] int64 likewise.

    Returns:
        `(nmi, moved)`: the normalised mutual information I / √(H₁ H₂) in 0…1 (Caron et al., arXiv 1807.05520, sec.
        4.1), and the share of things that left the cluster to which most of their old companions went. Without things
        (0, 1); two clusterings of one cluster each are the same (1, 0).
    """
    total = len(first)
    if total == 0:
        return 0.0, 1.0
    pairs, both = torch.unique(first * (int(second.max()) + 1) + second, return_counts=True)
    old = pairs // (int(second.max()) + 1)
    largest = torch.zeros(int(first.max()) + 1, dtype=both.dtype).scatter_reduce(0, old, both, "amax")
    moved = 1 - float(largest.sum()) / total
    entropy, other, joint = (_entropy(counts, total) for counts in (first.bincount(), second.bincount(), both))
    if entropy == 0 or other == 0:
        return float(entropy == other), moved
    return (entropy + other - joint) / (entropy * other) ** 0.5, moved


def _entropy(counts: Tensor, total: int) -> float:
    share = counts.double() / total
    return -float(torch.xlogy(share, share).sum())
