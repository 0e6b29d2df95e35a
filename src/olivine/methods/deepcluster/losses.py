"""The loss of DeepCluster (arXiv 1807.05520)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def balanced_cross_entropy(logits: Tensor, labels: Tensor, sizes: Tensor) -> Tensor:
    """Cross-entropy in which all clusters count alike, however many members they have.

    The published code draws training images evenly over clusters, lest a network that puts everything into a large one
    should do well (sec. 3.3). Here a step holds whatever regions its scans have, so each counts with the weight
    N / (K′ n_c) instead, n_c being the members of its cluster c, N those of all and K′ the number of clusters that have
    any: over an epoch the mean of the loss is the same.

    Args:
        logits: [R, K] scores of each region.
        labels: [R] int64 cluster of each.
        sizes: [K] number of members of each cluster in the whole dataset.

    Returns:
        Scalar, float32 or wider; 0 (with a graph) without regions.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    weight = sizes.sum() / ((sizes > 0).sum() * sizes[labels]).to(dtype)
    losses = functional.cross_entropy(logits.to(dtype), labels, reduction="none")
    return (weight * losses).sum() / max(1, len(labels))
