"""The contrastive loss of DepthContrast (arXiv 2101.02691, equation 1): MoCo's, between whole scenes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def scene_contrast(query: Tensor, key: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Each scene must find its own key among those of earlier scenes.

    `mean_b −log( e^{q_b·k_b/τ} / (e^{q_b·k_b/τ} + Σ_n e^{q_b·n/τ}) )`.

    Args:
        query: [B, D] unit features of the scenes of a batch.
        key: [B, D] unit features of their other views.
        negatives: [K, D] unit features of other scenes; where there are none yet, the loss is 0 (with a graph).
        temperature: τ.

    Returns:
        Scalar, float32 or wider.
    """
    dtype = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        scaled = query.to(dtype) / temperature
        own = (scaled * key.to(dtype)).sum(1, keepdim=True)
        logits = torch.cat([own, scaled @ negatives.to(dtype).T], dim=1)
    return functional.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))
