"""The loss of ScaLR (arXiv 2310.17504): the distance of each point's feature from its pixel's."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from olivine.methods.parts.contrast import zero_with_graph

Distance = Literal["l2", "cosine"]


def distillation_loss(k: Tensor, q: Tensor, distance: Distance = "l2") -> Tensor:
    """Mean distance of matching features.

    `mean_i ‖k_i − q_i‖` (`l2`, as published) or `mean_i 1 − k_i·q_i` (`cosine`), which is half the mean square of the
    former. The gradient of `l2` does not fade as a pair agrees, that of `cosine` does.

    Args:
        k: [P, C] point features, L2-normalised.
        q: [P, C] features of the matching pixels, L2-normalised.
        distance: which one.

    Returns:
        Scalar, float32 or wider also for half-precision features; 0 (with a graph) where there are no pairs.
    """
    if len(k) == 0:
        return zero_with_graph(k, q)
    dtype = torch.promote_types(torch.promote_types(k.dtype, q.dtype), torch.float32)
    k, q = k.to(dtype), q.to(dtype)
    if distance == "cosine":
        return 1 - (k * q).sum(1).mean()
    distances: Tensor = torch.linalg.vector_norm(k - q, dim=1)
    return distances.mean()
